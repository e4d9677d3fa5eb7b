"""Whole evaluations at judges that answer wrongly: what was paid for is kept, and reasons reach the user."""

import json

import pytest

from pd_trl import win_score
from pd_trl.errors import InputError
from pd_trl.evaluation import evaluate_alpaca
from pd_trl.evaluation.judges import ScoreJudge, load_judge
from pd_trl.servers.requests import RequestSettings
from tests.cli.conftest import command  # noqa: F401
from tests.evaluation.alpaca.recorded import made_up
from tests.servers.faults import body, chat, drip
from tests.servers.replay_server import replay

OFFICIAL = "weighted_alpaca_eval_gpt4_turbo"
QUICK = {"retry_wait": 0.002, "max_wait": 0.01, "max_retries": 2, "timeout": 10.0}


@pytest.fixture(autouse=True)
def extra():
    pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")


def judge_of(name, server, **changes):
    setting = "settings" if name.startswith("openai") else "requests"
    return load_judge(name, base_url=server.base_url, **{setting: {**QUICK, **changes}})


def pairs(recorded, judge, folder, **kwargs):
    return win_score(recorded.model, recorded.reference, judge=judge, output_dir=folder, **kwargs)


def spoil(path, rows):
    """Puts other rows in place of the first ones of a log."""
    lines = path.read_text().splitlines()
    for i, row in enumerate(rows, 1):
        lines[i] = json.dumps({"key": json.loads(lines[i])["key"], "row": row})
    path.write_text("\n".join(lines) + "\n")


OLD_ROWS = [
    None, 5, "A", [], {}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": [{"message": {"content": [1]}}]},
    {**chat("A"), "date": 7}, {**chat("A"), "total_tokens": "x"}, {**chat("A\ud800")}, {"decoder": 4, "text": "A"}, {"decoder": "x", "text": []},
    {**chat("A"), "seconds": {}}, {**chat("A"), "model": ["m"]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["openai:m", f"alpaca:{OFFICIAL}"])
def test_answers_of_an_older_version(name, tmp_path, caplog):
    recorded = made_up(30)
    status = (lambda prompt, attempt: body(chat("A"))) if name.startswith("openai") else None
    with replay(recorded.annotations, status) as server:
        first = pairs(recorded, judge_of(name, server), tmp_path)
        asked = server.counts.total()
        spoil(tmp_path / "answers.jsonl", OLD_ROWS)
        # Only the answers are left, and those that are whole are not asked for again.
        (tmp_path / "judgements.jsonl").unlink()
        second = pairs(recorded, judge_of(name, server), tmp_path)
        assert server.counts.total() == asked + len(OLD_ROWS) and second.value == first.value
        assert "16 kept answers have a wrong shape and are asked for again" in caplog.text
        spoil(tmp_path / "judgements.jsonl", ["x", [], {}, 7, -1, True, float("nan"), None])
        assert pairs(recorded, judge_of(name, server), tmp_path).value == first.value
        assert server.counts.total() == asked + len(OLD_ROWS)


@pytest.mark.parametrize("judge", ["openai:m", OFFICIAL])
def test_alpaca_eval_with_answers_of_an_older_version(judge, tmp_path):
    recorded = made_up(30)
    status = (lambda prompt, attempt: body(chat("A"))) if judge.startswith("openai") else None
    with replay(recorded.annotations, status) as server:

        def run():
            return evaluate_alpaca(
                recorded.model, reference_outputs=recorded.reference, judge=judge, base_url=server.base_url, api_key_env="NO_KEY",
                output_dir=tmp_path, requests=RequestSettings(**QUICK), num_resamples=0,
            )  # fmt: skip

        first, asked = run(), server.counts.total()
        spoil(tmp_path / "judgements.jsonl", OLD_ROWS)
        assert run().win_rate == first.win_rate and server.counts.total() == asked + len(OLD_ROWS)
        assert run().settings["asked_again"] == len(OLD_ROWS) and server.counts.total() == asked + len(OLD_ROWS)


def test_a_local_judges_log(tmp_path):
    """Preferences in a log that are none are made again."""

    class Length(ScoreJudge):
        def score(self, pairs):
            return [float(len(output)) for _, output in pairs]

    recorded = made_up(12)

    def run():
        return evaluate_alpaca(
            recorded.model, reference_outputs=recorded.reference, judge=Length("length", "prefers length", {}), output_dir=tmp_path,
            num_resamples=0, length_control=False,
        )  # fmt: skip

    first = run()
    spoil(tmp_path / "judgements.jsonl", ["x", [], {}, 7, -1, True, float("nan"), None])
    assert run().win_rate == first.win_rate


@pytest.mark.parametrize("evaluation", ["alpaca", "pairwise"])
def test_a_local_judge_that_is_stopped_keeps_what_it_judged(tmp_path, monkeypatch, evaluation):
    """A reward model of billions of weights reads for an hour: a second run reads only what is left."""
    monkeypatch.setattr("pd_trl.evaluation.judges.base.COMPARISONS_AT_ONCE", 4)
    recorded = made_up(20)
    read: list[tuple[str, str]] = []

    class Stops(ScoreJudge):
        limit = 22

        def score(self, pairs):
            if len(read) + len(pairs) > self.limit:
                raise KeyboardInterrupt
            read.extend(pairs)
            return [float(len(output)) for _, output in pairs]

    def run(limit, output_dir=tmp_path):
        read.clear()
        judge = Stops("length", "prefers length", {"kind": "length"})
        judge.limit = limit
        if evaluation == "pairwise":
            return pairs(recorded, judge, output_dir).value
        return evaluate_alpaca(
            recorded.model, reference_outputs=recorded.reference, judge=judge, output_dir=output_dir, num_resamples=0, length_control=False,
        ).win_rate  # fmt: skip

    value, everything = run(100, tmp_path / "whole"), set(read)
    with pytest.raises(KeyboardInterrupt):
        run(22)
    first = set(read)
    assert run(100) == value
    # Each question of pairwise comes in both orders, of which the second costs nothing.
    assert first and not first & set(read) and first | set(read) == everything
    assert run(0) == value and not read


@pytest.mark.parametrize("name", ["openai:m", f"alpaca:{OFFICIAL}"])
def test_a_judge_that_was_mended(name, tmp_path):
    """Its empty answers were kept and counted; each is asked for again, six times in all."""
    recorded = made_up(5)
    broken = body(chat(None))
    status = {"now": lambda prompt, attempt: broken}
    with replay(recorded.annotations, lambda prompt, attempt: status["now"](prompt, attempt)) as server:
        for total, again in ((3, ""), (6, ""), (6, ", and that again and again .`max_askings`.")):
            with pytest.raises(InputError, match=rf"Most often: an answer without text{again} \(10\)"):
                pairs(recorded, judge_of(name, server), tmp_path)
            assert set(server.counts.values()) == {total}
        good = (lambda prompt, attempt: body(chat("A"))) if name.startswith("openai") else lambda prompt, attempt: 200
        status["now"] = good
        with pytest.raises(InputError, match="an answer without text"):
            pairs(recorded, judge_of(name, server), tmp_path)
        assert pairs(recorded, judge_of(name, server, max_askings=7), tmp_path).sets[0].counts["unparsed"] == 0
        assert set(server.counts.values()) == {7}
    assert (tmp_path / "answers.jsonl").read_text().count("\n") == 1 + 10 * 7


def test_a_null_content_is_asked_for_again_at_once(tmp_path):
    recorded = made_up(6)
    with replay([], lambda prompt, attempt: body(chat(None if attempt < 3 else "A"))) as server:
        assert pairs(recorded, judge_of("openai:m", server), tmp_path).sets[0].counts["unparsed"] == 0
        assert set(server.counts.values()) == {3}


@pytest.mark.parametrize(
    "fault, reason",
    [("html", "HTML instead of JSON"), ("drip", "time-out: no whole answer within"), ("large", "answer larger than")],
)
@pytest.mark.parametrize("judge", ["openai:m", f"alpaca:{OFFICIAL}"])
def test_reasons_reach_the_user(command, tmp_path, judge, fault, reason):  # noqa: F811
    answer = {
        "html": body(b"<html>"),
        "drip": drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        "large": body(b"[" + b"1," * 100_000),
    }[fault]
    recorded = made_up(3)
    for name, rows in (("model", recorded.model), ("reference", recorded.reference)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    with replay([], lambda prompt, attempt: answer) as server:
        limits = {**QUICK, "max_retries": 0, "timeout": 0.3 if fault == "drip" else 10.0, "max_answer_bytes": 100_000}
        settings = {"base_url": server.base_url, "settings" if judge.startswith("openai") else "requests": limits}
        result = command(
            "evaluate", "pairwise", "--outputs", tmp_path / "model.json", "--reference_outputs", tmp_path / "reference.json", "--judge", judge,
            "--judge_kwargs", json.dumps(settings), "--output_dir", tmp_path / "out",
        )  # fmt: skip
    assert result.code == 2 and reason in result.err and "Traceback" not in result.err


def test_an_annotator_at_the_completion_endpoint(tmp_path):
    """Wrong shapes are failed requests there as well, and the texts that follow are read."""
    import yaml

    folder = tmp_path / "mine"
    folder.mkdir()
    config = {
        "prompt_template": "prompt.txt",
        "fn_completions": "openai_completions",
        "completions_kwargs": {"model_name": "own", "max_tokens": 8},
        "fn_completion_parser": "regex_parser",
        "completion_parser_kwargs": {"outputs_to_match": {1: "first", 2: "second"}},
    }
    (folder / "configs.yaml").write_text(yaml.safe_dump({"mine": config}))
    (folder / "prompt.txt").write_text("Which? {instruction} | {output_1} | {output_2}")
    wrong = [[{}], [{"text": ["first"]}], [{"text": "x", "logprobs": 5}], [{"text": None}]]

    def status(prompt, attempt):
        return body(chat(choices=wrong[attempt - 1] if attempt <= len(wrong) else [{"text": "second", "index": 0}]))

    # Six questions: 24 useless answers in a row, below the 32 at which nothing else is sent.
    recorded = made_up(3)
    with replay([], status) as server:
        judge = judge_of(f"alpaca:{folder}", server, max_retries=3)
        result = pairs(recorded, judge, tmp_path / "out")
        assert server.paths == {"/v1/completions"} and set(server.counts.values()) == {5}
    assert result.sets[0].counts["unparsed"] == 0 and result.sets[0].first_preferred == 0.0
