"""Outputs of a policy behind an OpenAI-compatible server."""

import json
import threading

import pytest

from pd_trl.cli.main import main
from pd_trl.errors import InputError
from pd_trl.generation import DecodingConfig, ServerPolicy, generate_outputs
from pd_trl.servers import RequestSettings
from tests.processes import ROOT
from tests.servers.faults import body, chat, reset
from tests.servers.replay_server import failing, replay

TEXTS = [f"instruction {i}" for i in range(12)]
QUICK = {"retry_wait": 0.01, "max_wait": 0.05, "timeout": 5.0, "max_concurrency": 3}
CONFIG = DecodingConfig(max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3)


def choice(text="an output", reason="stop"):
    return {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}


def echo(prompt, attempt):
    return choice(f"to {prompt}")


def ask(server, texts=TEXTS, config=CONFIG, **options):
    return generate_outputs(
        "org/served",
        texts,
        base_url=server.base_url,
        config=config,
        requests=options.pop("requests", QUICK),
        **options,
    )


def test_every_setting_is_sent_and_every_output_is_in_order(tmp_path):
    with replay([], echo) as server:
        system = DecodingConfig(max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3, system_prompt="be brief")
        outputs = ask(server, config=system, output_dir=tmp_path, request_arguments={"extra_body": {"top_k": 5}})
    assert [row["output"] for row in outputs] == [f"to {text}" for text in TEXTS]
    assert {row["generator"] for row in outputs} == {"served"}
    assert json.loads((tmp_path / "model_outputs.json").read_text()) == outputs
    sent = server.bodies[0]
    assert {name: sent[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed", "top_k")} == {
        **{"model": "org/served", "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 3, "top_k": 5}
    }
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    settings = json.loads((tmp_path / "decoding.json").read_text())
    assert settings["backend"] == "server" and settings["counts"]["outputs"] == 12
    assert settings["counts"]["tokens"] == 12  # as the server counts them


def test_conversations_and_plain_prompts(tmp_path):
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    with replay([], echo) as server:
        assert ask(server, [{"messages": turns}])[0]["output"] == "to three"
        assert server.bodies[-1]["messages"] == turns
        plain = DecodingConfig(use_chat_template=False)
        with replay([], lambda prompt, attempt: {"index": 0, "finish_reason": "stop", "text": f" {prompt}"}) as raw:
            assert ask(raw, ["once upon"], plain)[0]["output"] == " once upon"
            assert raw.paths == {"/v1/completions"} and "messages" not in raw.bodies[0]
        with pytest.raises(InputError, match="Messages need the server's chat template"):
            ask(server, [{"messages": turns}], plain)


def test_cut_answers_are_marked_as_local_ones_are(tmp_path, caplog):
    def cut(prompt, attempt):
        return choice(None if prompt == TEXTS[0] else "half an", "length" if prompt in TEXTS[:3] else "stop")

    with replay([], cut) as server:
        ask(server, output_dir=tmp_path)
    assert "3 of 12 outputs did not end within 7 tokens" in caplog.text
    counts = json.loads((tmp_path / "decoding.json").read_text())["counts"]
    assert (counts["cut_off"], counts["empty"]) == (3, 1)


@pytest.mark.parametrize(
    "config, options, words",
    [
        (DecodingConfig(temperature=1.0, top_k=5), {}, 'no place for `top_k`.*"extra_body": {"top_k": 5}'),
        (DecodingConfig(chat_template_kwargs={"enable_thinking": False}), {}, "no place for `chat_template_kwargs`"),
        (CONFIG, {"request_arguments": {"messages": []}}, "must not set messages"),
        (CONFIG, {"request_arguments": {"stream": True, "n": 2}}, "must not set n, stream"),
        (CONFIG, {"request_arguments": {"extra_body": 5}}, "`extra_body`.*must be a mapping"),
        (DecodingConfig(use_chat_template=False, system_prompt="x"), {}, "system prompt needs"),
        (CONFIG, {"requests": {"max_retry": 3}}, "no setting max_retry"),
    ],
)
def test_what_the_api_has_no_place_for_is_refused_before_anything_is_sent(config, options, words):
    with replay([], echo) as server, pytest.raises(InputError, match=words):
        ask(server, config=config, **options)
    assert not server.bodies


def test_faults_are_retried_and_no_answer_is_paid_twice(tmp_path):
    policy = ServerPolicy("m", "", settings=RequestSettings(**QUICK))
    assert policy.name == "m"

    def status(prompt, attempt):
        fate = failing(0.4, (429, 500, reset, body(b"<html>no</html>")))(prompt, attempt)
        return echo(prompt, attempt) if fate == 200 else fate

    with replay([], status) as server:
        outputs = ask(server, output_dir=tmp_path)
        assert [row["output"] for row in outputs] == [f"to {text}" for text in TEXTS]
        assert set(server.answered.values()) == {1}
        assert ask(server, output_dir=tmp_path) == outputs
        assert set(server.answered.values()) == {1}


def test_instructions_without_an_output_are_an_error_or_are_counted(tmp_path, caplog):
    def status(prompt, attempt):
        if prompt == TEXTS[1]:
            return 400
        if prompt == TEXTS[2]:
            return choice("half", "content_filter")
        return body(chat(None)) if prompt == TEXTS[3] else echo(prompt, attempt)

    with replay([], status) as server:
        with pytest.raises(InputError, match="3 of 12 instructions have no output, .*`skip_failed`"):
            ask(server, output_dir=tmp_path, requests={**QUICK, "max_askings": 2})
        assert not (tmp_path / "model_outputs.json").exists()
        outputs = ask(server, output_dir=tmp_path, requests={**QUICK, "max_askings": 2}, skip_failed=True)
    assert [row["instruction"] for row in outputs] == [TEXTS[0], *TEXTS[4:]]
    assert server.counts[TEXTS[2]] == server.counts[TEXTS[3]] == 2 and server.counts[TEXTS[0]] == 1
    assert json.loads((tmp_path / "decoding.json").read_text())["counts"]["failed"] == 3
    assert "3 of 12 instructions have no output" in caplog.text


def test_a_server_that_refuses_everything_is_asked_little(tmp_path):
    with replay([], lambda prompt, attempt: 401) as server, pytest.raises(InputError, match="Check the key"):
        ask(server, output_dir=tmp_path)
    assert len(server.bodies) <= 3


@pytest.fixture
def arguments(tmp_path):
    source = tmp_path / "prompts.json"
    source.write_text(json.dumps(TEXTS))
    return ["generate", "--model", "served", "--instructions", str(source), "--output_dir", str(tmp_path / "out"), "--max_new_tokens", "7", "--requests", json.dumps(QUICK)]  # fmt: skip


def test_the_command_plans_asks_and_goes_on(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-of-mine")
    with replay([], echo) as server:
        whole = [*arguments, "--base_url", server.base_url, "--api_key_env", "MY_KEY"]
        assert main([*whole, "--dry_run"]) == 0
        shown = capsys.readouterr().out
        assert "12 requests" in shown and "at most 84 output tokens" in shown and not server.bodies
        assert main(whole) == 0
        assert server.keys == {"Bearer secret-of-mine"}
        assert "outputs 12" in capsys.readouterr().out
        assert main(whole) == 0 and "already done" in capsys.readouterr().out
        assert sum(server.counts.values()) == 12
        assert main([*whole, "--temperature", "1.0"]) == 2
        assert "`temperature`" in capsys.readouterr().err
        # More instructions of the same settings: what was answered is not asked for again.
        (tmp_path / "prompts.json").write_text(json.dumps([*TEXTS, "one more"]))
        assert main([*whole, "--overwrite"]) == 0 and "outputs 13" in capsys.readouterr().out
        assert sum(server.counts.values()) == 13
    files = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any("secret-of-mine" in text for text in files)


@pytest.mark.parametrize(
    "more, words",
    [
        (["--model_name_or_path", "me/model"], "Two models"),
        (["--top_k", "4", "--temperature", "1"], "no place for `top_k`"),
        (["--base_url", "nonsense"], "must be an address"),
        (["--api_key_env", "HF_TOKEN", "--base_url", "http://127.0.0.1:1/v1"], "HF_TOKEN"),
    ],
)
def test_bad_arguments_are_one_message(arguments, more, words, capsys):
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_a_server_without_a_model_is_refused(capsys):
    assert main(["generate", "--base_url", "http://127.0.0.1:1/v1"]) == 2
    assert "name the model that it has with --model" in capsys.readouterr().err


def test_a_configuration_must_not_send_the_users_key_to_its_own_server(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-mine")
    (tmp_path / "config.yaml").write_text("base_url: https://models.example.org/v1\n")
    assert main([*arguments, "--config", str(tmp_path / "config.yaml")]) == 2
    error = capsys.readouterr().err
    assert "OPENAI_API_KEY" in error and "secret-of-mine" not in error


def test_a_killed_command_goes_on_and_pays_for_no_answer_twice(arguments, tmp_path):
    import subprocess
    import sys

    with replay([], echo) as server:
        server.hold_after = 5
        whole = [sys.executable, "-m", "pd_trl", *arguments, "--base_url", server.base_url]
        killed = subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert server.reached.wait(120)
        log = tmp_path / "out" / "generated.jsonl"
        for _ in range(100):  # the last answers are on their way to the log
            if log.is_file() and log.read_text().count("\n") >= 6:
                break
            threading.Event().wait(0.1)
        killed.kill()
        killed.wait()
        kept = log.read_bytes().count(b"\n") - 1
        server.hold_after = None
        # A handler may still be reading what the dead process had sent.
        threading.Event().wait(0.5)
        asked = len(server.bodies)
        assert main([*arguments, "--base_url", server.base_url]) == 0
        assert kept >= 5 and len(server.bodies) - asked == 12 - kept
    assert len(json.loads((tmp_path / "out" / "model_outputs.json").read_text())) == 12
