"""The programs of docs/examples run as they stand, on tiny models and local servers."""

import json
import re
import runpy
import sys

import pytest

from pd_trl.method.ranking import SELECTORS
from tests.data.test_plain import plain
from tests.docs.pages import ROOT
from tests.publishing.conftest import hubs, plain_hub  # noqa: F401
from tests.rating.scripted import rating, write_pairs
from tests.servers.replay_server import replay

EXAMPLES = ROOT / "docs" / "examples"
RUN_HERE = {
    "ratings_only", "custom_selector", "plain_pairs", "judge_labels", "train_rewards", "drop_in_trainer", "publish_and_reselect",
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs an example in an empty folder and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    before = dict(SELECTORS)

    def run_example(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield run_example
    SELECTORS.clear()
    SELECTORS.update(before)


def test_every_example_is_run_and_shown():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUN_HERE
    shown = re.findall(r"examples/(\w+)\.py", (ROOT / "docs/examples.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(RUN_HERE)


def test_ratings_only(run, tmp_path):
    assert "45 pairs are in kept.jsonl" in run("ratings_only")
    rows = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 45 and all(set(row) == {"prompt", "chosen", "rejected"} for row in rows)


def test_custom_selector(run):
    longer = [int(share) for share in re.findall(r"is (-?\d+) % longer", run("custom_selector"))]
    assert len(longer) == 2 and longer[1] < longer[0]


def test_plain_pairs(run, tmp_path, tiny_models):
    plain(12).to_json(tmp_path / "pairs.jsonl")
    printed = run("plain_pairs", "pairs.jsonl", f"helpful={tiny_models['reward']}", f"safe={tiny_models['reward']}")
    assert printed.startswith("kept: pd within budget") and "\ndropped: pd over budget" in printed


@pytest.mark.slow
def test_judge_labels(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write_pairs(tmp_path / "pairs.jsonl")
    with replay([], rating) as server:
        assert "8 of 24 pairs kept" in run("judge_labels", "pairs.jsonl", "m", server.base_url)


@pytest.mark.slow
def test_train_rewards(run, tiny_models):
    assert "pairs kept (30." in run("train_rewards", "sample", tiny_models["causal"])


@pytest.mark.slow
def test_drop_in_trainer(run, tmp_path, tiny_models):
    assert "'kept': 45" in run("drop_in_trainer", tiny_models["causal"])
    assert "**45 of 150** preference pairs" in (tmp_path / "policy" / "README.md").read_text(encoding="utf-8")


def publish_and_reselect(repo_id: str) -> dict[str, str]:
    """Runs the example in a process of its own, which talks to the local Hub."""
    import contextlib
    import io

    printed = io.StringIO()
    sys.argv = ["publish_and_reselect.py", repo_id]
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(EXAMPLES / "publish_and_reselect.py"), run_name="__main__")
    return {"printed": printed.getvalue()}


@pytest.mark.slow
def test_publish_and_reselect(plain_hub):  # noqa: F811
    assert "15 of 150 pairs at a budget of 0.1" in plain_hub.run(publish_and_reselect, "me/sample-pd")["printed"]
