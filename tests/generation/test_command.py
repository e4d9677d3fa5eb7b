"""`pd-trl generate`."""

import json
import sys

import pytest

from tests.cli.conftest import command  # noqa: F401
from tests.tiny import WORDS


@pytest.fixture
def arguments(tiny_models, tmp_path):
    source = tmp_path / "prompts.json"
    source.write_text(json.dumps(WORDS[:6]))
    return {
        "--model_name_or_path": tiny_models["causal"],
        "--instructions": source,
        "--output_dir": tmp_path / "out",
        "--max_new_tokens": 5,
    }


def flat(arguments):
    return [part for item in arguments.items() for part in item]


def test_it_writes_skips_and_refuses_what_differs(command, arguments, tmp_path):  # noqa: F811
    dry = command("generate", "--dry-run", *flat(arguments))
    assert dry.code == 0 and "6 instructions" in dry.out and "greedy" in dry.out and not (tmp_path / "out").exists()
    first = command("generate", *flat(arguments))
    assert first.code == 0, first.err
    assert "outputs 6" in first.out
    outputs = json.loads((tmp_path / "out" / "model_outputs.json").read_text())
    assert [row["instruction"] for row in outputs] == WORDS[:6] and outputs[0]["generator"] == "causal"
    assert "already done" in command("generate", *flat(arguments | {"--batch_size": 3})).out
    command("generate", *flat(arguments | {"--temperature": 1.0})).refused("`temperature`", "--overwrite")
    again = command("generate", "--overwrite", *flat(arguments | {"--temperature": 1.0}))
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "out" / "model_outputs.json").read_text()) != outputs


def test_several_sets_have_a_folder_each(command, arguments, tmp_path):  # noqa: F811
    (tmp_path / "more.jsonl").write_text('{"prompt": "the cat"}\n')
    sets = json.dumps({"one": str(arguments["--instructions"]), "two": str(tmp_path / "more.jsonl")})
    result = command("generate", *flat(arguments | {"--instructions": sets}))
    assert result.code == 0 and "outputs 7" in result.out, result
    assert len(json.loads((tmp_path / "out" / "one" / "model_outputs.json").read_text())) == 6
    assert len(json.loads((tmp_path / "out" / "two" / "model_outputs.json").read_text())) == 1


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"--max_new_tokens": 0}, "`max_new_tokens`"),
        ({"--batch_size": 0}, "`batch_size`"),
        ({"--top_p": 0.5}, "temperature 0"),
        ({"--instructions": "nowhere.json"}, "nowhere.json"),
        ({"--instructions": '{"a/b": "x.json"}'}, "cannot name a folder"),
        ({"--model_name_or_path": "./nowhere"}, "no folder"),
        ({"--backend": "magic"}, "backend"),
        ({"--chat_template_kwargs": "[1]"}, "chat_template_kwargs"),
        ({"--num_actors": 2}, "`num_actors` is of --engine ray"),
        ({"--engine": "ray", "--num_actors": 0}, "`num_actors` must be at least 1"),
        ({"--engine": "ray", "--model": "m"}, "leave `engine` out"),
        ({"--engine": "ray", "--engine_kwargs": '{"tensor_parallel_size": 2}'}, "vllm serve"),
    ],
)
def test_bad_arguments_are_refused(command, arguments, changes, words):  # noqa: F811
    command("generate", *flat(arguments | changes)).refused(words)


def test_ray_is_named_where_it_is_missing(command, arguments, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    command("generate", *flat(arguments | {"--engine": "ray"})).refused('pip install "pd_trl[ray]"')
    assert not (tmp_path / "out").exists()


def test_without_a_model_it_is_refused(command):  # noqa: F811
    command("generate").refused("--model_name_or_path")


def test_a_reward_model_is_no_language_model(command, arguments, tiny_models, tmp_path):  # noqa: F811
    """Its head would be random, and so would be every output."""
    command("generate", *flat(arguments | {"--model_name_or_path": tiny_models["reward"]})).refused("lm_head.weight")
    assert not (tmp_path / "out" / "model_outputs.json").exists()
