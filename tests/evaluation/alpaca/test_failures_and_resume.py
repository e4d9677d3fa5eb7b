import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pd_trl.errors import InputError
from pd_trl.servers.requests import RequestSettings
from tests.evaluation.alpaca.conftest import OFFICIAL
from tests.evaluation.alpaca.recorded import made_up
from tests.processes import ROOT
from tests.servers.replay_server import failing, replay

PATIENT = RequestSettings(max_concurrency=16, max_retries=12, retry_wait=0.02, timeout=0.7)


def test_failing_answers_change_nothing(evaluate):
    recorded = made_up(80)
    with replay(recorded.annotations, failing(0.3)) as server:
        result = evaluate(recorded, server, requests=PATIENT)
        failed = {kind: server.statuses[kind] for kind in (429, 500, "timeout")}
        assert min(failed.values()) > 0 and sum(failed.values()) > 0.2 * len(recorded.model)
    assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)
    assert not result.problems


@pytest.mark.slow
def test_failing_answers_of_the_leaderboard(claude, evaluate):
    with replay(claude.annotations, failing(0.3)) as server:
        result = evaluate(claude, server, requests=PATIENT)
        assert sum(server.statuses[kind] for kind in (429, 500, "timeout")) > 200
    assert result.win_rate == pytest.approx(claude.win_rate, abs=1e-6)
    assert result.length_controlled_win_rate == pytest.approx(25.2519, abs=0.2)
    assert result.num_judged == 805


def killed_at(count: int, paths, folder, server) -> None:
    """Runs the command line in a process of its own and kills it once `count` answers were sent and written down."""
    server.hold_after = count
    arguments = ["--outputs", paths["model"], "--reference_outputs", paths["reference"], "--judge", OFFICIAL]
    arguments += ["--base_url", server.base_url, "--output_dir", folder, "--num_resamples", "0"]
    if paths.get("difficulty_file"):
        arguments += ["--difficulty_file", paths["difficulty_file"]]
    command = [sys.executable, "-m", "pd_trl", "evaluate", "alpaca", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert server.reached.wait(240), process.communicate(timeout=5)
        deadline = time.monotonic() + 20
        log = folder / "judgements.jsonl"
        # An answer that was sent is in the log a moment later.
        while len(log.read_bytes().splitlines()) - 1 < sum(server.answered.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    finally:
        process.kill()
        process.communicate()
    server.hold_after = None


def check_resume(recorded, files, evaluate, tmp_path, count: int) -> None:
    paths = files(recorded)
    if recorded.difficulty_file:
        paths["difficulty_file"] = recorded.difficulty_file
    folder = tmp_path / "alpaca"
    with replay(recorded.annotations) as server:
        killed_at(count, paths, folder, server)
        paid = set(server.answered)
        assert count <= len(paid) < len(recorded.model) - 10
        assert not (folder / "eval_results.json").exists()
        before = server.counts.copy()
        # A line that the kill cut off.
        with (folder / "judgements.jsonl").open("a") as file:
            file.write('{"key": "cut o')
        result = evaluate(recorded, server)
        assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)
        assert all(server.counts[prompt] == before[prompt] == 1 for prompt in paid)
        assert sum(server.answered.values()) == len(server.answered)
        total = sum(server.counts.values())
        evaluate(recorded, server)
        assert sum(server.counts.values()) == total


@pytest.mark.slow
def test_killed_at_half(evaluate, files, tmp_path):
    check_resume(made_up(60), files, evaluate, tmp_path, 30)


@pytest.mark.slow
def test_killed_at_half_of_the_leaderboard(claude, evaluate, files, tmp_path):
    check_resume(claude, files, evaluate, tmp_path, 402)


def test_server_that_refuses_everything_is_asked_little(evaluate):
    """A wrong key or model must not be tried 805 times, and the message says what to do."""
    recorded = made_up(60)
    for status, words in ((401, "Check the key"), (404, "Check model and base_url"), (400, "in a row failed")):
        with replay(recorded.annotations, lambda prompt, attempt, s=status: s) as server:
            with pytest.raises(InputError, match=words):
                evaluate(recorded, server, folder=str(status))
            assert sum(server.counts.values()) <= 24


def test_server_that_is_down(evaluate):
    recorded = made_up(20)
    settings = RequestSettings(max_retries=1, retry_wait=0.01, timeout=2)
    with pytest.raises(InputError, match="no connection to http://127.0.0.1:9/v1"):
        evaluate(recorded, judge=OFFICIAL, base_url="http://127.0.0.1:9/v1", requests=settings)


def test_some_answers_never_come(evaluate):
    """A few lost ones are counted; over the share the run is refused, and the same command asks for them again."""
    recorded = made_up(60)
    lost = {row["instruction"] for row in recorded.model[10:14]}

    def status(prompt, attempt):
        return 400 if any(text in prompt for text in lost) else 200

    with replay(recorded.annotations, status) as server:
        with pytest.raises(InputError, match=r"4 unanswered\. Most often: status 400.*max_problem_share"):
            evaluate(recorded, server)
        result = evaluate(recorded, server, folder="tolerant", max_problem_share=0.1)
        assert result.problems == {"unanswered": 4} and result.num_judged == 56
        server.status = lambda prompt, attempt: 200
        asked = sum(server.counts.values())
        assert evaluate(recorded, server).win_rate == pytest.approx(recorded.win_rate, abs=1e-6)
        assert sum(server.counts.values()) == asked + 4


def choice(text: str, top: list) -> dict:
    content = [{"token": text, "bytes": None, "logprob": 0.0, "top_logprobs": top}]
    message = {"role": "assistant", "content": text}
    return {"finish_reason": "length", "index": 0, "logprobs": {"content": content}, "message": message}


def test_answers_that_cannot_be_read(evaluate, tmp_path):
    recorded = made_up(60)
    garbled = {row["instruction"] for row in recorded.model[20:23]}
    nonsense = choice("The", [{"token": "The", "bytes": None, "logprob": -0.1}])

    def status(prompt, attempt):
        return nonsense if any(text in prompt for text in garbled) else 200

    with replay(recorded.annotations, status) as server:
        with pytest.raises(InputError, match="Of 60 judgements of weighted_alpaca_eval_gpt4_turbo: 3 unparsable"):
            evaluate(recorded, server)
        result = evaluate(recorded, server, max_problem_share=0.06)
        assert result.problems == {"unparsable": 3} and result.num_judged == 57
        kept = [a for a in recorded.annotations if a["instruction"] not in garbled]
        expected = 100 * sum(a["preference"] - 1 for a in kept) / len(kept)
        assert result.win_rate == pytest.approx(expected, abs=1e-6)
        # Three answers to each of these questions in each of two runs, and then no more.
        assert sorted(set(server.counts.values())) == [1, 6] and sum(server.counts.values()) == 56 + 3 * 6
        evaluate(recorded, server, max_problem_share=0.06)
        assert sum(server.counts.values()) == 56 + 3 * 6
    saved = json.loads((tmp_path / "alpaca" / "annotations.json").read_text())
    assert sum(row["preference"] is None for row in saved) == 3
    with replay(recorded.annotations, lambda prompt, attempt: nonsense) as server:
        with pytest.raises(InputError, match="32 answers in a row .*no preference .'The'.*'m' or 'M' with log-prob"):
            evaluate(recorded, server, folder="nonsense", max_problem_share=1.0)
        assert sum(server.counts.values()) <= 32 + 8
    with replay(recorded.annotations, lambda prompt, attempt: nonsense) as server:
        with pytest.raises(InputError, match="None of the 6 answers .* can be read .*'m' or 'M' with log-prob"):
            evaluate(made_up(6), server, folder="few", max_problem_share=1.0)


def test_no_logprobs(evaluate):
    """Many servers answer without log-probabilities, which the official annotator cannot do without."""
    recorded = made_up(12)
    plain = {"finish_reason": "stop", "index": 0, "logprobs": None, "message": {"role": "assistant", "content": "M"}}
    with replay(recorded.annotations, lambda prompt, attempt: plain) as server:
        with pytest.raises(InputError, match="returns log-probabilities"):
            evaluate(recorded, server)


def test_retry_after_is_honoured(evaluate):
    recorded = made_up(8)
    with replay(recorded.annotations, lambda prompt, attempt: 429 if attempt == 1 else 200) as server:
        # The server says 0.05 s; ours would be a minute.
        settings = RequestSettings(max_concurrency=2, retry_wait=60.0)
        start = time.monotonic()
        evaluate(recorded, server, requests=settings)
        assert time.monotonic() - start < 20
        assert server.statuses[429] == 7
