"""Heads that read the mean over the response: losses, resume, frozen backbones, adapters and their identity."""

import json

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from pd_trl import PDRewardConfig, score_pairs, train_aspect_rewards
from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.runs.model_identity import model_key
from pd_trl.runs.training_fields import training_identity
from tests.tiny import ASPECTS, tiny_preferences
from tests.trainers.reward.test_aspects import CPU
from tests.trainers.reward.test_trainer import NEUTRAL, make

READING = {"pooling": "mean", "layers": [1, 2], "standardize": True}


def heads(tiny_models, seed: int = 0, **reading) -> MultiAspectRewardModel:
    torch.manual_seed(seed)
    return MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASPECTS, **(reading or READING))


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("chat", [False, True])
def test_the_loss_reads_the_responses(tiny_models, tmp_path, chat):
    data = tiny_preferences(8, seed=3, chat=chat)
    model = heads(tiny_models, pooling="mean")
    trainer = make(model, tmp_path, data, {**NEUTRAL, "per_device_train_batch_size": 8})
    loss = trainer.compute_loss(trainer.model, dict(next(iter(trainer.get_train_dataloader()))))
    expected, tokenizer = [], trainer.processing_class
    for i, row in enumerate(data):
        if chat:
            begin = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
        else:
            begin = tokenizer(row["prompt"])["input_ids"]
        rewards = []
        for side in ("chosen_ids", "rejected_ids"):
            ids = trainer.train_dataset[i][side]
            assert ids[: len(begin)] == begin
            mask = torch.tensor([[0] * len(begin) + [1] * (len(ids) - len(begin))])
            rewards.append(model(torch.tensor([ids]), response_mask=mask).logits[0, ASPECTS.index(row["aspect"])])
        expected.append(torch.nn.functional.softplus(rewards[1] - rewards[0]))
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frozen", [False, True])
def test_resume_equals_an_uninterrupted_run(tiny_models, tmp_path, frozen):
    config = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3, "freeze_backbone": frozen}
    data = tiny_preferences(18)
    whole = make(heads(tiny_models), tmp_path / "whole", data, config)
    whole.train()

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 4

    first = make(heads(tiny_models), tmp_path / "cut", data, config)
    first.add_callback(Stop())
    first.train()
    second = make(heads(tiny_models), tmp_path / "cut", data, config)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert second.state.global_step == whole.state.global_step > 4
    assert_same(weights(second), weights(whole))
    assert whole.model.score.is_measured


def test_a_frozen_backbone_trains_the_heads_alone_as_without_a_cache(tiny_models, tmp_path):
    config, data = {**NEUTRAL, "num_train_epochs": 3}, tiny_preferences(12)
    cached = make(heads(tiny_models), tmp_path / "a", data, {**config, "freeze_backbone": True}, eval_dataset=data)
    before = weights(cached)
    cached.train()
    plain = make(heads(tiny_models), tmp_path / "b", data, config)
    plain.model.model.requires_grad_(False)
    plain.train()
    assert_same(weights(cached), weights(plain))
    changed = {name for name, value in weights(cached).items() if not torch.equal(value, before[name])}
    assert changed == {"score.weight", "score.mean", "score.scale"}
    assert len(cached.frozen_features_.known) == 24
    metrics = cached.evaluate()
    assert len(cached.frozen_features_.known) == 24 and 0 <= metrics["eval_pair_accuracy"] <= 1
    scored = score_pairs(data, dict.fromkeys(ASPECTS, (cached.model, cached.processing_class)))
    right = np.mean([row[f"reward_gap_{row['aspect']}"] > 0 for row in scored])
    assert right == pytest.approx(metrics["eval_raw_pair_accuracy"])


@pytest.mark.parametrize("adapter", [False, True])
def test_what_was_trained_is_scored_alike_from_disk(tiny_models, tmp_path, adapter):
    from peft import LoraConfig

    data = tiny_preferences(24)
    peft_config = LoraConfig(task_type="SEQ_CLS", r=2) if adapter else None
    args = PDRewardConfig("unused", **{**CPU, "max_steps": 3, "length_penalty": 0.0, **READING})
    found = train_aspect_rewards(data, tiny_models["causal"], tmp_path, args=args, heads=True, peft_config=peft_config)
    folder = tmp_path / "heads"
    assert RewardSidecar.load(folder).reading == READING
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "The heads read the mean over the response's tokens, at layers 1, 2" in card and "score_responses(" in card
    models = {aspect: reward.path for aspect, reward in found.items()}
    expected, alone = (
        score_pairs(data, models, **how) for how in ({"tokens_per_batch": 4096}, {"tokens_per_batch": 1})
    )
    for aspect in ASPECTS:
        gaps = np.asarray(expected[f"reward_gap_{aspect}"][:])
        assert np.ptp(gaps) > 1e-4
        np.testing.assert_allclose(gaps, alone[f"reward_gap_{aspect}"][:], atol=1e-5)
    if adapter:
        # An adapter's base does not say what the heads read.
        key, path = model_key(folder), folder / "pd_reward.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "reading": {**READING, "layers": [1]}}))
        assert model_key(folder) != key
        path.write_text(json.dumps({**content, "reading": {"pooling": "sum"}}))
        with pytest.raises(InputError, match="pooling"):
            score_pairs(data, models)


def test_the_identity_of_a_training_knows_what_is_read(tmp_path):
    plain = training_identity(PDRewardConfig(str(tmp_path), **CPU))
    assert not {"pooling", "layers", "standardize", "freeze_backbone"} & set(plain)
    assert PDRewardConfig(str(tmp_path), **CPU, standardize=False).reading == {"standardize": False}
    for name, value in {**READING, "freeze_backbone": True}.items():
        assert training_identity(PDRewardConfig(str(tmp_path), **CPU, **{name: value}))[name] == value


def test_heads_on_a_frozen_backbone_read_the_mean_at_two_thirds_of_its_depth(tiny_models, tmp_path):
    args = PDRewardConfig("unused", **{**CPU, "max_steps": 2, "freeze_backbone": True})
    train_aspect_rewards(tiny_preferences(24), tiny_models["causal"], tmp_path / "a", args=args, heads=True)
    assert RewardSidecar.load(tmp_path / "a" / "heads").reading == {
        "pooling": "mean",
        "layers": [1],
        "standardize": True,
    }
    args = PDRewardConfig(
        "unused", **{**CPU, "max_steps": 2, "freeze_backbone": True, "pooling": "last", "layers": [2]}
    )
    train_aspect_rewards(tiny_preferences(24), tiny_models["causal"], tmp_path / "b", args=args, heads=True)
    assert RewardSidecar.load(tmp_path / "b" / "heads").reading == {"layers": [2], "standardize": True}


def test_arguments_of_heads_are_refused_where_they_do_nothing(tiny_models, tmp_path):
    data = tiny_preferences(6)
    with pytest.raises(InputError, match="`pooling` is for a model with heads"):
        make(tiny_models["causal"], tmp_path, data, {"pooling": "mean"})
    with pytest.raises(InputError, match="read pooling='mean', and the training arguments say 'last'"):
        make(heads(tiny_models), tmp_path, data, {"pooling": "last"})
    tokens = data.map(lambda row: {"chosen_ids": [4, 5], "rejected_ids": [5, 4]})
    with pytest.raises(InputError, match="'chosen_response_tokens' and 'rejected_response_tokens'"):
        make(heads(tiny_models), tmp_path, tokens.select_columns(["chosen_ids", "rejected_ids", "aspect"]), {})
