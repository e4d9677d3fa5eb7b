"""What the site makes of docstrings and parsers."""

import sys

import pytest

import pd_trl
from pd_trl.cli.main import COMMANDS
from pd_trl.pipeline.registry import STAGES
from tests.docs.pages import ROOT

pytest.importorskip("sphinx")


@pytest.fixture(scope="module", autouse=True)
def extensions():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    yield
    sys.path.remove(str(ROOT / "docs" / "_ext"))


def test_docstrings_in_trl_style_become_references_and_code():
    from docstrings import as_restructured_text

    given = ["See [`PDFilter`] and [`~trl.DPOTrainer`], `a_b`, fit_.", "", "Args:", "    a, b,", "    c:", "        As `x`.", "", "```python", ">>> 1", "```"]  # fmt: skip
    assert as_restructured_text(given) == [
        "See :py:obj:`PDFilter <pd_trl.PDFilter>` and ``DPOTrainer``, ``a_b``, fit\\_.", "", "Args:", "    a, b, c:", "        As ``x``.",
        "", "", ".. code-block:: python", "", "    >>> 1", "",
    ]  # fmt: skip


def test_every_public_name_is_on_the_page_of_the_api():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = set(pd_trl.__all__) - {"__version__", "metrics"}
    assert [name for name in sorted(names) if f":: pd_trl.{name}\n" not in text] == []


def test_page_of_commands_has_each_command_and_ours_first():
    from command_line import commands_page

    page = commands_page()
    kinds = {name for name, stage in STAGES.items() if stage.command}
    assert [name for name in {*COMMANDS, *kinds} if f"# pd-trl {name}\n" not in page] == []
    dpo = page.split("# pd-trl dpo\n")[1].split("\n###")[0]
    ours, theirs = dpo.split("<details>")
    assert "| `--pd_budget` |" in ours and "| `--learning_rate` |" in theirs and "`--no_" not in dpo
