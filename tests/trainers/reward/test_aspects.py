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

from pd_trl import PDRewardConfig, score_pairs, train_aspect_rewards
from pd_trl.errors import InputError
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.runs.artifacts import Manifest
from pd_trl.runs.checkpoints import last_checkpoint
from pd_trl.runs.training_fields import training_identity
from pd_trl.trainers.reward.aspects import heldout_rows
from tests.processes import ROOT
from tests.tiny import ASPECTS, WORDS, tiny_preferences, tiny_tokenizer

CPU = dict(
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
    per_device_train_batch_size=8,
    save_strategy="no",
    learning_rate=2e-2,
    num_train_epochs=8,
)


def learnable(count: int = 240, seed: int = 0) -> Dataset:
    """Each aspect prefers the response that starts with its own word; nothing decides the last aspect."""
    generator = random.Random(seed)
    favourite = {"helpfulness": ("cat", "dog"), "honesty": ("red", "blue")}
    rows = []
    for i in range(count):
        aspect = ASPECTS[i % 3]
        words = list(favourite.get(aspect, ("tree", "tree")))
        tail = [" ".join(generator.sample(WORDS, 3)) + end for end in (" a", " the")]
        generator.shuffle(tail)
        rows.append(
            {
                "pair_id": f"p{i:04d}",
                "prompt_id": f"q{i // 4}",
                "prompt": f"the {generator.choice(WORDS)} ",
                "chosen": f"{words[0]} {tail[0]} .",
                "rejected": f"{words[1]} {tail[1]} .",
                "aspect": aspect,
            }
        )
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def trained(tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    args = PDRewardConfig("unused", **CPU)
    return folder, train_aspect_rewards(learnable(), tiny_models["causal"], folder, args=args, heldout=0.25)


def test_learns_what_can_be_learnt_and_says_what_cannot(trained, caplog, tiny_models):
    folder, rewards = trained
    assert list(rewards) == sorted(ASPECTS)
    for aspect in ("helpfulness", "honesty"):
        assert rewards[aspect].metrics["pair_accuracy"] > 0.9
    assert rewards["truthfulness"].metrics["pair_accuracy"] < 0.8
    # The accuracy is that on the pairs of half of the held-out prompts.
    assert all(0 < reward.metrics["num_pairs"] < 80 - reward.num_train for reward in rewards.values())
    sidecar = RewardSidecar.load(rewards["honesty"].path)
    assert sidecar.aspect == "honesty" and sidecar.metrics == rewards["honesty"].metrics
    from pd_trl.trainers.reward.aspects import warn_of_weakness

    warn_of_weakness("truthfulness", rewards["truthfulness"].metrics)
    assert "'truthfulness' is no better than a coin" in caplog.text


def test_heldout_prompts_are_shared_by_no_training_pair():
    data = learnable()
    mask = heldout_rows(data, 0.25, 42)
    prompts = np.array(data["prompt_id"])
    assert len(set(prompts[mask])) == 15 and not set(prompts[mask]) & set(prompts[~mask])
    backwards = data.select(range(len(data) - 1, -1, -1))
    assert np.array_equal(heldout_rows(backwards, 0.25, 42)[::-1], mask)
    assert not np.array_equal(heldout_rows(data, 0.25, 1), mask)


def test_scores_with_the_trained_models_separate_the_words(trained):
    folder, rewards = trained
    scored = score_pairs(learnable(60, seed=9), {aspect: reward.path for aspect, reward in rewards.items()})
    gaps = np.array(scored["reward_gap_honesty"])
    labels = np.array(scored["aspect"])
    assert (gaps[labels == "honesty"] > 0).mean() > 0.9


def test_a_second_call_trains_nothing_again(trained, tiny_models, monkeypatch):
    folder, rewards = trained
    monkeypatch.setattr("pd_trl.trainers.reward.aspects.PDRewardTrainer", lambda **k: pytest.fail("trained again"))
    again = train_aspect_rewards(
        learnable(), tiny_models["causal"], folder, args=PDRewardConfig("other", **CPU), heldout=0.25
    )
    assert again == rewards


def test_lora_shares_one_base(tiny_models, tmp_path, monkeypatch):
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification

    loads = []
    load = AutoModelForSequenceClassification.from_pretrained
    monkeypatch.setattr(
        AutoModelForSequenceClassification, "from_pretrained", lambda *a, **k: loads.append(a) or load(*a, **k)
    )
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8)
    rewards = train_aspect_rewards(
        learnable(), tiny_models["causal"], tmp_path, args=PDRewardConfig("x", **CPU), peft_config=config, heldout=0.25
    )
    assert {str(load[0]) for load in loads} == {tiny_models["causal"]}
    assert (tmp_path / "honesty" / "adapter_config.json").is_file()
    assert rewards["helpfulness"].metrics["pair_accuracy"] > 0.9 and rewards["honesty"].metrics["pair_accuracy"] > 0.9
    scored = score_pairs(learnable(60, seed=9), {aspect: reward.path for aspect, reward in rewards.items()})
    labels = np.array(scored["aspect"])
    for aspect in ("helpfulness", "honesty"):
        assert (np.array(scored[f"reward_gap_{aspect}"])[labels == aspect] > 0).mean() > 0.9


def test_refuses(tiny_models, tmp_path):
    args = PDRewardConfig("x", **CPU)
    one_row = Dataset.from_list([*learnable(9).to_list(), {**learnable(1)[0], "pair_id": "x", "aspect": "humour"}])
    with pytest.raises(InputError, match="'humour' has 1 pairs"):
        train_aspect_rewards(one_row, tiny_models["causal"], tmp_path, args=args, heldout=0.0, aspects=["humour"])
    with pytest.raises(InputError, match="heldout"):
        train_aspect_rewards(learnable(9), tiny_models["causal"], tmp_path, args=args, heldout=1.0)
    with pytest.raises(InputError, match="style"):
        train_aspect_rewards(learnable(9), tiny_models["causal"], tmp_path, args=args, aspects=["style"])
    unsafe = learnable(9).map(lambda row: {"aspect": "../" + row["aspect"]})
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        train_aspect_rewards(unsafe, tiny_models["causal"], tmp_path, args=args)
    one_prompt = tiny_preferences(9).map(lambda row: {"prompt": "the cat "})
    with pytest.raises(InputError, match="two of them"):
        train_aspect_rewards(one_prompt, tiny_models["causal"], tmp_path, args=args)


STARTS = {
    "full": None,
    "head of PEFT": dict(task_type="SEQ_CLS"),
    "head and embeddings": dict(modules_to_save=["score", "embed_tokens"]),
    "biases": dict(task_type="SEQ_CLS", bias="all"),
    "weights made for LoRA": dict(task_type="SEQ_CLS", init_lora_weights="pissa"),
}


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("left", ["a finished model", "a checkpoint"])
def test_what_another_run_left_is_neither_trained_over_nor_taken_for_this_ones(tiny_models, tmp_path, left, resume):
    other, folder = Manifest("reward", arguments={"seed": 1}), tmp_path / ASPECTS[0]
    checkpoint = folder / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text("theirs")
    (checkpoint / "trainer_state.json").write_text('{"global_step": 4}')
    if left == "a checkpoint":
        last_checkpoint(folder, other)
    else:
        shutil.rmtree(checkpoint)
        other.save(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="of other data, another base|with other data, model"):
        train_aspect_rewards(
            learnable(60), tiny_models["causal"], tmp_path, args=PDRewardConfig(str(tmp_path), **CPU), resume=resume,
            aspects=[ASPECTS[0]],
        )  # fmt: skip
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", STARTS)
def test_each_aspect_starts_from_the_same_weights(tiny_models, tmp_path, name):
    """Alone, second, or with the others done already: the same weights, bit for bit."""
    from peft import LoraConfig
    from safetensors.torch import load_file

    args = PDRewardConfig("x", **{**CPU, "num_train_epochs": 1, "max_steps": 2})
    data = learnable(72)

    def train(folder, *aspects):
        peft_config = LoraConfig(r=2, **STARTS[name]) if STARTS[name] is not None else None
        train_aspect_rewards(
            data,
            tiny_models["causal"],
            tmp_path / folder,
            args=args,
            aspects=aspects,
            peft_config=peft_config,
            heldout=0.2,
        )
        file = next((tmp_path / folder / "honesty").glob("*model.safetensors"))
        return load_file(file), RewardSidecar.load(tmp_path / folder / "honesty").metrics

    alone, metrics = train("alone", "honesty")
    second = train("both", "helpfulness", "honesty")
    shutil.rmtree(tmp_path / "both" / "honesty")
    for weights, measured in (second, train("both", "honesty", "helpfulness")):
        assert weights.keys() == alone.keys() and measured == metrics
        assert all(torch.equal(weights[key], alone[key]) for key in alone)


@pytest.mark.parametrize("adapter,heads", [(True, False), (True, True), (False, False)])
def test_the_pad_token_of_training_is_that_of_scoring(tiny_models, tmp_path, adapter, heads):
    """The tokenizer has no pad token, so that TRL trains with EOS; the base's configuration names another one."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    for name, pad in (("agrees", None), ("differs", 1)):
        model = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
        model.config.pad_token_id = pad
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer(pad_token=None).save_pretrained(tmp_path / name)
    args = PDRewardConfig("x", **{**CPU, "max_steps": 4, "length_penalty": 0.0})
    data = learnable(36)
    gaps = []
    for name in ("agrees", "differs"):
        rewards = train_aspect_rewards(
            data, str(tmp_path / name), tmp_path / f"rewards-{name}", args=args, heads=heads,
            aspects=ASPECTS[:2], peft_config=LoraConfig(task_type="SEQ_CLS", r=2) if adapter else None,
        )  # fmt: skip
        assert RewardSidecar.load(rewards["honesty"].path).pad_token_id == 3
        scored = score_pairs(data, {aspect: reward.path for aspect, reward in rewards.items()})
        gaps.append(np.array([scored[f"reward_gap_{aspect}"] for aspect in ASPECTS[:2]]))
        if adapter and name == "differs":
            # Without the record, as after TRL's own trainer: the tokenizer that was saved says it.
            for reward in rewards.values():
                path = Path(reward.path) / "pd_reward.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": None}))
            again = score_pairs(data, {aspect: reward.path for aspect, reward in rewards.items()})
            np.testing.assert_allclose(np.array(again["reward_gap_honesty"]), gaps[1][1], atol=1e-6)
    np.testing.assert_allclose(gaps[0], gaps[1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_kill_and_resume(tiny_models, tmp_path):
    """kill -9 at random moments of reward training, then the same command: the scores of an uninterrupted run."""
    script = str(Path(__file__).with_name("train_in_process.py"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    generator = random.Random(1)

    def start(folder):
        command = [sys.executable, script, tiny_models["causal"], str(folder)]
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    kills = 0
    for _ in range(8):
        process = start(tmp_path / "killed")
        seen = len(list((tmp_path / "killed").glob("*/checkpoint-*")))
        while process.poll() is None and kills < 3:
            if len(list((tmp_path / "killed").glob("*/checkpoint-*"))) > seen + generator.randint(0, 1):
                time.sleep(generator.random() * 0.3)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()[-2000:]
    assert kills == 3 and process.returncode == 0
    whole = start(tmp_path / "whole")
    assert whole.wait(timeout=120) == 0
    data = learnable(30, seed=3)
    found, expected = (
        score_pairs(data, {a: str(tmp_path / name / a) for a in ASPECTS}) for name in ("killed", "whole")
    )
    for aspect in ASPECTS:
        assert np.allclose(found[f"reward_gap_{aspect}"], expected[f"reward_gap_{aspect}"], atol=1e-5)
    metrics = [RewardSidecar.load(tmp_path / name / "honesty").metrics for name in ("killed", "whole")]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)


def test_identity_of_a_training_holds_no_token_however_deep(tmp_path):
    args = PDRewardConfig(
        str(tmp_path), use_cpu=True, bf16=False, hub_token="hf_secret",
        model_init_kwargs={"token": "hf_secret", "revision": "main", "nested": [{"token": "hf_secret"}]},
    )  # fmt: skip
    identity = training_identity(args)
    assert "hf_secret" not in json.dumps(identity, default=str)
    assert identity["model_init_kwargs"] == {"nested": [{}]}
