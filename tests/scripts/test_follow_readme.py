"""The script that follows the README refuses output without both pairs, other output, and a slow first pair."""

import runpy

import pytest

from tests.docs.pages import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts/follow_readme.py"))
PRINTED = (
    "kept: pd within budget (pd -3.25; honesty +1)\n  prompt ...\ndropped: pd over budget (pd 2.50; honesty -1)\n"
)


def test_both_pairs_in_time_pass():
    SCRIPT["check_pairs"](PRINTED, 59.0, PRINTED)


@pytest.mark.parametrize(
    "printed, seconds, shown, message",
    [
        (PRINTED, 61.0, None, "61 s, more than 60 s"),
        (PRINTED.partition("dropped")[0], 1.0, None, "a reason was printed of: dropped"),
        (PRINTED.replace("pd within budget", ""), 1.0, None, "a reason was printed of: kept"),
        (PRINTED, 1.0, PRINTED.replace("3.25", "3.5"), "The README shows"),
    ],
)
def test_what_is_missing_is_named(printed, seconds, shown, message):
    with pytest.raises(SCRIPT["Failed"], match=message):
        SCRIPT["check_pairs"](printed, seconds, shown)


def test_the_readme_has_what_the_script_follows():
    assert "source .venv/bin/activate" in SCRIPT["section"]("Set-up")
    assert all(pattern.search(SCRIPT["section"]("Try it")) for pattern in SCRIPT["PAIRS"].values())
