import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pd_trl.errors import InputError
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.scoring import score_pairs
from pd_trl.scoring.batching import run_batches
from pd_trl.scoring.scorer import RewardModelScorer
from tests.processes import ROOT, run_processes
from tests.tiny import ASPECTS, CHAT_TEMPLATE, encode_pair, tiny_preferences, tiny_reward_model, tiny_tokenizer


@pytest.fixture(scope="module")
def reward_folders(tmp_path_factory) -> dict[str, str]:
    """Three reward models that differ, with large gaps."""
    folders = {}
    for seed, aspect in enumerate(ASPECTS):
        folder = tmp_path_factory.mktemp("rm") / aspect
        model = tiny_reward_model(seed)
        model.score.weight.data.mul_(50)
        model.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        folders[aspect] = str(folder)
    return folders


def alone(folder: str, row: dict) -> float:
    """Gap of one pair, each side scored alone, without padding."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    rewards = []
    for ids in encode_pair(AutoTokenizer.from_pretrained(folder), row):
        with torch.no_grad():
            rewards.append(model(torch.tensor([ids])).logits.item())
    return rewards[0] - rewards[1]


FORMATS = [dict(chat=c, implicit=i) for c in (False, True) for i in (False, True)]


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_gaps_equal_each_side_scored_alone(reward_folders, form):
    data = tiny_preferences(12, **form)
    scored = score_pairs(data, reward_folders)
    assert scored.column_names[: len(data.column_names)] == data.column_names
    for aspect, folder in reward_folders.items():
        expected = [alone(folder, row) for row in data]
        assert np.allclose(scored[f"reward_gap_{aspect}"], expected, atol=1e-5)
        assert scored.features[f"reward_gap_{aspect}"].dtype == "float32"
    side = (lambda s: s[-1]["content"]) if form["chat"] else (lambda s: s)
    delta = [len(side(r["chosen"]).split()) - len(side(r["rejected"]).split()) for r in data]
    assert scored["delta_length"][:] == delta and scored.features["delta_length"].dtype == "int32"


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_tokens_are_those_of_trl(tiny_models, tmp_path, form):
    from trl import RewardConfig, RewardTrainer

    data = tiny_preferences(9, **form)
    args = RewardConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    trainer = RewardTrainer(tiny_models["reward"], args=args, train_dataset=data)
    for row, tokens in zip(data, trainer.train_dataset, strict=True):
        chosen, rejected = encode_pair(trainer.processing_class, row)
        assert (chosen, rejected) == (tokens["chosen_ids"], tokens["rejected_ids"])


def gaps_by_id(scored: Dataset) -> dict[str, np.ndarray]:
    columns = [scored[f"reward_gap_{aspect}"][:] for aspect in ASPECTS]
    return dict(zip(scored["pair_id"], np.array(columns).T, strict=True))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(20)), tokens=st.sampled_from([1, 40, 200, 5000]), shard=st.sampled_from([1, 3, 7, 99])
)
def test_scores_do_not_depend_on_order_batches_or_shards(reward_folders, order, tokens, shard):
    data = tiny_preferences(20)
    expected = gaps_by_id(score_pairs(data, reward_folders))
    found = gaps_by_id(score_pairs(data.select(order), reward_folders, tokens_per_batch=tokens, pairs_per_shard=shard))
    assert found.keys() == expected.keys()
    assert max(np.abs(found[i] - expected[i]).max() for i in found) < 1e-5


def six_pairs_of_four(num_prompts: int) -> Dataset:
    texts = ["the cat .", "a dog sees .", "red fish .", "big bird eats ."]
    rows = [
        {"pair_id": f"{n}-{i}{j}", "prompt": f"the {'cat ' * n}", "chosen": texts[i], "rejected": texts[j], "aspect": "honesty"}
        for i in range(4)
        for j in range(i + 1, 4)
        for n in range(num_prompts)
    ]  # fmt: skip
    return Dataset.from_list(rows)


@pytest.mark.parametrize("pairs_per_shard", [1000, 7, 6])
def test_responses_of_several_pairs_are_scored_once_whatever_the_shards(reward_folders, monkeypatch, pairs_per_shard):
    seen = []
    call = RewardModelScorer.__call__
    monkeypatch.setattr(
        RewardModelScorer, "__call__", lambda self, tokens: seen.append(len(tokens)) or call(self, tokens)
    )
    models = {"honesty": reward_folders["honesty"]}
    score_pairs(six_pairs_of_four(3), models, share_prefix=False, pairs_per_shard=pairs_per_shard)
    assert sum(seen) == 3 * 4


def test_a_shared_prompt_is_read_once(reward_folders, caplog):
    models = {"honesty": reward_folders["honesty"]}
    caplog.set_level("INFO", logger="pd_trl.scoring.run")
    data = six_pairs_of_four(30)
    shared = score_pairs(data, models)
    assert "120 distinct conversations" in caplog.text and "(0.0 % of them read" not in caplog.text
    caplog.clear()
    whole = score_pairs(data, models, share_prefix=False)
    assert "(0.0 % of them read" in caplog.text
    assert np.allclose(shared["reward_gap_honesty"], whole["reward_gap_honesty"], atol=1e-5)


@pytest.mark.parametrize("correction,expected", [("penalty", -0.25), ("residual", 0.0), ("none", 0.0)])
def test_the_gap_is_adjusted_as_the_model_was_trained(reward_folders, tmp_path, correction, expected):
    data = tiny_preferences(6)
    raw = score_pairs(data, {"honesty": reward_folders["honesty"]})
    RewardSidecar(length_penalty=0.25, length_correction=correction).save(reward_folders["honesty"])
    try:
        adjusted = score_pairs(data, {"honesty": reward_folders["honesty"]})
        by_argument = score_pairs(data, {"honesty": reward_folders["honesty"]}, length_penalty=0.0)
    finally:
        (Path(reward_folders["honesty"]) / "pd_reward.json").unlink()
    difference = np.subtract(adjusted["reward_gap_honesty"], raw["reward_gap_honesty"])
    assert np.allclose(difference, expected * np.array(raw["delta_length"]), atol=1e-5)
    assert np.allclose(by_argument["reward_gap_honesty"], raw["reward_gap_honesty"])


def test_long_rows_are_truncated_dropped_or_refused(reward_folders, caplog):
    data = tiny_preferences(10)
    models = {"honesty": reward_folders["honesty"]}
    lengths = [max(len(ids) for ids in encode_pair(tiny_tokenizer(), row)) for row in data]
    limit = sorted(lengths)[5]
    long = [length > limit for length in lengths]
    truncated = score_pairs(data, models, max_length=limit)
    assert len(truncated) == 10 and f"{sum(long)} of 10 pairs" in caplog.text
    whole = score_pairs(data, models)
    kept = [not flag for flag in long]
    assert np.allclose(
        np.array(truncated["reward_gap_honesty"])[kept], np.array(whole["reward_gap_honesty"])[kept], atol=1e-5
    )
    assert truncated["delta_length"][:] == whole["delta_length"][:]
    dropped = score_pairs(data, models, max_length=limit, on_long="drop")
    assert dropped["pair_id"][:] == [i for i, keep in zip(data["pair_id"], kept, strict=True) if keep]
    with pytest.raises(InputError, match="longer than"):
        score_pairs(data, models, max_length=limit, on_long="error")
    with pytest.raises(InputError, match="truncate"):
        score_pairs(data, models, max_length=1, on_long="drop")


def test_a_finished_run_is_not_computed_again_and_another_one_is_refused(reward_folders, tmp_path, monkeypatch):
    data = tiny_preferences(10)
    first = score_pairs(data, reward_folders, output_dir=tmp_path, pairs_per_shard=3)
    monkeypatch.setattr(RewardModelScorer, "__call__", lambda self, ids: pytest.fail("scored again"))
    again = score_pairs(data, reward_folders, output_dir=tmp_path, pairs_per_shard=3)
    assert first.to_list() == again.to_list()
    with pytest.raises(InputError, match="data differ"):
        score_pairs(tiny_preferences(10, seed=9), reward_folders, output_dir=tmp_path, pairs_per_shard=3)
    swapped = {**reward_folders, "helpfulness": reward_folders["honesty"]}
    with pytest.raises(InputError, match="model differ"):
        score_pairs(data, swapped, output_dir=tmp_path, pairs_per_shard=3)


def test_batch_is_halved_when_memory_runs_out():
    calls, done = [], []

    def forward(batch):
        calls.append(batch.size)
        if batch.size > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        done.extend(batch.tolist())

    run_batches([np.arange(17)], forward, 5)
    assert sorted(done) == list(range(17)) and calls[0] == 17

    def never(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match="longest has 5 tokens.*max_length"):
        run_batches([np.arange(17)], never, 5)

    def broken(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run_batches([np.arange(17)], broken, 5)


def test_pad_equal_to_eos_and_a_missing_pad_do_not_change_a_score(tmp_path):
    data = tiny_preferences(8)
    found = []
    for name, pad_id, tokenizer in (
        ("pad is eos", 3, tiny_tokenizer(pad_token="<eos>")),
        ("no pad", None, tiny_tokenizer(pad_token=None)),
    ):
        folder = tmp_path / name
        model = tiny_reward_model(0, pad_token_id=pad_id)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        one, many = (score_pairs(data, {"honesty": str(folder)}, tokens_per_batch=size) for size in (1, 5000))
        assert np.allclose(one["reward_gap_honesty"], many["reward_gap_honesty"], atol=1e-6)
        found.append(many["reward_gap_honesty"][:])
    assert np.allclose(*found, atol=1e-6)


def lora_folders(tiny_models, tmp_path, **config) -> dict[str, str]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    folders = {}
    for seed, aspect in enumerate(ASPECTS):
        torch.manual_seed(seed)
        base = AutoModelForSequenceClassification.from_pretrained(tiny_models["reward"], num_labels=1)
        model = get_peft_model(base, LoraConfig(task_type=None, r=2, init_lora_weights=False, **config))
        if config:
            model.base_model.model.score.modules_to_save["default"].weight.data.normal_()
        model.save_pretrained(tmp_path / aspect)
        tiny_tokenizer().save_pretrained(tmp_path / aspect)
        folders[aspect] = str(tmp_path / aspect)
    return folders


def test_lora_adapters_share_one_base_and_score_as_alone(tiny_models, tmp_path, monkeypatch):
    from transformers import AutoModelForSequenceClassification

    folders = lora_folders(tiny_models, tmp_path, modules_to_save=["score"])
    data = tiny_preferences(10)
    loads = []
    load = AutoModelForSequenceClassification.from_pretrained
    monkeypatch.setattr(
        AutoModelForSequenceClassification, "from_pretrained", lambda *a, **k: loads.append(a) or load(*a, **k)
    )
    together = score_pairs(data, folders)
    assert len(loads) == 1
    for aspect, folder in folders.items():
        by_itself = score_pairs(data, {aspect: folder})
        assert np.allclose(together[f"reward_gap_{aspect}"], by_itself[f"reward_gap_{aspect}"], atol=1e-6)
    assert not np.allclose(together["reward_gap_honesty"], together["reward_gap_helpfulness"], atol=1e-3)


def edit_json(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("form", ["file", "home", "beside", "working directory"])
def test_adapters_find_their_base(tiny_models, tmp_path, monkeypatch, form):
    folder = Path(lora_folders(tiny_models, tmp_path, modules_to_save=["score"])["honesty"])
    data = tiny_preferences(4)
    expected = score_pairs(data, {"honesty": folder})["reward_gap_honesty"][:]
    base = tmp_path / "my base"
    shutil.copytree(tiny_models["reward"], base)
    name = {"file": base.as_uri(), "home": "~/my base", "beside": "../my base", "working directory": "my base"}[form]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path if form == "working directory" else tmp_path / "helpfulness")
    edit_json(folder / "adapter_config.json", base_model_name_or_path=name)
    assert np.allclose(score_pairs(data, {"honesty": folder})["reward_gap_honesty"][:], expected, atol=1e-6)


def test_an_adapter_without_a_base_is_refused(tiny_models, tmp_path):
    folder = Path(lora_folders(tiny_models, tmp_path, modules_to_save=["score"])["honesty"])
    for name in (None, ""):
        edit_json(folder / "adapter_config.json", base_model_name_or_path=name)
        with pytest.raises(InputError, match="names no base model: write its path or Hub id into"):
            score_pairs(tiny_preferences(4), {"honesty": folder})


def test_adapters_are_read_with_their_own_template_and_pad_token(tiny_models, tmp_path, caplog):
    folders = lora_folders(tiny_models, tmp_path, modules_to_save=["score"])
    data = tiny_preferences(6, chat=True)
    # One was trained by TRL with a tokenizer without a pad token, which then is EOS; one with a template of its own.
    tiny_tokenizer(pad_token="<eos>").save_pretrained(folders["honesty"])
    tiny_tokenizer(chat_template="the cat " + CHAT_TEMPLATE).save_pretrained(folders["truthfulness"])
    together = score_pairs(data, folders)
    for aspect, folder in folders.items():
        from peft import AutoPeftModelForSequenceClassification
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
        model.config.pad_token_id = tokenizer.pad_token_id
        expected = []
        for row in data:
            with torch.no_grad():
                sides = [model(torch.tensor([ids])).logits.item() for ids in encode_pair(tokenizer, row)]
            expected.append(sides[0] - sides[1])
        assert np.allclose(together[f"reward_gap_{aspect}"], expected, atol=1e-5), aspect


def test_a_reward_model_that_was_merged_in_memory_is_scored(caplog):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False)
    adapted = get_peft_model(tiny_reward_model(), config).eval()
    data, tokenizer = tiny_preferences(6, chat=True), tiny_tokenizer()
    expected = score_pairs(data, {"honesty": (adapted, tokenizer)})["reward_gap_honesty"][:]
    merged = adapted.merge_and_unload()
    # Older versions of peft leave it there.
    merged.peft_config = adapted.peft_config
    caplog.clear()
    found = score_pairs(data, {"honesty": (merged, tokenizer)})["reward_gap_honesty"][:]
    assert np.allclose(found, expected, atol=1e-5) and np.std(found) > 1e-4
    assert "is an adapter" not in caplog.text


def test_another_pad_token_of_an_adapter_takes_no_shards_of_the_first(tiny_models, tmp_path):
    folder = lora_folders(tiny_models, tmp_path, modules_to_save=["score"])["honesty"]
    data = tiny_preferences(6)

    def scored(**said):
        (Path(folder) / "pd_reward.json").write_text(json.dumps(said))
        return score_pairs(data, {"honesty": folder}, output_dir=tmp_path / "scored")

    scored(pad_token_id=1)
    with pytest.raises(InputError, match="shards of another run: model differ"):
        scored(pad_token_id=3)
    scored(pad_token_id=1, train_share=0.5)  # says nothing of the rewards


def test_the_pad_token_of_the_model_counts_and_is_said(reward_folders, tmp_path, caplog):
    folder = shutil.copytree(reward_folders["honesty"], tmp_path / "rm")
    data = tiny_preferences(6)
    expected = score_pairs(data, {"honesty": folder})["reward_gap_honesty"][:]
    assert "pad token" not in caplog.text
    tiny_tokenizer(pad_token="<eos>").save_pretrained(folder)
    found = score_pairs(data, {"honesty": folder})["reward_gap_honesty"][:]
    assert np.allclose(found, expected, atol=1e-6)
    assert "was trained with the pad token '<pad>' (id 1), its tokenizer's is '<eos>' (id 3)" in caplog.text


def test_scoring_leaves_nothing_in_the_cache(reward_folders, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tiny_preferences(24).to_parquet(str(tmp_path / "data.parquet"))
    data = datasets.load_dataset("parquet", data_files=str(tmp_path / "data.parquet"), split="train")
    before = sorted(path for path in tmp_path.rglob("*.arrow"))
    assert before
    for rows in (data, data.shuffle(seed=0, keep_in_memory=True), data.select([5, 1, 9, 3])):
        for on_long in ("truncate", "drop"):
            scored = score_pairs(rows, {"honesty": reward_folders["honesty"]}, max_length=24, on_long=on_long)
            assert scored.column_names[-2:] == ["reward_gap_honesty", "delta_length"]
    assert sorted(path for path in tmp_path.rglob("*.arrow")) == before


def test_unusable_models_are_refused(tiny_models, tmp_path):
    data = tiny_preferences(4)
    with pytest.raises(InputError, match="score.weight.*not a trained reward model"):
        score_pairs(data, {"honesty": tiny_models["causal"]})
    two = tmp_path / "two"
    tiny_reward_model().__class__(
        tiny_reward_model().config.__class__(
            **{**tiny_reward_model().config.to_dict(), "num_labels": 2, "id2label": None, "label2id": None}
        )
    ).save_pretrained(two)
    tiny_tokenizer().save_pretrained(two)
    with pytest.raises(InputError, match="2 outputs"):
        score_pairs(data, {"honesty": str(two)})
    with pytest.raises(InputError, match="without its reward head"):
        score_pairs(data, lora_folders({"reward": tiny_models["causal"]}, tmp_path))
    with pytest.raises(InputError, match="no folder ./nowhere"):
        score_pairs(data, {"honesty": "./nowhere"})
    with pytest.raises(InputError, match="cannot be reached"):
        score_pairs(data, {"honesty": "me/rm-honesty"})
    with pytest.raises(TypeError, match="dict of aspect to model"):
        score_pairs(data, [tiny_models["reward"]])
    plain = tmp_path / "plain"
    tiny_reward_model().save_pretrained(plain)
    tiny_tokenizer(chat_template=None).save_pretrained(plain)
    with pytest.raises(InputError, match="no chat template"):
        score_pairs(tiny_preferences(4, chat=True), {"honesty": str(plain)})
    (plain / "tokenizer.json").unlink()
    (plain / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="No tokenizer"):
        score_pairs(data, {"honesty": str(plain)})


def test_models_in_memory(reward_folders):
    data = tiny_preferences(6)
    model = tiny_reward_model(1)
    model.score.weight.data.mul_(50)
    from_memory = score_pairs(data, {"honesty": (model, tiny_tokenizer())})
    from_folder = score_pairs(data, {"honesty": reward_folders["honesty"]})
    assert np.allclose(from_memory["reward_gap_honesty"], from_folder["reward_gap_honesty"], atol=1e-6)


SCRIPT = Path(__file__).with_name("score_in_process.py")


@pytest.mark.multiprocess
def test_two_processes_share_the_shards(reward_folders, tmp_path):
    run = run_processes(2, [str(SCRIPT), str(tmp_path), *reward_folders.values()])
    assert run.returncode == 0, run.stderr[-3000:]
    expected = gaps_by_id(score_pairs(tiny_preferences(120), reward_folders))
    for rank in range(2):
        found = np.load(tmp_path / f"rank{rank}.npy")
        assert np.abs(found - np.array(list(expected.values()))).max() < 1e-5


@pytest.mark.slow
@pytest.mark.multiprocess
def test_kill_and_resume(reward_folders, tmp_path):
    """kill -9 at random moments, each followed by the same command, until one run ends."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), *reward_folders.values()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SLOW_SCORING": "0.02"}
    generator = random.Random(0)
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        before = len(list(tmp_path.rglob("*.done")))
        deadline = time.monotonic() + 90
        wanted = before + generator.randint(1, 18)
        while process.poll() is None and time.monotonic() < deadline and kills < 4:
            if len(list(tmp_path.rglob("*.done"))) >= wanted:
                time.sleep(generator.random() * 0.03)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        if process.wait(timeout=120) == 0:
            break
    assert kills >= 2 and process.returncode == 0
    expected = np.array(list(gaps_by_id(score_pairs(tiny_preferences(120), reward_folders)).values()))
    assert np.abs(np.load(tmp_path / "rank0.npy") - expected).max() < 1e-5


@pytest.mark.slow
@pytest.mark.multiprocess
def test_of_four_processes_one_is_killed_and_its_shard_is_done_by_another(reward_folders, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SLOW_SCORING": "0.1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), *reward_folders.values()],
            env={**environment, "RANK": str(rank)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(4)
    ]
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("*.done")) and time.monotonic() < deadline:
        time.sleep(0.02)
    processes[0].kill()
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0, 0], said
    expected = np.array(list(gaps_by_id(score_pairs(tiny_preferences(120), reward_folders)).values()))
    for rank in range(1, 4):
        assert np.abs(np.load(tmp_path / f"rank{rank}.npy") - expected).max() < 1e-5
