import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import LlamaForSequenceClassification, TrainerCallback
from trl import RewardConfig, RewardTrainer

from pd_trl.errors import InputError
from pd_trl.method.accuracy import half_of_prompts, pair_metrics
from pd_trl.method.length import PENALTY_RULES
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.trainers.reward.heads.batches import AspectBalancedSampler
from pd_trl.trainers.reward.sampler import LengthBalancedSampler
from tests.processes import run_processes
from tests.tiny import ASPECTS, tiny_preferences, tiny_tokenizer
from tests.trainers.reward.test_trainer import NEUTRAL, losses, make


def heads(tiny_models, aspects=ASPECTS, seed: int = 0) -> MultiAspectRewardModel:
    torch.manual_seed(seed)
    return MultiAspectRewardModel.from_backbone(tiny_models["causal"], aspects)


def one_head_like(tiny_models) -> MultiAspectRewardModel:
    """A model of one head with the weights of `tiny_models["reward"]`."""
    model = MultiAspectRewardModel.from_backbone(tiny_models["reward"], ["honesty"])
    theirs = LlamaForSequenceClassification.from_pretrained(tiny_models["reward"])
    model.score.load_state_dict(theirs.score.state_dict())
    return model


def of_one_aspect(count: int, **kwargs):
    data = tiny_preferences(count, **kwargs)
    return data.remove_columns("aspect").add_column("aspect", ["honesty"] * count)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"center_rewards_coefficient": 0.1},
        {"gradient_checkpointing": True},
        {"train_sampling_strategy": "group_by_length", "length_balance_temperature": 1.0, "length_penalty": 0.05},
    ],
    ids=str,
)
def test_one_head_trains_as_a_single_output(tiny_models, tmp_path, config):
    data = of_one_aspect(24).add_column("margin", [0.1 * (i % 4) for i in range(24)])
    own = {k: v for k, v in config.items() if not k.startswith(("length", "train"))}
    neutral = {**NEUTRAL, "margin_column": "margin"}
    ours = make(one_head_like(tiny_models), tmp_path / "a", data, {**neutral, **config})
    if own == config:
        theirs = make(tiny_models["reward"], tmp_path / "b", data, own, RewardTrainer, RewardConfig)
    else:
        theirs = make(tiny_models["reward"], tmp_path / "b", data, {**neutral, **config})
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-6)
    for (name, a), (_, b) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0, msg=name)


def test_loss_of_mixed_rows_is_that_of_their_own_heads(tiny_models, tmp_path):
    data = tiny_preferences(12, seed=3)
    model = heads(tiny_models)
    config = dict(per_device_train_batch_size=12, length_penalty=0.05, length_balance_temperature=None)
    trainer = make(model, tmp_path, data, config)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    own = [ASPECTS.index(row["aspect"]) for row in data]
    by_head = {}
    for head in range(3):
        rows = [i for i in range(12) if own[i] == head]
        expected = []
        for i in rows:
            sides = [trainer.train_dataset[i][side] for side in ("chosen_ids", "rejected_ids")]
            chosen, rejected = (model(torch.tensor([ids])).logits[0, head] for ids in sides)
            logit = chosen - rejected - 0.05 * (len(sides[0]) - len(sides[1]))
            expected.append(torch.nn.functional.softplus(-logit))
        by_head[head] = torch.stack(expected)
    torch.testing.assert_close(loss, torch.cat(list(by_head.values())).mean(), atol=1e-6, rtol=0)


def test_lengths_are_balanced_within_each_aspect(tiny_models, tmp_path):
    rows = tiny_preferences(60).to_list()
    # All pairs of helpfulness but two have the longer chosen response, of honesty all but two the shorter one.
    for i, row in enumerate(rows):
        long, short = "the cat sees the dog and the bird .", "the fish ."
        most = {"helpfulness": True, "honesty": False}.get(row["aspect"], i % 2 == 0)
        longer = most if i > 5 else not most
        row["chosen"], row["rejected"] = (long, short) if longer else (short, long)
    data = Dataset.from_list(rows)
    config = dict(num_train_epochs=1, length_balance_temperature=float("inf"))
    trainer = make(heads(tiny_models), tmp_path, data, config)
    seen: dict[str, list[int]] = {aspect: [] for aspect in ASPECTS}
    inner = trainer.data_collator

    def collator(examples):
        for example in examples:
            seen[example["aspect"]].append(len(example["chosen_ids"]) - len(example["rejected_ids"]))
        return inner(examples)

    trainer.data_collator = collator
    trainer.train()
    for aspect, deltas in seen.items():
        assert len(deltas) == 20, aspect
        assert sum(delta >= 0 for delta in deltas) == 10, aspect


def test_sampler_of_one_aspect_is_the_plain_one():
    delta = np.random.default_rng(0).integers(-5, 9, 40)
    ours = AspectBalancedSampler(delta, np.zeros(40, int), temperature=0.7, seed=5)
    plain = LengthBalancedSampler(delta, 0.7, 5)
    assert all(np.array_equal(ours.indices(epoch), plain.indices(epoch)) for epoch in range(3))
    assert len(ours) == len(plain) == 40


@pytest.mark.parametrize("rule", PENALTY_RULES)
def test_metrics_and_penalty_of_each_aspect(tiny_models, tmp_path, rule):
    data, test = tiny_preferences(12), tiny_preferences(23, seed=5)
    found = []
    for size in (2, 23):
        trainer = make(
            heads(tiny_models),
            tmp_path,
            data,
            dict(length_penalty=rule, per_device_eval_batch_size=size),
            eval_dataset=test,
        )
        found.append(trainer.evaluate())
    gaps, deltas = [], []
    for row in trainer.eval_dataset:
        sides = [row[side] for side in ("chosen_ids", "rejected_ids")]
        with torch.no_grad():
            a, b = (trainer.model(torch.tensor([ids])).logits[0, ASPECTS.index(row["aspect"])].item() for ids in sides)
        gaps.append(a - b)
        deltas.append(len(sides[0]) - len(sides[1]))
    gaps, deltas = np.array(gaps), np.array(deltas)
    labels, keys = np.array(test["aspect"]), np.array(trainer.eval_dataset["pd_pair_keys"][:])
    # The penalty of an aspect is chosen on half of its prompts, its accuracy is that on the others.
    adjusted, measured, penalties = gaps.copy(), np.zeros(gaps.size, dtype=bool), {}
    for aspect in ASPECTS:
        own = np.flatnonzero(labels == aspect)
        half = half_of_prompts(*keys[own].T, trainer.args.seed)
        penalties[aspect] = PENALTY_RULES[rule](gaps[own[half]], deltas[own[half]])
        adjusted[own] -= penalties[aspect] * deltas[own]
        measured[own[~half]] = True
    for metrics in found:
        assert metrics["eval_pair_accuracy"] == pytest.approx((adjusted[measured] > 0).mean())
        assert metrics["eval_raw_pair_accuracy"] == pytest.approx((gaps[measured] > 0).mean())
        for aspect, rho in penalties.items():
            own = (labels == aspect) & measured
            for key, value in pair_metrics(adjusted[own], deltas[own]).items():
                assert metrics[f"eval_{key}_{aspect}"] == pytest.approx(value, abs=1e-3), key
            assert metrics[f"eval_length_penalty_{aspect}"] == pytest.approx(rho, abs=1e-6)
            assert trainer.sidecar_.of_head(aspect).length_penalty == pytest.approx(rho, abs=1e-6)
    trainer.save_model()
    assert RewardSidecar.load(tmp_path) == trainer.sidecar_
    assert RewardSidecar.load(tmp_path, "honesty") == trainer.sidecar_.of_head("honesty")


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_resume_equals_an_uninterrupted_run(tiny_models, tmp_path, strategy):
    config = dict(num_train_epochs=3, save_strategy="steps", save_steps=4, train_sampling_strategy=strategy)
    data = tiny_preferences(24)
    whole = make(heads(tiny_models), tmp_path / "whole", data, config)
    whole.train()
    first = make(heads(tiny_models), tmp_path / "cut", data, config)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 9

    first.add_callback(Stop())
    first.train()
    second = make(heads(tiny_models, seed=1), tmp_path / "cut", data, config)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-8"))
    assert second.state.global_step == whole.state.global_step == 18
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)


def test_a_saved_model_is_trained_further_by_its_path(tiny_models, tmp_path):
    data = tiny_preferences(12)
    first = make(heads(tiny_models), tmp_path / "one", data, {**NEUTRAL, "max_steps": 2})
    first.train()
    first.save_model()
    second = make(str(tmp_path / "one"), tmp_path / "two", data, {**NEUTRAL, "max_steps": 1})
    assert isinstance(second.model, MultiAspectRewardModel) and second.model.aspects == list(ASPECTS)
    assert torch.equal(second.model.score.weight, first.model.score.weight)
    losses(second)


def test_stream_of_rows(tiny_models, tmp_path):
    config = {**NEUTRAL, "max_steps": 2}
    losses(make(heads(tiny_models), tmp_path, tiny_preferences(16).to_iterable_dataset(), config))
    wrong = tiny_preferences(16).map(lambda row: {"aspect": "style"}).to_iterable_dataset()
    with pytest.raises(InputError, match="no head, .* with 'style'"):
        make(heads(tiny_models), tmp_path, wrong, config).train()


def test_rows_without_a_head_are_refused(tiny_models, tmp_path):
    data = tiny_preferences(6)
    with pytest.raises(InputError, match="2 rows have an aspect .* no head, the first of them row 1 with 'honesty'"):
        make(heads(tiny_models, ("helpfulness", "truthfulness")), tmp_path, data)
    with pytest.raises(InputError, match="needs the column 'aspect'"):
        make(heads(tiny_models), tmp_path, data.remove_columns("aspect"))
    with pytest.raises(InputError, match="eval set needs the column 'aspect'"):
        make(heads(tiny_models), tmp_path, data, eval_dataset=data.remove_columns("aspect"))


def test_sidecar_with_broken_heads_is_refused(tmp_path):
    path = tmp_path / "pd_reward.json"
    for broken in ({"honesty": 3}, {"honesty": {"colour": 1}}, ["honesty"], {"honesty": {"length_penalty": "x"}}):
        path.write_text(json.dumps({"heads": broken}))
        with pytest.raises(InputError, match="pd_reward.json"):
            RewardSidecar.load(tmp_path)


def test_shared_prefixes_change_nothing(tiny_models, tmp_path):
    data = tiny_preferences(24)
    data = data.map(lambda row: {"prompt": row["prompt"] * 3})
    found = []
    for share in (False, True):
        trainer = make(heads(tiny_models), tmp_path / str(share), data, {**NEUTRAL, "share_prefix": share})
        found.append(losses(trainer))
    assert trainer.prefix_sharing_.shared > 0
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_train_the_same_heads(tiny_models, tmp_path):
    model = heads(tiny_models)
    model.save_pretrained(tmp_path / "start")
    tiny_tokenizer().save_pretrained(tmp_path / "start")
    run = run_processes(2, [str(Path(__file__).with_name("two_processes.py")), str(tmp_path / "start"), str(tmp_path)])
    assert run.returncode == 0, run.stderr[-3000:]
    config = dict(num_train_epochs=2, per_device_train_batch_size=8)
    one = make(model, tmp_path / "one", tiny_preferences(40), config, eval_dataset=tiny_preferences(17, seed=5))
    one.train()
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, two["state"][name], atol=2e-4, rtol=0, msg=name)
    metrics = one.evaluate()
    # The penalty is chosen on half of the prompts, and the accuracy is that on the other half.
    assert two["num_pairs"] == metrics["eval_num_pairs"] == 8
    for aspect in ASPECTS:
        assert two[aspect] == pytest.approx(metrics[f"eval_pair_accuracy_{aspect}"])
