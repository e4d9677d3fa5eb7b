"""What a run shows on a terminal, and that it stays line by line elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest
import yaml

from pd_trl.runs.progress import Bar, part_of, watched
from tests.cli.conftest import command  # noqa: F401


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    sections = {"prepare": {"dataset_name": "sample"}, "select": {"source": "ratings"}}
    path.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "run"), **sections}))
    return path


def on_a_terminal(*arguments):
    """Exit code and output of the command line on a pseudo terminal of 100 columns."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pd_trl", *map(str, arguments)], stdout=secondary, stderr=secondary, stdin=secondary,
        env=environment, close_fds=True,
    )  # fmt: skip
    os.close(secondary)
    parts = []
    while True:
        try:
            part = os.read(primary, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(primary)
    text = b"".join(parts).decode(errors="replace").replace("\r\n", "\n")
    return process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)


def test_a_run_on_a_terminal_has_a_line_and_a_short_table_a_stage(recipe):
    code, text = on_a_terminal("run", "--config", recipe)
    assert code == 0, text
    assert re.search(r"✓ prepare  \d+ s  pairs 150, kept 150", text), text
    assert re.search(r"✓ select  \d+ s  total 150, kept 45, dropped 105\n    Selection by pd: 45 of 150", text), text
    assert re.search(r"    … \d+ more lines: .*/run/select", text), text
    assert "--- select" not in text and "INFO" not in text
    table = text[text.index("✓ select") : text.index("Finished in")]
    assert len(table.splitlines()) < 16
    code, again = on_a_terminal("run", "--config", recipe)
    assert code == 0 and "✓ select  already done" in again


def test_elsewhere_a_run_is_plain(recipe, command):  # noqa: F811
    outcome = command("run", "--config", recipe)
    assert outcome.code == 0 and "--- select" in outcome.err
    assert "[select] done: " in outcome.out and "kept by votes" in outcome.out
    assert "\x1b" not in outcome.out + outcome.err and "✓" not in outcome.out


class Watcher:
    def __init__(self):
        self.told = []

    def begin(self, bar):
        self.told.append(("begin", bar.title, bar.total, bar.n))

    def move(self, bar):
        self.told.append(("move", bar.title, bar.total, bar.n))

    def end(self, bar):
        self.told.append(("end", bar.title, bar.total, bar.n))


def test_a_watched_bar_draws_nothing_and_tells_all(capfd):
    watcher = Watcher()
    with watched(watcher), part_of("honesty (1 of 2)"):
        for _ in Bar(range(2), desc="training"):
            pass
        with Bar(total=9, initial=4, desc="scoring", disable=None) as bar:
            bar.update(3)
        bar.close()
    title = "honesty (1 of 2) training"
    assert watcher.told[:4] == [("begin", title, 2, 0), ("move", title, 2, 1), ("move", title, 2, 2), ("end", title, 2, 2)]  # fmt: skip
    assert [(name, n) for name, _, _, n in watcher.told[4:]] == [("begin", 4), ("move", 7), ("end", 7)]
    assert capfd.readouterr() == ("", "")


def test_the_old_word_for_outputs_works_with_a_note(command, tmp_path):  # noqa: F811
    new = command("evaluate", "alpaca", "--outputs", tmp_path / "x.json", "--judge", "openai:m", "--dry_run")
    for flag in ("--model_outputs", "--model-outputs"):
        old = command("evaluate", "alpaca", flag, tmp_path / "x.json", "--judge", "openai:m", "--dry_run")
        assert "`model_outputs` is now called `outputs`" in old.err
        assert (old.code, old.err.splitlines()[-1]) == (new.code, new.err.splitlines()[-1])
    config = tmp_path / "c.yaml"
    config.write_text("model_outputs: a.json\noutputs: b.json\n")
    command("evaluate", "alpaca", "--config", config).refused("both are given")
