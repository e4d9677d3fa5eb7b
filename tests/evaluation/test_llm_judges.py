"""Win scores by judges behind an OpenAI-compatible server."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pd_trl.runs.results import load_results
from tests.cli.conftest import command  # noqa: F401
from tests.evaluation.alpaca.recorded import leaderboard, made_up
from tests.processes import ROOT
from tests.servers.replay_server import replay

pytest.importorskip("openai", reason="the extra `alpaca` is not installed")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_CLIENT_CONFIG_PATH", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def flags_of(tmp_path, recorded, judge, server, **kwargs):
    for name, rows in (("model", recorded.model), ("reference", recorded.reference)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    settings = json.dumps({"base_url": server.base_url, **kwargs})
    flags = [
        "evaluate",
        "pairwise",
        "--outputs",
        tmp_path / "model.json",
        "--reference_outputs",
        tmp_path / "reference.json",
    ]
    return [str(f) for f in (*flags, "--judge", judge, "--judge_kwargs", settings, "--output_dir", tmp_path / "out")]


def test_an_annotator_of_alpaca_eval_gives_what_it_recorded(command, shared_data, tmp_path):  # noqa: F811
    pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")
    recorded = leaderboard(shared_data, "claude-2.1").subset(40)
    with replay(recorded.annotations) as server:
        result = command(*flags_of(tmp_path, recorded.shuffled(1), "alpaca:weighted_alpaca_eval_gpt4_turbo", server))
    assert result.code == 0, result.err
    signs = np.sign([row["preference"] - 1.5 for row in recorded.annotations])
    (record,) = load_results(tmp_path / "out")
    assert record.value == pytest.approx(1 + signs.mean()) and record.num_samples == 40
    assert record.settings["win_rate"] == pytest.approx(recorded.win_rate / 100, abs=1e-6)
    assert record.judge and max(server.counts.values()) == 1 and len(server.counts) == 80


ANSWERS = re.compile(r"\nAnswer A:\n(?P<a>.*)\n\nAnswer B:\n(?P<b>.*)\n\nReply with", re.DOTALL)


def longer(prompt, attempt):
    """A judge that prefers the longer answer, and cannot decide about short ones."""
    match = ANSWERS.search(prompt)
    a, b = len(match["a"]), len(match["b"])
    text = "T" if a == b else "A" if a > b else "B"
    return {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": text}}


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    "judge", ["openai:some-model", pytest.param("alpaca:weighted_alpaca_eval_gpt4_turbo", marks=pytest.mark.slow)]
)
def test_a_killed_judge_is_not_paid_twice(command, tmp_path, judge):  # noqa: F811
    pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")
    recorded = made_up(60)
    with replay(*([], longer) if judge.startswith("openai") else (recorded.annotations,)) as server:
        server.hold_after = 30
        flags = flags_of(tmp_path, recorded, judge, server)
        process = subprocess.Popen([sys.executable, "-m", "pd_trl", *flags], cwd=ROOT, stderr=subprocess.DEVNULL)
        assert server.reached.wait(300)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = (tmp_path / "out" / "baseline" / "answers.jsonl").read_bytes().count(b"\n") - 1
        assert kept >= 20
        server.hold_after = None
        # A handler may still be reading what the dead process had sent.
        time.sleep(0.5)
        asked = len(server.bodies)
        result = command(*flags)
        assert result.code == 0, result.err
        asked_again = len(server.bodies) - asked
    # One pair has equal outputs and is never asked about.
    assert len(server.counts) == 2 * 59 and asked_again == 2 * 59 - kept
    (record,) = load_results(tmp_path / "out")
    if judge.startswith("alpaca"):
        assert record.value == pytest.approx(
            1 + np.mean(np.sign([a["preference"] - 1.5 for a in recorded.annotations]))
        )
        return
    lengths = [len(a["output"]) - len(b["output"]) for a, b in zip(recorded.model, recorded.reference, strict=True)]
    assert record.value == pytest.approx(1 + np.sign(lengths).mean())
    assert record.judge == "some-model" and record.settings["agreement"] == 1.0


def test_answers_that_are_paid_for_survive_overwrite(command, tmp_path):  # noqa: F811
    recorded = made_up(12)
    with replay([], longer) as server:
        flags = flags_of(tmp_path, recorded, "openai:some-model", server)
        assert command(*flags).code == 0
        asked = len(server.bodies)
        command(*flags, "--seed", 7).refused("`seed`", "--overwrite")
        outcome = command(*flags, "--seed", 7, "--overwrite")
        assert outcome.code == 0, outcome.err
        assert len(server.bodies) == asked > 0
