import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, fields

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from peft import LoraConfig
from transformers import LlamaForCausalLM

from pd_trl import PDDPOConfig, PDRewardConfig, score_pairs
from pd_trl.errors import InputError
from pd_trl.pipeline.stages.select import SelectArguments, run_select
from pd_trl.runs.artifacts import Manifest
from pd_trl.runs.identity import canonical, data_key, deciding, file_key, settings_key
from pd_trl.runs.model_identity import memory_key, model_key, peft_settings, tokenizer_key
from pd_trl.runs.training_fields import DECIDING, NOT_DECIDING, training_identity
from tests.processes import ROOT
from tests.tiny import save_tiny_models, tiny_config, tiny_preferences, tiny_reward_model, tiny_tokenizer

CPU = {"use_cpu": True, "bf16": False}


@pytest.fixture
def models(tmp_path):
    return save_tiny_models(tmp_path / "models")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 2, "b": 1}, {"b": 1.0, "a": 2.0}),
        ([1, 2], (1, 2)),
        ({"x", "y", "z"}, ["x", "y", "z"]),
        (np.float32(0.5), 0.5),
        ({"deep": {"list": [1.0, {"k": np.int64(3)}]}}, {"deep": {"list": [1, {"k": 3}]}}),
    ],
)
def test_what_means_the_same_is_one_setting(one, other):
    assert settings_key(one) == settings_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"budget": 1}, {"budget": 1.0}),
        ({"a": None}, {"a": 0}),
        ({"a": True}, {"a": "true"}),
        (["a", "b"], ["b", "a"]),
    ],
)
def test_what_differs_is_another_setting(one, other):
    assert settings_key(one) != settings_key(other)


def test_a_manifest_read_back_is_the_same_run(tmp_path):
    manifest = Manifest("x", arguments={"budget": 1.0, "weights": {"b": 2.0, "a": 1}, "names": ("k",)})
    manifest.save(tmp_path)
    assert manifest.is_done_in(tmp_path)


def test_json_text_is_a_mapping_only_where_a_mapping_is_taken():
    @dataclass
    class Arguments:
        weights: dict[str, float] | str | None = None
        system_prompt: str | None = field(default=None)

    texts = ('{"a":2}', '{"a": 2.0}', "{a: 2}", "a: 2")
    one, other, *yaml = (deciding(Arguments(text, text), ["weights", "system_prompt"]) for text in texts)
    assert settings_key(one["weights"]) == settings_key(other["weights"]) == settings_key({"a": 2})
    assert [settings_key(found["weights"]) for found in yaml] == [settings_key({"a": 2})] * 2
    assert [found["system_prompt"] for found in yaml] == list(texts[2:])
    assert settings_key(one["system_prompt"]) != settings_key(other["system_prompt"])


@pytest.mark.slow
def test_keys_do_not_change_from_process_to_process():
    code = (
        "from peft import LoraConfig\nfrom pd_trl.runs.identity import *\nfrom pd_trl.runs.model_identity import *\nfrom pd_trl.runs.training_fields import *\nfrom tests.tiny import *\n"
        "print(settings_key([peft_settings(LoraConfig(target_modules=['a', 'b', 'c', 'd'])), {'x', 'y', 'z'}, object]),"
        " data_key(tiny_preferences(3)), memory_key(tiny_reward_model(), tiny_tokenizer()))"
    )
    found = set()
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
        found.add(done.stdout)
    assert len(found) == 1 and found.pop().count(" ") == 2


def test_data_are_known_by_their_rows(tmp_path):
    rows = tiny_preferences(6)
    key = data_key(rows)
    rows.to_parquet(tmp_path / "a.parquet")
    rows.to_json(tmp_path / "b.jsonl")
    for path in ("a.parquet", "b.jsonl"):
        kind = "parquet" if path.endswith("parquet") else "json"
        loaded = getattr(Dataset, f"from_{kind}")(str(tmp_path / path), cache_dir=str(tmp_path / "cache"))
        assert data_key(loaded) == key
    assert data_key(rows.select([1, 0, 2, 3, 4, 5])) != key
    assert (
        data_key(rows.map(lambda row, i: {"chosen": row["chosen"] + ("x" if i == 5 else "")}, with_indices=True))
        != key
    )
    assert data_key(rows.add_column("extra", list(range(6)))) != key
    assert data_key(rows.with_format("torch")) == key


def test_images_are_known_by_their_bytes_wherever_they_lie(tmp_path):
    from PIL import Image as Picture

    for name, colour in {"one": 1, "same": 1, "other": 200}.items():
        (tmp_path / name).mkdir()
        Picture.new("L", (4, 4), colour).save(tmp_path / name / "x.png")
    features = Features({"image": Image(), "n": Value("int64")})
    keys = [
        data_key(Dataset.from_dict({"image": [str(tmp_path / name / "x.png")], "n": [1]}, features=features))
        for name in ("one", "same", "other")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_file_is_read_again_when_it_changed_and_only_then(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    first = file_key(path)
    os.utime(path, ns=(0, 0))
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp -p` does
    assert path.stat().st_mtime_ns == before.st_mtime_ns and file_key(path) != first
    monkeypatch.setattr("pd_trl.runs.identity._SETTLED_SECONDS", -1.0)
    second = file_key(path)
    monkeypatch.setattr("pd_trl.runs.identity._BLOCK", "not read")
    assert file_key(path) == second


def change(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("chat_template.jinja", True),
        ("additional_chat_templates/tools.jinja", True),
        ("tokenizer_config.json", True),
        ("tokenizer.model", True),
        ("vocab.txt", True),
        ("merges.txt", True),
        ("modeling_mine.py", True),
        ("mine/layers.py", True),
        ("generation_config.json", True),
        ("model-00002-of-00002.safetensors", True),
        ("adapter_model.bin", True),
        ("README.md", False),
        ("LICENSE.txt", False),
        ("trainer_state.json", False),
        ("training_args.bin", False),
        ("optimizer.pt", False),
        ("rng_state_0.pth", False),
        ("manifest.json", False),
        ("pd_card.json", False),
        ("eval_results.json", False),
        ("checkpoint-10/config.json", False),
        ("runs/code.py", False),
        (".cache/huggingface/x.json", False),
        ("error.log", False),
    ],
)
def test_which_files_decide_a_model(models, tmp_path, name, decides):
    folder = tmp_path / "models" / "reward"
    before = model_key(folder)
    change(folder, name, '{"changed": true}')
    assert (model_key(folder) != before) == decides


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_another_repository_is_part_of_a_model(models, tmp_path, name):
    folder, code = tmp_path / "models" / "reward", tmp_path / "code"
    change(code, "mine.py", "from .layers import Layer\n")
    change(code, "layers.py", "Layer = 1\n")
    settings = json.loads((folder / name).read_text())
    given = {"AutoModel": f"{code}--mine.Model", "AutoTokenizer": [None, f"{code}--mine.Words"]}
    keys = [model_key(folder)]
    for auto_map in ({"AutoModel": "org/missing--mine.Model"}, given):
        (folder / name).write_text(json.dumps({**settings, "auto_map": auto_map}))
        keys.append(model_key(folder))
    for place in ("mine.py", "layers.py"):
        change(code, place, "Layer = 2\n" if place == "layers.py" else "from .layers import Layer as Other\n")
        keys.append(model_key(folder))
    change(code, "unrelated.py", "Layer = 3\n")
    assert len({*keys}) == len(keys) and model_key(folder) == keys[-1]


def test_a_copy_elsewhere_is_the_same_model_and_another_in_its_place_is_not(models, tmp_path, monkeypatch):
    folder = tmp_path / "models" / "reward"
    key = model_key(folder)
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_key(tmp_path / "copy") == model_key("~/copy") == key
    # The same size, and the same times.
    weights = tmp_path / "copy" / "model.safetensors"
    status, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert model_key(tmp_path / "copy") != key


def test_an_adapter_is_known_with_its_base_wherever_that_lies(models, tmp_path):
    from peft import get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(LlamaForCausalLM.from_pretrained(models["causal"]), config).save_pretrained(tmp_path / "adapter")
    key = model_key(tmp_path / "adapter")
    shutil.copytree(models["causal"], tmp_path / "base")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == models["causal"]
    settings["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    assert model_key(tmp_path / "adapter") == key
    LlamaForCausalLM(tiny_config()).save_pretrained(tmp_path / "base")
    assert model_key(tmp_path / "adapter") != key


def test_a_model_of_the_hub_is_its_files(models, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repo = tmp_path / "hub" / "models--me--rm"
    for sha in ("a" * 40, "b" * 40):
        shutil.copytree(models["reward"], repo / "snapshots" / sha)
    change(repo / "snapshots" / ("b" * 40), "chat_template.jinja", "other")
    keys = {}
    for sha in ("a" * 40, "b" * 40):
        change(repo, "refs/main", sha)
        keys[sha] = model_key("me/rm")
        assert keys[sha] == model_key(f"me/rm@{sha}") == model_key("me/rm", sha)
    assert keys["a" * 40] == model_key(models["reward"]) != keys["b" * 40]


def test_models_in_memory_are_known_with_their_tokenizers():
    tokenizer, key = tiny_tokenizer(), memory_key(tiny_reward_model(), tiny_tokenizer())
    assert memory_key(tiny_reward_model(), tokenizer) == key
    assert memory_key(tiny_reward_model(seed=1), tokenizer) != key
    assert memory_key(tiny_reward_model(rope_theta=5e5), tokenizer) != key
    assert memory_key(tiny_reward_model().bfloat16(), tokenizer) != key
    tokenizer(["a cat", "a"], truncation=True, max_length=2, padding=True)
    assert tokenizer_key(tokenizer) == tokenizer_key(tiny_tokenizer()), "a call leaves no trace"
    for change_it in (
        {"chat_template": "{{ messages }}"},
        {"pad_token": "<eos>"},
    ):
        assert memory_key(tiny_reward_model(), tiny_tokenizer(**change_it)) != key
    tokenizer.add_tokens(["new"])
    assert memory_key(tiny_reward_model(), tokenizer) != key


@pytest.mark.parametrize("config", [PDRewardConfig, PDDPOConfig])
def test_every_training_argument_is_said_to_decide_the_weights_or_not(config):
    """A field that a new version of TRL adds fails here, and nowhere else."""
    names = {entry.name for entry in fields(config)}
    assert not names - DECIDING - NOT_DECIDING, "put it into one of the lists of runs/training_fields.py"
    assert not DECIDING & NOT_DECIDING


@pytest.mark.filterwarnings("ignore:`(pad|eos)_token` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("changes", "decides"),
    [
        ({"pad_token": "<pad>"}, True),
        ({"eos_token": "<eos>"}, True),
        ({"seed": 1}, True),
        ({"learning_rate": 1e-3}, True),
        ({"gradient_accumulation_steps": 3}, True),
        ({"train_share": 0.5}, True),
        ({"model_init_kwargs": {"dtype": "bfloat16"}}, True),
        ({"optim_args": "a=1"}, True),
        ({"eval_strategy": "steps", "eval_steps": 7}, False),
        ({"logging_steps": 3, "logging_first_step": True, "report_to": "none"}, False),
        ({"save_strategy": "no"}, False),
        ({"hub_token": "hf_x", "hub_model_id": "me/x", "hub_private_repo": True}, False),
        ({"dataloader_num_workers": 2, "dataloader_persistent_workers": True}, False),
        ({"model_init_kwargs": {"device_map": "auto", "token": "hf_x", "revision": "v1"}}, False),
        ({"project": "p", "run_name": "r"}, False),
    ],
)
def test_training_is_known_by_what_decides_the_weights(tmp_path, changes, decides):
    plain = training_identity(PDRewardConfig(str(tmp_path / "a"), **CPU))
    changed = training_identity(PDRewardConfig(str(tmp_path / "b"), **CPU, **changes))
    assert (settings_key(plain) != settings_key(changed)) == decides
    assert "hf_x" not in json.dumps(changed)


def test_the_evaluation_counts_where_it_chooses_the_checkpoint(tmp_path):
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps", "save_steps": 10}
    keys = {settings_key(training_identity(PDDPOConfig(str(tmp_path), **CPU, **best, eval_steps=n))) for n in (5, 10)}
    assert len(keys) == 2


def test_a_new_version_with_more_fields_goes_on(tmp_path):
    args = PDDPOConfig(str(tmp_path), **CPU)
    before = training_identity(args)
    args.brand_new_option = 3
    assert training_identity(args) == before
    config, newer = LoraConfig(r=4), LoraConfig(r=4)
    newer.to_dict = lambda: {**config.to_dict(), "peft_version": "99"}
    assert peft_settings(config) == peft_settings(newer) != peft_settings(LoraConfig(r=8))


def test_a_chat_template_is_known_by_its_text(tmp_path):
    for name, text in {"one": "a", "same": "a", "other": "b"}.items():
        (tmp_path / f"{name}.jinja").write_text(text)
    one, same, other = (
        training_identity(PDRewardConfig(str(tmp_path), **CPU, chat_template_path=str(tmp_path / f"{name}.jinja")))
        for name in ("one", "same", "other")
    )
    assert one == same != other


def test_canonical_text_holds_no_address():
    assert canonical(object()) == canonical(object())


@pytest.mark.parametrize("changed", ["template", "dtype", "backend", "attention", "tokenizer"])
def test_shards_of_another_computation_are_refused(models, tmp_path, changed):
    import torch

    data = {"honesty": models["reward"]}
    rows = tiny_preferences(6, chat=True)
    score_pairs(rows, data, output_dir=tmp_path / "out")
    score_pairs(rows, data, output_dir=tmp_path / "out", attn_implementation="sdpa", dtype=torch.float32)
    options = {}
    if changed == "template":
        change(tmp_path / "models" / "reward", "chat_template.jinja", tiny_tokenizer().chat_template + "a")
    elif changed == "tokenizer":
        data = {"honesty": (tiny_reward_model(), tiny_tokenizer())}
    else:
        options = {
            "dtype": {"dtype": torch.bfloat16},
            "backend": {"backend": "transformers"},
            "attention": {"attn_implementation": "eager"},
        }[changed]
    with pytest.raises(InputError, match="shards of another run: .*differ"):
        score_pairs(rows, data, output_dir=tmp_path / "out", **options)


def scored(**columns):
    generator = np.random.default_rng(0)
    rows = {
        "pair_id": [f"p{i:02d}" for i in range(20)],
        "prompt": ["q"] * 20,
        "chosen": ["x"] * 20,
        "rejected": ["yy"] * 20,
        "aspect": ["a", "b"] * 10,
        **{f"reward_gap_{name}": generator.normal(size=20).astype("float32") for name in "ab"},
        "delta_length": list(range(20)),
    }
    return Dataset.from_dict({**rows, **columns})


@pytest.mark.parametrize(
    ("columns", "settings"),
    [
        ({"mine": np.arange(20.0)[::-1].copy()}, {"selector": "margin", "margin_column": "mine"}),
        ({"mine": np.arange(20.0)[::-1].copy()}, {"source": "column", "pd_column": "mine"}),
        ({"chosen": ["corrected"] * 20}, {}),
        ({"prompt": ["other"] * 20}, {}),
        ({"note": ["new"] * 20}, {}),
        ({"note": ["new"] * 20}, {"out_of_core": True}),
        (
            {"mine": np.r_[1.0, 0.0, np.arange(2.0, 20.0)]},
            {"selector": "margin", "margin_column": "mine", "out_of_core": True},
        ),
    ],
)
def test_a_selection_of_other_rows_is_another(tmp_path, columns, settings):
    before = {"mine": np.arange(20.0), "note": ["old"] * 20}
    arguments = SelectArguments(str(tmp_path / "d.parquet"), str(tmp_path / "out"), **settings)
    scored(**before).to_parquet(tmp_path / "d.parquet")
    assert not run_select(arguments).skipped and run_select(arguments).skipped
    scored(**{**before, **columns}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match="another run .different: input 'scored'"):
        run_select(arguments)


def test_weights_are_one_setting_as_text_and_as_a_mapping(tmp_path):
    scored().to_parquet(tmp_path / "d.parquet")
    for weights in ('{"a":2}', {"a": 2.0}, '{"a": 2.00}'):
        done = run_select(SelectArguments(str(tmp_path / "d.parquet"), str(tmp_path / "out"), weights=weights))
    assert done.skipped
    with pytest.raises(InputError, match="`budget`"):
        run_select(SelectArguments(str(tmp_path / "d.parquet"), str(tmp_path / "out"), weights=weights, budget="0.5"))


def test_digests_of_a_large_model_are_fast_the_second_time(tmp_path, monkeypatch):
    monkeypatch.setattr("pd_trl.runs.identity._SETTLED_SECONDS", -1.0)
    (tmp_path / "model.safetensors").write_bytes(os.urandom(1 << 26))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        model_key(tmp_path)
        times.append(time.perf_counter() - start)
    assert times[1] < times[0] / 5


def test_runs_without_dfpo_do_not_know_how_it_divides_beta(tmp_path):
    from pd_trl import PDDPOConfig

    cpu = {"use_cpu": True, "bf16": False, "report_to": "none"}
    assert "pd_divide_beta" not in training_identity(PDDPOConfig(tmp_path, **cpu))
    dfpo = [training_identity(PDDPOConfig(tmp_path, pd_loss="dfpo", pd_divide_beta=on, **cpu)) for on in (True, False)]
    assert dfpo[0] != dfpo[1] and dfpo[0]["pd_divide_beta"] is True
