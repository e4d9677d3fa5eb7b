"""The notebooks run as they stand, print what they hold, and stay small."""

import pytest

from scripts import notebooks

PATHS = sorted(notebooks.FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_prints_what_it_holds(path, tmp_path):
    notebook = notebooks.read(path)
    assert notebooks.run(notebook, tmp_path) == notebooks.held(notebook)
    assert any(notebooks.held(notebook)) and path.stat().st_size < 20_000


def test_there_are_three():
    assert [path.stem for path in PATHS] == ["1_first_selection", "2_plain_pairs", "3_dpo"]
