import inspect
import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, TrainerCallback
from trl import RewardConfig, RewardTrainer

from pd_trl import PDRewardConfig, PDRewardTrainer, score_pairs
from pd_trl.errors import InputError
from pd_trl.method.accuracy import half_of_prompts
from pd_trl.method.length import PENALTY_RULES
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.trainers.reward import saved_head
from tests.processes import run_processes
from tests.tiny import tiny_preferences

CPU = dict(
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
    per_device_train_batch_size=4,
    logging_steps=1,
    save_strategy="no",
    disable_tqdm=True,
    learning_rate=1e-2,
)
NEUTRAL = dict(length_penalty=0.0, length_balance_temperature=None)
FORMATS = [dict(chat=c, implicit=i) for c in (False, True) for i in (False, True)]


def losses(trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def make(model, folder, data, config=None, trainer_class=PDRewardTrainer, config_class=PDRewardConfig, **kwargs):
    args = config_class(str(folder), **{**CPU, **(config or {})})
    return trainer_class(model=model, args=args, train_dataset=data, **kwargs)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_neutral_settings_equal_trl_loss_for_loss(tiny_models, tmp_path, form):
    data = tiny_preferences(24, **form)
    ours = make(tiny_models["reward"], tmp_path / "a", data, NEUTRAL)
    theirs = make(tiny_models["reward"], tmp_path / "b", data, {}, RewardTrainer, RewardConfig)
    assert losses(ours) == losses(theirs)
    for (name, mine), (_, trl) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        assert torch.equal(mine, trl), name


def test_a_cpu_trains_in_bfloat16_as_trl_does(tiny_models, tmp_path):
    data = tiny_preferences(24)
    half = losses(make(tiny_models["reward"], tmp_path / "a", data, {**NEUTRAL, "bf16": True}))
    theirs = losses(make(tiny_models["reward"], tmp_path / "b", data, {"bf16": True}, RewardTrainer, RewardConfig))
    whole = losses(make(tiny_models["reward"], tmp_path / "c", data, NEUTRAL))
    assert half == theirs and half != whole
    assert half == pytest.approx(whole, abs=0.02)


def batch_of(trainer):
    return {k: v for k, v in next(iter(trainer.get_train_dataloader())).items()}


@pytest.mark.parametrize("correction,sign", [("penalty", 1.0), ("residual", -1.0), ("none", 0.0)])
def test_length_penalty_enters_the_logit(tiny_models, tmp_path, correction, sign):
    rho = 0.05
    data = tiny_preferences(8).add_column("margin", [0.25 * i for i in range(8)])
    config = dict(length_penalty=rho, length_correction=correction, length_balance_temperature=None)
    config["margin_column"] = "margin"
    trainer = make(tiny_models["reward"], tmp_path, data, {**config, "per_device_train_batch_size": 8})
    batch = batch_of(trainer)
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    rewards = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.squeeze(-1)
    lengths = batch["attention_mask"].sum(1)
    delta = (lengths[:8] - lengths[8:]).float()
    logit = rewards[:8] - rewards[8:] - batch["margin"] - sign * rho * delta
    expected = torch.log1p(torch.exp(-logit)).mean()
    assert torch.allclose(loss, expected, atol=1e-6)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_delta_length_counts_completion_tokens_only(tiny_models, tmp_path, form):
    data = tiny_preferences(8, **form)
    trainer = make(tiny_models["reward"], tmp_path, data, NEUTRAL)
    for row, tokens in zip(data, trainer.train_dataset, strict=True):
        side = (lambda s: s[-1]["content"]) if form["chat"] else (lambda s: s)
        expected = len(side(row["chosen"]).split()) - len(side(row["rejected"]).split())
        assert len(tokens["chosen_ids"]) - len(tokens["rejected_ids"]) == expected


def first_loss(model, folder, data, config=None, **kwargs) -> float:
    return losses(make(model, folder, data, {"max_steps": 1, **(config or {})}, **kwargs))[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keeps_columns", [False, True])
def test_a_foreign_margin_enters_no_loss_unasked(tiny_models, tmp_path, caplog, stream, keeps_columns):
    data = tiny_preferences(8)
    foreign = data.add_column("margin", [float(i - 30) for i in range(8)])
    asked = foreign.rename_column("margin", "how_much").add_column("margin", [100.0] * 8)
    config = {**NEUTRAL, "remove_unused_columns": not keeps_columns}

    def loss(rows, **changes):
        rows = rows.to_iterable_dataset() if stream else rows
        return first_loss(tiny_models["reward"], tmp_path, rows, {**config, **changes})

    assert loss(foreign) == loss(data)
    assert caplog.text.count("'margin' of the train set does not enter the loss") == 1
    assert loss(foreign, margin_column="margin") == loss(asked, margin_column="how_much") != loss(data)


def test_a_plain_trl_config_reads_the_margin_as_trl_does(tiny_models, tmp_path):
    data = tiny_preferences(8).add_column("margin", [0.5 * i for i in range(8)])
    plain = dict(config_class=RewardConfig)
    theirs = first_loss(tiny_models["reward"], tmp_path / "a", data, trainer_class=RewardTrainer, **plain)
    assert first_loss(tiny_models["reward"], tmp_path / "b", data, **plain) == theirs
    assert first_loss(tiny_models["reward"], tmp_path / "c", data.remove_columns("margin"), **plain) != theirs


def test_a_margin_that_was_asked_for_must_be_there(tiny_models, tmp_path):
    config = {**NEUTRAL, "margin_column": "margin", "max_steps": 2}
    with pytest.raises(InputError, match="'margin'.*is not a column of the train set.*aspect, chosen"):
        make(tiny_models["reward"], tmp_path, tiny_preferences(8), config)
    gap = tiny_preferences(8).add_column("margin", [1.0, None, *[0.5] * 6])
    with pytest.raises(InputError, match="finite number in every row, got None"):
        losses(make(tiny_models["reward"], tmp_path, gap, config))


def test_exact_metrics_do_not_depend_on_the_batch_size(tiny_models, tmp_path):
    data, heldout = tiny_preferences(8), tiny_preferences(17, seed=5)
    found = []
    for size in (1, 3, 5, 17):
        config = {**NEUTRAL, "per_device_eval_batch_size": size}
        trainer = make(tiny_models["reward"], tmp_path, data, config, eval_dataset=heldout)
        found.append(trainer.evaluate())
    gaps = []
    for row in trainer.eval_dataset:
        pair = [torch.tensor([row[side]]) for side in ("chosen_ids", "rejected_ids")]
        with torch.no_grad():
            gaps.append(float(np.subtract(*[trainer.model(ids).logits.item() for ids in pair])))
    delta = np.array([len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in trainer.eval_dataset])
    gaps = np.array(gaps)
    for metrics in found:
        assert metrics["eval_num_pairs"] == 17
        assert metrics["eval_pair_accuracy"] == pytest.approx((gaps > 0).mean())
        assert metrics["eval_pair_accuracy_chosen_longer"] == pytest.approx((gaps[delta > 0] > 0).mean())
        assert metrics["eval_pair_accuracy_chosen_shorter"] == pytest.approx((gaps[delta < 0] > 0).mean())
        assert metrics["eval_gap_length_correlation"] == pytest.approx(np.corrcoef(gaps, delta)[0, 1], abs=1e-4)


def test_metrics_of_several_evaluation_sets_are_kept_apart(tiny_models, tmp_path):
    sets = {"one": tiny_preferences(5, seed=1), "two": tiny_preferences(9, seed=2)}
    trainer = make(tiny_models["reward"], tmp_path, tiny_preferences(8), NEUTRAL, eval_dataset=sets)
    metrics = trainer.evaluate()
    assert (metrics["eval_one_num_pairs"], metrics["eval_two_num_pairs"]) == (5, 9)
    assert trainer.evaluate(tiny_preferences(4, seed=3))["eval_num_pairs"] == 4


def skewed(count: int, longer: int) -> Dataset:
    """`count` pairs of which the chosen response is longer in `longer`."""
    rows = tiny_preferences(count).to_list()
    for i, row in enumerate(rows):
        long, short = "the cat sees the dog and the bird .", "the fish ."
        row["chosen"], row["rejected"] = (long, short) if i < longer else (short, long)
    return Dataset.from_list(rows)


class Seen(TrainerCallback):
    def __init__(self, trainer):
        self.trainer, self.lengths = trainer, []
        inner = trainer.data_collator

        def collator(examples):
            self.lengths += [len(e["chosen_ids"]) - len(e["rejected_ids"]) for e in examples]
            return inner(examples)

        trainer.data_collator = collator


@pytest.mark.parametrize("temperature,expected", [(math.inf, 20), (1.0, 25), (0.2, 38)])
def test_training_batches_have_the_balanced_shares(tiny_models, tmp_path, temperature, expected):
    config = dict(length_balance_temperature=temperature, num_train_epochs=1)
    trainer = make(tiny_models["reward"], tmp_path, skewed(40, 32), config)
    seen = Seen(trainer)
    trainer.train()
    share = 1 / (1 + math.exp((0.2 - 0.8) / temperature))
    assert len(seen.lengths) == 40
    assert abs(sum(delta >= 0 for delta in seen.lengths) - 40 * share) <= 1
    assert sum(delta >= 0 for delta in seen.lengths) == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_group_by_length_works(tiny_models, tmp_path, temperature):
    config = dict(train_sampling_strategy="group_by_length", length_balance_temperature=temperature)
    data = tiny_preferences(160, seed=1)
    trainer = make(tiny_models["reward"], tmp_path, data, {**config, "num_train_epochs": 1})
    assert len(losses(trainer)) == 40
    order = list(iter(trainer._get_train_sampler(trainer._remove_unused_columns(trainer.train_dataset))))
    longest = [max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in trainer.train_dataset]
    spread = np.mean([np.ptp([longest[i] for i in order[k : k + 4]]) for k in range(0, 160, 4)])
    shuffled = random.Random(0).sample(order, 160)
    assert spread < 0.5 * np.mean([np.ptp([longest[i] for i in shuffled[k : k + 4]]) for k in range(0, 160, 4)])


def test_balancing_refuses_a_fixed_order():
    with pytest.raises(InputError, match="length_balance_temperature=None"):
        PDRewardConfig("x", use_cpu=True, bf16=False, train_sampling_strategy="batch_rebalance")


def test_iterable_dataset(tiny_models, tmp_path):
    stream = tiny_preferences(16).to_iterable_dataset()
    with pytest.raises(InputError, match="length_balance_temperature=None"):
        make(tiny_models["reward"], tmp_path, stream, dict(max_steps=2))
    trainer = make(tiny_models["reward"], tmp_path, stream, dict(max_steps=2, length_balance_temperature=None))
    assert len(losses(trainer)) == 2


@pytest.mark.parametrize(
    "bad",
    [
        dict(length_balance_temperature=0.0),
        dict(length_balance_temperature=-1.0),
        dict(length_penalty=-0.1),
        dict(length_penalty=math.nan),
        dict(length_correction="both"),
        dict(train_share=0.0),
        dict(train_share=1.5),
    ],
    ids=str,
)
def test_config_refuses(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PDRewardConfig("x", use_cpu=True, bf16=False, **bad)


def test_rows_too_long_are_counted(tiny_models, tmp_path, caplog):
    data = tiny_preferences(24)
    trainer = make(tiny_models["reward"], tmp_path, data, {**NEUTRAL, "max_length": 24})
    left = len(trainer.train_dataset)
    assert 0 < left < 24
    assert f"{24 - left} of the 24 rows" in caplog.text and "max_length=24" in caplog.text
    with pytest.raises(InputError, match="None of the 24 rows"):
        make(tiny_models["reward"], tmp_path, data, {**NEUTRAL, "max_length": 2})


def test_train_share_is_a_seeded_subset_whatever_the_order(tiny_models, tmp_path):
    data = tiny_preferences(40)
    backwards = data.select(range(39, -1, -1))
    kept = [
        set(make(tiny_models["reward"], tmp_path, d, {**NEUTRAL, "train_share": 0.25}).train_dataset["pair_id"])
        for d in (data, backwards)
    ]
    assert kept[0] == kept[1] and len(kept[0]) == 10
    other = make(tiny_models["reward"], tmp_path, data, {**NEUTRAL, "train_share": 0.25, "seed": 7})
    assert set(other.train_dataset["pair_id"]) != kept[0]


@pytest.mark.parametrize("balance", [None, 1.0])
def test_resume_equals_an_uninterrupted_run(tiny_models, tmp_path, balance):
    config = dict(
        length_balance_temperature=balance, num_train_epochs=3, save_strategy="steps", save_steps=4, max_steps=-1
    )
    data = tiny_preferences(24)
    whole = make(tiny_models["reward"], tmp_path / "whole", data, config)
    whole.train()
    first = make(tiny_models["reward"], tmp_path / "cut", data, config)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 9

    first.add_callback(Stop())
    first.train()
    second = make(tiny_models["reward"], tmp_path / "cut", data, config)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-8"))
    assert second.state.global_step == whole.state.global_step == 18
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


LORAS = {
    "no task type": {},
    "sequence classification": {"task_type": "SEQ_CLS"},
    "all linear layers": {"target_modules": "all-linear"},
    "all linear layers but the head": {"target_modules": "all-linear", "exclude_modules": ["score"]},
    "the head among the targets": {"target_modules": ["score", "q_proj"]},
    "the head in a pattern": {"target_modules": r"score|.*\.q_proj"},
    "the head saved": {"modules_to_save": ["score"]},
    "embeddings saved": {"modules_to_save": ["embed_tokens"]},
}


@pytest.mark.parametrize("base", ["reward", "causal"])
@pytest.mark.parametrize("name", LORAS)
def test_a_lora_head_is_added_only_where_trl_loses_it(tiny_models, tmp_path, caplog, base, name):
    from peft import LoraConfig, PeftModel

    saved_head._say_once.cache_clear()
    data, path = tiny_preferences(16), tiny_models[base]
    ours, theirs = (
        make(path, tmp_path / str(i), data, dict(max_steps=2), config_class=RewardConfig, trainer_class=kind, peft_config=LoraConfig(r=2, **LORAS[name]))
        for i, kind in enumerate((PDRewardTrainer, RewardTrainer))
    )  # fmt: skip
    adds = base == "causal" and name in ("no task type", "embeddings saved", "all linear layers but the head")
    layers = [{n for n, p in t.model.named_parameters() if p.requires_grad} for t in (ours, theirs)]
    assert layers[0] - layers[1] == ({"base_model.model.score.modules_to_save.default.weight"} if adds else set())
    targets = "target_modules" in LORAS[name] and "exclude_modules" not in LORAS[name]
    assert ("'score' is added to its `modules_to_save`" in caplog.text) == adds
    assert ("drawn anew when the adapter is loaded" in caplog.text) == (base == "causal" and targets)
    if not adds:
        assert losses(ours) == losses(theirs)
    if base == "causal" and targets:
        return
    ours.train()
    ours.save_model()
    ids = torch.tensor([ours.train_dataset[0]["chosen_ids"]])
    with torch.no_grad():
        expected = ours.model.eval()(ids).logits.item()
        fresh = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
        found = PeftModel.from_pretrained(fresh, tmp_path / "0").eval()(ids).logits.item()
    assert found == pytest.approx(expected, abs=1e-6)
    score = score_pairs(data, {"honesty": str(tmp_path / "0")})["reward_gap_honesty"][0]
    rejected = torch.tensor([ours.train_dataset[0]["rejected_ids"]])
    with torch.no_grad():
        assert score == pytest.approx(expected - ours.model(rejected).logits.item(), abs=1e-5)


def test_saved_model_says_how_it_was_trained(tiny_models, tmp_path):
    config = dict(max_steps=1, length_penalty=0.2, length_correction="residual", length_balance_temperature=2.0)
    trainer = make(tiny_models["reward"], tmp_path, tiny_preferences(8), config)
    trainer.train()
    trainer.save_model()
    sidecar = RewardSidecar.load(tmp_path)
    assert (sidecar.length_penalty, sidecar.length_correction, sidecar.length_balance_temperature) == (
        0.2,
        "residual",
        2.0,
    )


def pairs_of_prompts(count: int, per_prompt: int, seed: int) -> Dataset:
    """Pairs of which each `per_prompt` share a prompt, with the chosen response mostly the longer one."""
    rows = tiny_preferences(count, seed=seed).to_list()
    for i, row in enumerate(rows):
        row["prompt"] = rows[i - i % per_prompt]["prompt"]
        short, long = sorted((row["chosen"], row["rejected"]), key=lambda text: len(text.split()))
        row["chosen"], row["rejected"] = (short, long) if i % 5 == 0 else (long, short)
    return Dataset.from_list(rows)


@pytest.mark.parametrize("rule", PENALTY_RULES)
def test_penalty_is_chosen_on_half_of_the_prompts_and_measured_on_the_other(tiny_models, tmp_path, rule):
    train, test = pairs_of_prompts(40, 1, 3), pairs_of_prompts(60, 3, 7)
    config = dict(length_penalty=rule, length_balance_temperature=None, num_train_epochs=3)
    trainer = make(tiny_models["reward"], tmp_path / "auto", train, config, eval_dataset=test)
    raw = make(tiny_models["reward"], tmp_path / "raw", train, {**config, "length_penalty": 0.0})
    assert losses(trainer) == losses(raw)
    metrics = trainer.evaluate()
    trainer.save_model()
    scored = score_pairs(test, {"honesty": str(tmp_path / "auto")}, length_penalty=0.0)
    gaps, deltas = np.array(scored["reward_gap_honesty"]), np.array(scored["delta_length"])
    keys = np.array(trainer.eval_dataset["pd_pair_keys"][:])
    assert np.unique(keys[:, 0]).size == 20
    half = half_of_prompts(keys[:, 0], keys[:, 1], trainer.args.seed)
    assert not set(keys[half, 0]) & set(keys[~half, 0])
    expected = PENALTY_RULES[rule](gaps[half], deltas[half])
    assert (
        RewardSidecar.load(tmp_path / "auto").length_penalty
        == metrics["eval_length_penalty"]
        == pytest.approx(expected, rel=1e-4)
    )
    adjusted = np.array(score_pairs(test, {"honesty": str(tmp_path / "auto")})["reward_gap_honesty"])
    np.testing.assert_allclose(adjusted, gaps - expected * deltas, atol=1e-5)
    assert metrics["eval_num_pairs"] == (~half).sum() and metrics["eval_num_prompts"] == 10
    assert metrics["eval_pair_accuracy"] == pytest.approx((adjusted[~half] > 0).mean())
    assert metrics["eval_raw_pair_accuracy"] == pytest.approx((gaps[~half] > 0).mean())
    in_memory = score_pairs(test, {"honesty": (trainer.model, trainer.processing_class)})
    np.testing.assert_allclose(np.array(in_memory["reward_gap_honesty"]), adjusted, atol=1e-5)


def test_only_the_own_evaluation_set_chooses_a_penalty(tiny_models, tmp_path):
    train, test = pairs_of_prompts(40, 1, 3), pairs_of_prompts(60, 3, 7)
    config = dict(length_balance_temperature=None, num_train_epochs=3)
    backwards = test.select(range(59, -1, -1))
    found = []
    for own in (test, backwards, {"first": test, "second": train}):
        trainer = make(tiny_models["reward"], tmp_path, train, config, eval_dataset=own)
        trainer.train()
        metrics = trainer.evaluate()
        chosen = trainer.sidecar_.length_penalty
        name = "eval_first" if isinstance(own, dict) else "eval"
        found.append((chosen, metrics[f"{name}_pair_accuracy"], metrics[f"{name}_raw_pair_accuracy"]))
        if isinstance(own, dict):
            assert metrics["eval_second_num_pairs"] == 40 and metrics["eval_second_length_penalty"] == chosen
        # Swapped sides, and the training set: measured whole, by the penalty as it is.
        swapped = test.rename_columns({"chosen": "rejected", "rejected": "chosen"})
        for other, count in ((swapped, 60), (trainer.train_dataset, 40), ({"x": swapped}, None)):
            metrics = trainer.evaluate(other)
            assert trainer.sidecar_.length_penalty == chosen > 0
            if count:
                assert metrics["eval_num_pairs"] == count and metrics["eval_length_penalty"] == chosen
        trainer.predict(trainer.train_dataset)
        assert trainer.sidecar_.length_penalty == chosen
    assert found[0] == pytest.approx(found[1]) and found[0] == pytest.approx(found[2])


def test_a_fixed_penalty_is_in_the_reported_accuracy(tiny_models, tmp_path):
    test = pairs_of_prompts(40, 2, 7)
    config = dict(length_penalty=0.05, length_balance_temperature=None)
    trainer = make(tiny_models["reward"], tmp_path, tiny_preferences(8), config, eval_dataset=test)
    metrics = trainer.evaluate()
    model = (trainer.model, trainer.processing_class)
    adjusted, raw = (
        np.array(score_pairs(test, {"honesty": model}, **given)["reward_gap_honesty"])
        for given in ({}, {"length_penalty": 0.0})
    )
    assert metrics["eval_num_pairs"] == 40
    assert metrics["eval_pair_accuracy"] == pytest.approx((adjusted > 0).mean())
    assert metrics["eval_raw_pair_accuracy"] == pytest.approx((raw > 0).mean()) != metrics["eval_pair_accuracy"]


def test_saving_a_penalty_of_other_weights_is_said(tiny_models, tmp_path, caplog):
    trainer = make(
        tiny_models["reward"], tmp_path, tiny_preferences(8), dict(max_steps=2), eval_dataset=tiny_preferences(8)
    )
    trainer.train()
    trainer.save_model()
    assert "was never chosen, and the weights are those of step 2" in caplog.text
    caplog.clear()
    trainer.evaluate()
    trainer.save_model()
    assert "the weights are those of step" not in caplog.text


def test_automatic_penalty_without_an_evaluation_set_says_so(tiny_models, tmp_path, caplog):
    trainer = make(tiny_models["reward"], tmp_path, tiny_preferences(8), dict(max_steps=1))
    trainer.train()
    trainer.save_model()
    assert "no `eval_dataset`" in caplog.text
    assert RewardSidecar.load(tmp_path).length_penalty == 0.0


def test_missing_sides_are_named(tiny_models, tmp_path):
    with pytest.raises(InputError, match="'chosen' and 'rejected'.*aspect, pair_id, prompt, rejected"):
        make(tiny_models["reward"], tmp_path, tiny_preferences(4).remove_columns("chosen"), NEUTRAL)


def test_plain_trl_config_and_defaults_are_taken(tiny_models, tmp_path):
    args = RewardConfig(str(tmp_path), **CPU)
    trainer = PDRewardTrainer(tiny_models["reward"], args=args, train_dataset=tiny_preferences(8))
    assert isinstance(trainer.args, PDRewardConfig) and trainer.args.learning_rate == 1e-2
    assert trainer.args.length_penalty == 0.0 and trainer.args.length_balance_temperature is None
    with pytest.raises(TypeError, match="PDRewardConfig"):
        PDRewardTrainer(tiny_models["reward"], args={"a": 1}, train_dataset=tiny_preferences(8))


def test_signatures_are_supersets_of_trl():
    for name in (
        "__init__",
        "compute_loss",
        "evaluation_loop",
        "_get_train_sampler",
        "_prepare_dataset",
        "save_model",
    ):
        parent = inspect.signature(getattr(RewardTrainer, name)).parameters
        ours = inspect.signature(getattr(PDRewardTrainer, name)).parameters
        variadic = any(p.kind is p.VAR_KEYWORD for p in ours.values())
        assert variadic or list(parent) == list(ours)[: len(parent)], name
    assert not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(PDRewardTrainer.__init__).parameters.values())


def test_every_constructor_argument_reaches_the_parent(monkeypatch):
    received = {}

    def init(self, **kwargs):
        received.update(kwargs)
        self.args, self.data_collator, self.model = kwargs["args"], None, SimpleNamespace()
        self.processing_class = SimpleNamespace(pad_token_id=1)
        self.train_dataset = self.eval_dataset = None

    monkeypatch.setattr(RewardTrainer, "__init__", init)
    names = [
        n for n in inspect.signature(PDRewardTrainer.__init__).parameters if n not in ("self", "args", "peft_config")
    ]
    given = {name: object() for name in names}
    PDRewardTrainer(args=PDRewardConfig("x", use_cpu=True, bf16=False), **given)
    assert {name: received[name] for name in names} == given
    assert "peft_config" in received


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_train_on_the_same_order(tiny_models, tmp_path):
    script = Path(__file__).with_name("two_processes.py")
    run = run_processes(2, [str(script), tiny_models["reward"], str(tmp_path)])
    assert run.returncode == 0, run.stderr[-3000:]
    one = make(
        tiny_models["reward"],
        tmp_path / "one",
        skewed(40, 32),
        dict(num_train_epochs=2, per_device_train_batch_size=8),
        eval_dataset=tiny_preferences(17, seed=5),
    )
    one.train()
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value, two["state"][name], atol=2e-4), name
    assert one.evaluate()["eval_pair_accuracy"] == pytest.approx(two["accuracy"])
