"""The README is short, true to its commands, and its picture is the real selection."""

import re
import runpy

from tests.docs.pages import ROOT, prose

README = ROOT / "README.md"


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
    words = re.findall(r"[^\W_][\w'’.,-]*", prose(README))
    assert 200 < len(words) <= 600


def test_readme_names_the_commands_of_set_up():
    text = README.read_text(encoding="utf-8")
    for command in ("bash scripts/quickstart.sh", "bash scripts/test.sh"):
        assert command in text and (ROOT / command.split()[1]).is_file()


def test_picture_is_that_of_the_selection():
    picture = runpy.run_path(str(ROOT / "scripts/three_pairs.py"))["picture"]
    assert picture() == (ROOT / "docs/three-pairs.svg").read_text(encoding="utf-8")
