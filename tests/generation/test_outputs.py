"""Instruction sets, the files of `generate_outputs`, and going on after a kill."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import pd_trl.generation.instructions as instructions_module
from pd_trl.cli.main import main
from pd_trl.errors import InputError, InputTypeError
from pd_trl.generation import DecodingConfig, generate_outputs, load_instructions
from tests.processes import ROOT
from tests.tiny import sentence

CONFIG = DecodingConfig(max_new_tokens=6)
TEXTS = ["the cat sees", "a dog", "big red fish", "the tree runs well"]


def log_of(folder):
    return [json.loads(line) for line in (folder / "generated.jsonl").read_text().splitlines()]


def test_records_are_alpacaevals_and_settings_lie_beside_them(tiny_models, tmp_path):
    outputs = generate_outputs(tiny_models["causal"], TEXTS, output_dir=tmp_path, config=CONFIG, generator="mine")
    assert json.loads((tmp_path / "model_outputs.json").read_text()) == outputs
    assert [row["instruction"] for row in outputs] == TEXTS
    assert all(list(row) == ["dataset", "instruction", "output", "generator"] for row in outputs)
    assert {row["generator"] for row in outputs} == {"mine"}
    settings = json.loads((tmp_path / "decoding.json").read_text())
    assert settings["decoding"]["max_new_tokens"] == 6 and settings["counts"]["outputs"] == 4
    rows = log_of(tmp_path)[1:]
    assert sum(entry["row"]["num_tokens"] for entry in rows) == settings["counts"]["tokens"]
    model = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["causal"])
    in_memory = generate_outputs((model, tokenizer), TEXTS, config=CONFIG, batch_size=1)
    assert [row["output"] for row in in_memory] == [row["output"] for row in outputs]


def test_finished_rows_are_not_generated_again(tiny_models, tmp_path, monkeypatch):
    whole = generate_outputs(tiny_models["causal"], TEXTS, output_dir=tmp_path / "whole", config=CONFIG)
    place = tmp_path / "part"
    generate_outputs(tiny_models["causal"], TEXTS[:2], output_dir=place, config=CONFIG)
    with (place / "generated.jsonl").open("a") as file:
        file.write('{"key": "cut off by a ki')
    assert generate_outputs(tiny_models["causal"], TEXTS, output_dir=place, config=CONFIG) == whole
    assert len(log_of(place)) == 1 + len(TEXTS)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # nothing is left to do, so no model is loaded
    assert generate_outputs(tiny_models["causal"], TEXTS[::-1], output_dir=place, config=CONFIG) == whole[::-1]


@pytest.mark.parametrize(
    "odd",
    [{"output": 5}, {"num_tokens": "many"}, {"num_tokens": -1}, {"finished": None}, {"output": "\ud800"}, {"more": 1}],
)
def test_a_kept_output_of_another_form_is_generated_again(odd, tiny_models, tmp_path, caplog):
    whole = generate_outputs(tiny_models["causal"], TEXTS, output_dir=tmp_path, config=CONFIG)
    log = tmp_path / "generated.jsonl"
    lines = log.read_text().splitlines()
    entry = json.loads(lines[1])
    entry["row"] |= odd
    log.write_text("\n".join([lines[0], json.dumps(entry), *lines[2:], ""]))
    assert generate_outputs(tiny_models["causal"], TEXTS, output_dir=tmp_path, config=CONFIG) == whole
    assert "damaged and left out (line 2)" in caplog.text


@pytest.mark.parametrize("change", [{"max_new_tokens": 7}, {"temperature": 1.0}, {"system_prompt": "the cat"}])
def test_other_settings_in_the_same_folder_are_refused(tiny_models, tmp_path, change):
    generate_outputs(tiny_models["causal"], TEXTS[:1], output_dir=tmp_path, config=CONFIG)
    with pytest.raises(InputError, match=r"rows of another run \(decoding differ\)"):
        generate_outputs(
            tiny_models["causal"], TEXTS, output_dir=tmp_path, config=DecodingConfig(**{"max_new_tokens": 6, **change})
        )


@pytest.mark.slow
@pytest.mark.multiprocess
def test_killed_in_the_middle_it_goes_on(tiny_models, tmp_path):
    generator = random.Random(0)
    texts = list(dict.fromkeys(sentence(generator, 3, 40) for _ in range(100)))
    source = tmp_path / "prompts.json"
    source.write_text(json.dumps(texts))
    arguments = {"model_name_or_path": tiny_models["causal"], "instructions": source, "output_dir": tmp_path / "out"}
    arguments |= {"max_new_tokens": 60, "batch_size": 2, "temperature": 1.0}
    flags = ["generate", *(f"--{name}={value}" for name, value in arguments.items())]
    with (tmp_path / "stderr").open("w") as errors:
        command = [sys.executable, "-m", "pd_trl", *flags]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        log, deadline = tmp_path / "out" / "generated.jsonl", time.monotonic() + 300
        while time.monotonic() < deadline and (not log.is_file() or log.read_bytes().count(b"\n") < 12):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "\r" not in (tmp_path / "stderr").read_text()  # no bar where nobody looks
    before = log.read_text().splitlines()
    assert 12 <= len(before) <= len(texts)
    assert not (tmp_path / "out" / "model_outputs.json").exists()
    assert main(flags) == 0
    after = log.read_text().splitlines()
    assert after[: len(before) - 1] == before[: len(before) - 1] and len(after) == 1 + len(texts)
    keys = [json.loads(line)["key"] for line in after[1:]]
    assert len(set(keys)) == len(keys)
    outputs = json.loads((tmp_path / "out" / "model_outputs.json").read_text())
    config = DecodingConfig(max_new_tokens=60, temperature=1.0)
    alone = generate_outputs(tiny_models["causal"], texts, config=config)
    assert [row["output"] for row in outputs] == [row["output"] for row in alone]


def test_instruction_sets_of_all_kinds(tmp_path):
    rows = [{"instruction": text, "dataset": "animals"} for text in TEXTS]
    (tmp_path / "list.json").write_text(json.dumps(TEXTS))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    chats = [{"messages": [{"role": "user", "content": text}]} for text in TEXTS]
    Dataset.from_list(chats).to_parquet(tmp_path / "chat.parquet")
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"frage": text}) + "\n" for text in TEXTS))
    for name, dataset in (
        ("list.json", "list"),
        ("rows.json", "animals"),
        ("rows.jsonl", "rows"),
        ("chat.parquet", "chat"),
    ):
        items = load_instructions(tmp_path / name)
        assert [item.text for item in items] == TEXTS
        assert {item.dataset for item in items} == {dataset}
    assert [item.text for item in load_instructions(tmp_path / "own.jsonl", column="frage")] == TEXTS
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    (item,) = load_instructions([{"messages": turns}])
    assert item.text == "user: user\n\nassistant: assistant\n\nuser: user" and item.prompt == turns


def test_alpacaevals_instructions(shared_data, monkeypatch):
    reference = shared_data / "alpaca_eval" / "gpt4_1106_preview" / "model_outputs.json"
    monkeypatch.setattr(instructions_module, "download_file", lambda *args, **kwargs: reference)
    items = load_instructions("alpaca_eval")
    assert len(items) == 805 and {item.dataset for item in items} >= {"koala", "vicuna"}
    monkeypatch.setattr(instructions_module, "read_json_rows", lambda path: json.loads(reference.read_text())[:800])
    with pytest.raises(InputError, match="has 800 distinct instructions instead of 805"):
        load_instructions("alpaca_eval")


def test_without_a_connection_alpacaeval_is_refused_clearly(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="cannot be reached"):
        load_instructions("alpaca_eval")


def test_repeated_instructions_are_answered_once(tiny_models, caplog):
    outputs = generate_outputs(tiny_models["causal"], [*TEXTS, *TEXTS[:2]], config=CONFIG)
    assert [row["instruction"] for row in outputs] == TEXTS
    assert "2 of the 6 instructions" in caplog.text


@pytest.mark.parametrize(
    "rows, words",
    [
        ([], "no rows"),
        ([{"topic": "x"}], "instruction, prompt, messages"),
        (["the cat", " "], "Row 1"),
        ([{"prompt": "the cat"}, {"prompt": None}], "Row 1"),
        ([{"messages": [{"role": "user"}]}], "Row 0"),
    ],
)
def test_unusable_instructions_are_refused(rows, words):
    with pytest.raises(InputError, match=words):
        load_instructions(rows)


def test_unusable_models_are_refused(tiny_models, tmp_path):
    with pytest.raises(InputTypeError, match="a tuple of a language model and its tokenizer"):
        generate_outputs(3, TEXTS)
    with pytest.raises(InputError, match="backend"):
        generate_outputs(tiny_models["causal"], TEXTS, backend="magic")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="No tokenizer beside the model"):
        generate_outputs(str(tmp_path / "empty"), TEXTS)


def test_vllm_is_asked_for_when_it_is_not_there(tiny_models):
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install pd_trl\[vllm\]"):
            generate_outputs(tiny_models["causal"], TEXTS, config=CONFIG, backend="vllm")
    else:
        pytest.skip("vLLM is installed")
