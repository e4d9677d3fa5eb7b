"""Arguments of stages that take several values."""

import pytest

from pd_trl.pipeline.stages.arguments import listed


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("1,2", ["1", "2"]), ("1, 2,", ["1", "2"]), (["1", "2"], ["1", "2"]), (["1,2", "3"], ["1", "2", "3"]), ([0.1, 0.3], ["0.1", "0.3"]),
        ("", []),
    ],
)  # fmt: skip
def test_spaces_and_commas_part_the_values(given, found):
    assert listed(given) == found
