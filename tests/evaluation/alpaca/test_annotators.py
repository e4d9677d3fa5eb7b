import json
import re
import threading

import pytest
import yaml

from pd_trl.errors import InputError
from pd_trl.evaluation import plan_alpaca
from pd_trl.evaluation.alpaca.annotator import Annotator, JudgeSettings
from pd_trl.evaluation.alpaca.judging import is_switched
from pd_trl.evaluation.judges.base import ScoreJudge
from tests.evaluation.alpaca.conftest import OFFICIAL
from tests.evaluation.alpaca.recorded import made_up
from tests.servers.replay_server import replay


class LengthJudge(ScoreJudge):
    """Prefers the longer output."""

    def __init__(self):
        super().__init__("length", "longer is better", {"kind": "length"})
        self.num_scored = 0

    def score(self, pairs):
        self.num_scored += len(pairs)
        return [len(output) for _, output in pairs]


def test_offline_judge(evaluate, tmp_path):
    recorded = made_up(30)
    judge = LengthJudge()
    result = evaluate(recorded, judge=judge)
    pairs = zip(recorded.model, recorded.reference, strict=True)
    differences = [len(a["output"]) - len(b["output"]) for a, b in pairs]
    expected = [1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences]
    assert result.win_rate == pytest.approx(100 * sum(expected) / len(expected))
    assert result.records()[0].judge == "length (offline judge)"
    assert "offline" in result.not_comparable[0] and "Not comparable to the leaderboard" in str(result)
    scored = judge.num_scored
    assert evaluate(recorded, judge=LengthJudge()).win_rate == result.win_rate
    assert judge.num_scored == scored


def test_a_chat_model_is_no_offline_judge_and_is_paid_once(evaluate, files, tmp_path):
    recorded = made_up(40)
    lost = {row["instruction"] for row in recorded.model[:3]}
    unclear = {row["instruction"] for row in recorded.model[10:12]}

    def status(prompt, attempt):
        if any(instruction in prompt for instruction in lost):
            return 400
        text = "Both." if any(instruction in prompt for instruction in unclear) else "A"
        return {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": text}}

    with replay([], status) as server:
        settings = {"judge": "openai:my-judge", "base_url": server.base_url, "max_problem_share": 0.1}
        result = evaluate(recorded, **settings)
        assert result.judge_kind == "chat model" and result.records()[0].judge == "my-judge (chat model)"
        assert "a chat model with a prompt of pd_trl" in result.not_comparable[0]
        assert {k: result.problems[k] for k in ("unparsable", "unanswered")} == {"unparsable": 2, "unanswered": 3}
        shown = result.settings
        assert shown["endpoints"] == [server.base_url] and shown["served_as"] == ["my-judge"]
        assert shown["judged_from"] <= shown["judged_to"] and shown["tokens"] > 0 and shown["requests"] == 40
        before = sum(server.answered.values())
        paths = files(recorded)
        plan = plan_alpaca(
            paths["model"],
            reference_outputs=paths["reference"],
            judge="openai:my-judge",
            output_dir=tmp_path / "alpaca",
        )
        assert (plan.num_requests, plan.num_known, plan.cost) == (40, 35, None) and plan.num_tokens > 0
        again = evaluate(recorded, **settings)
        # What never came is asked for again, and so is what could not be read, three times in a run and six in all.
        assert sum(server.answered.values()) == before + 2 * 3 and again.settings["asked_again"] == 2 * 5
        evaluate(recorded, **settings)
        assert sum(server.answered.values()) == before + 2 * 3
    assert again.win_rate == result.win_rate


def test_local_reward_model(evaluate, tiny_models):
    recorded = made_up(6)
    result = evaluate(recorded, judge=f"reward:{tiny_models['reward']}")
    assert result.judge_kind == "offline judge" and "reward model" in result.judge
    assert 0 <= result.win_rate <= 100
    with pytest.raises(InputError, match="does not take base_url"):
        evaluate(recorded, judge=f"reward:{tiny_models['reward']}", base_url="http://127.0.0.1:9/v1")


class Odd:
    """No text, and nothing that a file holds."""


@pytest.mark.parametrize(
    "result, words",
    [
        (None, "TypeError"),
        ({"completions": []}, "IndexError"),
        ({"completions": 5}, "TypeError"),
        ({"completions": [5]}, "it.text is int instead of text"),
        ({"completions": [["m"]]}, "it.text is list instead of text"),
        ({"completions": ["m\ud800"]}, "half a surrogate pair"),
        ({"completions": ["m"], "completions_all": [Odd()]}, "cannot be written down .TypeError"),
        ({}, "an answer without text"),
        ({"completions": [None], "price_per_example": [Odd]}, "cannot be written down|without text"),
        (ValueError("no \x1b[2J quota"), "ValueError: no .\\[2J quota"),
    ],
)  # fmt: skip
def test_other_decoders_that_answer_wrongly(result, words, monkeypatch, tmp_path):
    """Clients of other providers give what they like: a failed request, whatever it is."""
    from pd_trl.evaluation.alpaca import completions
    from pd_trl.runs.row_log import RowLog
    from pd_trl.servers.requests import RequestSettings

    def decoder(**arguments):
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(completions, "_decoder", lambda name: decoder)
    settings = RequestSettings(max_retries=1, retry_wait=0.001, max_askings=1)
    folder = own_config(tmp_path / "other", fn_completions="huggingface_api_completions")
    annotator = Annotator(JudgeSettings(str(folder), requests=settings))
    rows = [{"instruction": "do", "output_1": "one", "output_2": "two"}]
    for _ in range(2):
        with RowLog(tmp_path / "log.jsonl", {}) as log:
            _, failures = annotator.answers(annotator.requests(rows), log)
            (reason,) = failures.values()
            assert re.search(words, reason), reason


def test_another_providers_client_that_hangs(monkeypatch):
    from pd_trl.evaluation.alpaca import completions
    from pd_trl.servers.requests import RequestFailed

    done = threading.Event()
    monkeypatch.setattr(completions, "_decoder", lambda name: lambda **arguments: done.wait(60))
    request = {"decoder": "cohere_completions", "prompt": "q", "arguments": {}}
    with pytest.raises(RequestFailed, match="cohere_completions: no answer within 0.05 s"):
        completions.send_to_decoder(request, 0.05)
    done.set()


def test_another_model_is_another_judge(evaluate):
    recorded = made_up(12)
    with replay(recorded.annotations) as server:
        result = evaluate(
            recorded, server, judge_model="my-judge-instruct", judge_arguments={"seed": 3, "temperature": None}
        )
        body = server.bodies[0]
    # A model's name with "instruct" does not make it a legacy one.
    assert body["model"] == "my-judge-instruct" and "messages" in body
    assert body["seed"] == 3 and "temperature" not in body
    assert result.judge == f"{OFFICIAL}@my-judge-instruct"
    assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)


def test_arguments_that_newer_models_refuse(evaluate):
    recorded = made_up(6)
    with replay(recorded.annotations) as server:
        evaluate(recorded, server, judge_arguments={"max_tokens": None, "max_completion_tokens": 16})
        assert "max_tokens" not in server.bodies[0] and server.bodies[0]["max_completion_tokens"] == 16


def own_config(folder, **changes):
    config = {
        "prompt_template": "prompt.txt",
        "fn_completions": "openai_completions",
        "completions_kwargs": {"model_name": "own", "max_tokens": 8, "temperature": 0},
        "fn_completion_parser": "regex_parser",
        "completion_parser_kwargs": {"outputs_to_match": {1: "first", 2: "second"}},
        **changes,
    }
    folder.mkdir()
    (folder / "configs.yaml").write_text(yaml.safe_dump({folder.name: config}))
    prompt = "<|im_start|>user\nWhich? {instruction} | {output_1} | {output_2}\n<|im_end|>"
    (folder / "prompt.txt").write_text(prompt)
    return folder


def test_folder_of_ones_own(evaluate, tmp_path):
    """A configuration outside the package, its prompt beside it, with another parser."""
    recorded = made_up(12)
    folder = own_config(tmp_path / "mine")
    answers = {}
    for row, other in zip(recorded.model, recorded.reference, strict=True):
        answers[row["instruction"].strip()] = is_switched(row["instruction"]), row["output"], other["output"]

    def status(prompt, attempt):
        switched, output, other = next(v for k, v in answers.items() if k in prompt)
        shown_first = output if switched else other
        assert prompt.index(shown_first) < prompt.index(other if switched else output)
        text = "first" if len(shown_first) % 2 else "second"
        return {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": text}}

    with replay([], status) as server:
        result = evaluate(recorded, server, judge=str(folder))
    wins = []
    for switched, output, other in answers.values():
        first_wins = len(output if switched else other) % 2 == 1
        wins.append(0.5 if output == other else float(first_wins == switched))
    assert result.win_rate == pytest.approx(100 * sum(wins) / len(wins))
    assert result.judge == "mine"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"prompt_template": "nowhere.txt"}, "names the prompt 'nowhere.txt', but there is neither"),
        ({"prompt_template": "Which is better?" * 40}, "has no place for {instruction}, {output_1}, {output_2}"),
        ({"fn_completions": "my_completions"}, "names the decoder 'my_completions'"),
        ({"unknown_key": 1}, "cannot be used"),
        ({"fn_completion_parser": "no_parser"}, "cannot be used"),
    ],
)
def test_bad_configurations(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        Annotator(JudgeSettings(str(own_config(tmp_path / "bad", **changes))))


def test_unknown_annotator():
    with pytest.raises(
        InputError, match="no annotator 'weighted_alpaca_eval_gpt4'.*Did you mean.*weighted_alpaca_eval_gpt4_turbo"
    ):
        Annotator(JudgeSettings("weighted_alpaca_eval_gpt4"))


def test_every_annotator_of_the_package_can_be_read(tmp_path):
    """Requests of each of alpaca_eval's configurations, the ones that need the network for their vocabulary excepted."""
    from pathlib import Path

    import alpaca_eval

    names = sorted(p.parent.name for p in Path(alpaca_eval.__file__).parent.glob("evaluators_configs/*/configs.yaml"))
    rows = [
        {
            "instruction": f"do {i}",
            "output_1": "a",
            "output_2": "b",
            "generator_1": "r",
            "generator_2": "m",
            "dataset": "d",
        }
        for i in range(5)
    ]
    failed = {}
    for name in names:
        try:
            annotator = Annotator(JudgeSettings(name))
            assert 1 <= len(annotator.requests(rows)) <= 5, name
        except InputError as error:
            failed[name] = str(error)
    needs = {
        name for name, message in failed.items() if "cannot be used: No module" in message or "tiktoken" in message
    }
    assert set(failed) == needs, failed
    assert len(names) - len(failed) >= 20


def test_decoder_on_this_machine(evaluate, tmp_path):
    """A decoder of alpaca_eval that needs no server; a second run takes its answers from the file."""
    recorded = made_up(8)
    folder = own_config(
        tmp_path / "local",
        fn_completions="test_completions",
        completions_kwargs={"value": "first"},
        completion_key="completions",
    )
    result = evaluate(recorded, judge=str(folder))
    switched = [is_switched(row["instruction"]) for row in recorded.model]
    equal = [a["output"] == b["output"] for a, b in zip(recorded.model, recorded.reference, strict=True)]
    wins = [0.5 if e else float(s) for s, e in zip(switched, equal, strict=True)]
    assert result.win_rate == pytest.approx(100 * sum(wins) / len(wins))
    log = (tmp_path / "alpaca" / "judgements.jsonl").read_text()
    assert evaluate(recorded, judge=str(folder)).win_rate == result.win_rate
    assert (tmp_path / "alpaca" / "judgements.jsonl").read_text() == log


def test_legacy_endpoint(evaluate):
    """A prompt that is no chat goes to the completions endpoint, whatever the model's name."""
    recorded = made_up(8)
    choice = {"finish_reason": "stop", "index": 0, "logprobs": None, "text": " Output (a)"}
    with replay([], lambda prompt, attempt: choice) as server:
        result = evaluate(recorded, server, judge="test", judge_model="gpt-some-chat")
        assert server.paths == {"/v1/completions"} and "prompt" in server.bodies[0]
    switched = [is_switched(row["instruction"]) for row in recorded.model]
    assert result.win_rate == pytest.approx(100 * (sum(s for i, s in enumerate(switched) if i != 7) + 0.5) / 8)


def test_key_is_asked_for(evaluate, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="No key for OpenAI: set the environment variable OPENAI_API_KEY"):
        evaluate(made_up(6), judge=OFFICIAL)
    with pytest.raises(InputError, match="No judge: name one .* no longer served"):
        evaluate(made_up(6))


def test_local_server_needs_no_key(evaluate, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    recorded = made_up(6)
    with replay(recorded.annotations) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        result = evaluate(recorded, judge=OFFICIAL)
    assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)


def test_client_config(evaluate, tmp_path, monkeypatch):
    """alpaca_eval's own way to name servers and keys."""
    recorded = made_up(6)
    with replay(recorded.annotations) as server:
        path = tmp_path / "clients.yaml"
        entries = [{"api_key": f"sk-client-{i}", "base_url": server.base_url} for i in range(2)]
        path.write_text(yaml.safe_dump({"default": entries}))
        monkeypatch.setenv("OPENAI_CLIENT_CONFIG_PATH", str(path))
        result = evaluate(recorded, judge=OFFICIAL)
        assert server.keys == {"Bearer sk-client-0", "Bearer sk-client-1"}
    assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)
    assert "sk-client" not in json.dumps([record.settings for record in result.records()])


def test_annotations_of_several_judges(evaluate):
    recorded = made_up(6)
    mixed = [{**row, "annotator": f"judge {i % 2}"} for i, row in enumerate(recorded.annotations)]
    with pytest.raises(InputError, match="from 2 judges"):
        evaluate(recorded, annotations=mixed)
    with pytest.raises(InputError, match="Record 0 of the annotations lacks preference"):
        evaluate(recorded, annotations=[{k: v for k, v in recorded.annotations[0].items() if k != "preference"}])
