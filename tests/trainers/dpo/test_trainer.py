import inspect
import logging
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from datasets import Audio, Dataset, Features, Image, List
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from pd_trl import PDDPOConfig, PDDPOTrainer
from pd_trl.errors import InputError
from pd_trl.selection.reasons import NO_VOTES
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
    num_train_epochs=1,
)
KAPPA = 3


def scored(count: int = 20, **form) -> Dataset:
    """Preferences with a PD that does not follow the rows' order, and ties."""
    data = tiny_preferences(count, **form)
    for name in ("helpfulness", "honesty", "truthfulness"):
        data = data.add_column(f"reward_gap_{name}", [0.0] * count)
    return data.add_column("pd", [((7 * i) % 10 - 4.5) / 3 for i in range(count)])


def make(model, folder, data, config=None, trainer_class=PDDPOTrainer, config_class=PDDPOConfig, **kwargs):
    args = config_class(str(folder), **{**CPU, **(config or {})})
    return trainer_class(model=model, args=args, train_dataset=data, **kwargs)


def losses(trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("config", [{}, {"pd_budget": 1.0}, {"precompute_ref_log_probs": True}], ids=str)
@pytest.mark.parametrize("form", [{}, dict(chat=True), dict(implicit=True)], ids=str)
def test_neutral_settings_equal_trl_loss_for_loss(tiny_models, tmp_path, form, config):
    data = scored(**form)
    ours = make(tiny_models["causal"], tmp_path / "a", data, config)
    config = {k: v for k, v in config.items() if k != "pd_budget"}
    theirs = make(tiny_models["causal"], tmp_path / "b", data, config, DPOTrainer, DPOConfig)
    assert losses(ours) == losses(theirs)
    for (name, mine), (_, trl) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        assert torch.equal(mine, trl), name


def test_a_cpu_trains_in_bfloat16_as_trl_does(tiny_models, tmp_path):
    data = scored()
    half = losses(make(tiny_models["causal"], tmp_path / "a", data, {"bf16": True}))
    theirs = losses(make(tiny_models["causal"], tmp_path / "b", data, {"bf16": True}, DPOTrainer, DPOConfig))
    whole = losses(make(tiny_models["causal"], tmp_path / "c", data))
    assert half == theirs and half != whole
    assert half == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize("budget,count", [(0.3, 6), (0.31, 7), (5, 5), (1, 1), (1.0, 20)])
def test_trains_on_exactly_the_kept_ids(tiny_models, tmp_path, budget, count):
    data = scored()
    expected = sorted(zip(data["pd"], data["pair_id"], strict=True))[:count]
    trainer = make(tiny_models["causal"], tmp_path, data, {"pd_budget": budget})
    assert set(trainer.train_dataset["pair_id"]) == {pair_id for _, pair_id in expected}
    assert trainer.selection_["kept"] == count and trainer.selection_["dropped"] == 20 - count


def test_pairs_without_votes_are_left_out_and_count_for_no_budget(tiny_models, tmp_path, caplog):
    data = scored()
    silent = [i % 4 == 1 for i in range(20)]
    holes = data.remove_columns("pd").add_column(
        "pd", [None if s else v for s, v in zip(silent, data["pd"], strict=True)]
    )
    with pytest.raises(InputError, match="finite numbers"):
        make(tiny_models["causal"], tmp_path, holes, {"pd_budget": 0.4})
    reasons = [NO_VOTES if s else "dropped: pd over budget" for s in silent]
    caplog.set_level(logging.WARNING)
    trainer = make(tiny_models["causal"], tmp_path, holes.add_column("pd_reason", reasons), {"pd_budget": 0.4})
    voted = [row for row, s in zip(data, silent, strict=True) if not s]
    expected = sorted((row["pd"], row["pair_id"]) for row in voted)[:6]
    assert sorted(trainer.train_dataset["pair_id"]) == sorted(pair_id for _, pair_id in expected)
    assert trainer.selection_["kept"] == 6 and trainer.selection_["dropped"] == 14
    assert "5 of 20 pairs have no PD" in caplog.text


def log_probabilities(model, rows, side):
    """Sum of the completion's log-probabilities of each row, one row at a time."""
    sums = []
    for row in rows:
        ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
        logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        start = len(row["prompt_ids"])
        sums.append(sum(logps[t - 1, ids[0, t]] for t in range(start, ids.shape[1])))
    return torch.stack(sums)


VARIANTS = [
    {},
    {"pd_divide_beta": False},
    {"precompute_ref_log_probs": True},
    {"loss_type": "robust", "label_smoothing": 0.2},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_dfpo_equals_a_hand_written_eq_4(tiny_models, tmp_path, variant):
    data = scored(4)
    config = {"pd_loss": "dfpo", "beta": 0.1, **variant}
    trainer = make(tiny_models["causal"], tmp_path, data, config)
    # In double precision, so that a difference is one of the formula.
    reference = AutoModelForCausalLM.from_pretrained(tiny_models["causal"], dtype=torch.float64).eval()
    trainer.model.double()
    if trainer.ref_model is not None:
        trainer.ref_model.double()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    rows = trainer.train_dataset.to_list()
    keys = [*("prompt_ids", "chosen_ids", "rejected_ids", "pd"), *(k for k in rows[0] if k.startswith("ref_"))]
    batch = trainer.data_collator([{k: row[k] for k in keys} for row in rows])
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    trainer.model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}

    trainer.model.zero_grad()
    ratio = {}
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            frozen = log_probabilities(reference, rows, side)
            if "ref_chosen_logps" in rows[0]:
                stored = torch.tensor([row[f"ref_{side}_logps"] for row in rows], dtype=torch.float64)
                assert torch.allclose(stored, frozen, atol=1e-4)
                frozen = stored
        ratio[side] = log_probabilities(lambda **kw: trainer.model(**kw), rows, side) - frozen
    margin = 0.1 * (ratio["chosen"] - ratio["rejected"])
    scale = 1 if trainer.args.pd_divide_beta else KAPPA
    logit = scale * margin + torch.tensor([row["pd"] for row in rows])
    nll = torch.nn.functional.softplus(-logit)
    if variant.get("loss_type") == "robust":
        nll = (0.8 * nll - 0.2 * torch.nn.functional.softplus(logit)) / 0.6
    nll.mean().backward()
    assert loss.item() == pytest.approx(nll.mean().item(), abs=1e-6)
    for name, parameter in trainer.model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6), name
    logged = trainer._metrics["eval"]
    assert logged["rewards/chosen"][-1] == pytest.approx(0.1 * ratio["chosen"].mean().item(), abs=1e-6)
    assert logged["rewards/rejected"][-1] == pytest.approx(0.1 * ratio["rejected"].mean().item(), abs=1e-6)
    assert logged["rewards/margins"][-1] == pytest.approx(margin.mean().item(), abs=1e-6)
    assert logged["dfpo/logit_accuracies"][-1] == pytest.approx((logit > 0).float().mean().item())
    assert trainer.beta == 0.1 and "rewards/accuracies" not in logged


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
@pytest.mark.parametrize("config", [{}, {"pd_loss": "dfpo"}, {"precompute_ref_log_probs": True}], ids=str)
def test_sampling_by_length_works(tiny_models, tmp_path, strategy, config):
    data = scored()
    config = {"train_sampling_strategy": strategy, "max_length": 20, **config}
    trainer = make(tiny_models["causal"], tmp_path, data, config, eval_dataset=scored(4))
    expected = [
        min(20, len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])))
        for row in trainer.train_dataset
    ]
    assert trainer.train_dataset["length"][:] == expected
    if strategy == "group_by_length":
        order = list(trainer._get_train_sampler())
        assert sorted(order) == list(range(len(expected)))
        assert expected[order[0]] == max(expected)
    assert len(losses(trainer)) == 5 and trainer.evaluate()["eval_loss"] > 0


def test_grouping_brings_pairs_of_like_length_together(tiny_models, tmp_path):
    spreads = {}
    for strategy in ("random", "group_by_length"):
        trainer = make(tiny_models["causal"], tmp_path, scored(200), {"train_sampling_strategy": strategy})
        batches = trainer.get_train_dataloader()
        spreads[strategy] = sum(float(1 - batch["attention_mask"].float().mean()) for batch in batches)
    assert spreads["group_by_length"] < 0.7 * spreads["random"]


def test_a_length_column_of_the_users_own_is_kept(tiny_models, tmp_path):
    data = scored().add_column("length", list(range(20)))
    trainer = make(tiny_models["causal"], tmp_path, data, {"train_sampling_strategy": "group_by_length"})
    assert trainer.train_dataset["length"][:] == list(range(20))


def test_dfpo_trains_lora_streams_and_evaluates(tiny_models, tmp_path):
    from peft import LoraConfig, PeftModel

    config = {"pd_loss": "dfpo", "pd_num_aspects": KAPPA}
    plain = make(tiny_models["causal"], tmp_path, scored(), {**config, "pd_budget": 0.5}, eval_dataset=scored(6))
    assert len(losses(plain)) == 3 and plain.evaluate()["eval_loss"] > 0
    lora = make(tiny_models["causal"], tmp_path, scored(), config, peft_config=LoraConfig(task_type="CAUSAL_LM", r=2))
    assert isinstance(lora.model, PeftModel) and len(losses(lora)) == 5
    assert not any(p.requires_grad for n, p in lora.model.named_parameters() if "lora_" not in n)
    stream = make(tiny_models["causal"], tmp_path, scored().to_iterable_dataset(), {**config, "max_steps": 2})
    assert len(losses(stream)) == 2


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_pair_without_a_finite_pd_enters_no_dfpo_loss(value):
    from pd_trl.trainers.dpo.trainer import _CollatorWithDivergence

    with pytest.raises(InputError, match="'pd' in every row.*example 1 of a batch has"):
        _CollatorWithDivergence(lambda rows: {}, "pd")([{"pd": 0.5}, {"pd": value}])


@pytest.mark.parametrize("divide_beta, beta_of_dpo", [(True, 0.1), (False, 0.3)])
def test_zero_pd_is_plain_dpo_at_the_strength_that_is_said(tiny_models, tmp_path, caplog, divide_beta, beta_of_dpo):
    data = scored().remove_columns("pd").add_column("pd", [0.0] * 20)
    config = {"pd_loss": "dfpo", "beta": 0.1, "pd_divide_beta": divide_beta}
    ours = make(tiny_models["causal"], tmp_path / "a", data, config)
    theirs = make(tiny_models["causal"], tmp_path / "b", data, {"beta": beta_of_dpo}, DPOTrainer, DPOConfig)
    assert ("acts as 0.3 does in DPO" in caplog.text) is not divide_beta
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)


BAD_CONFIGS = [
    (dict(pd_budget=0.0), "in \\(0, 1\\]"),
    (dict(pd_budget=-0.1), "in \\(0, 1\\]"),
    (dict(pd_budget=1.5), "in \\(0, 1\\]"),
    (dict(pd_budget=0), "at least 1"),
    (dict(pd_budget=True), "budget"),
    (dict(pd_budget="many"), "many"),
    (dict(pd_loss="dpo"), "dfpo"),
    (dict(pd_loss="dfpo", loss_type="ipo"), "ipo"),
    (dict(pd_loss="dfpo", f_divergence_type="js_divergence"), "reverse_kl"),
    (dict(pd_loss="dfpo", pd_num_aspects=1), "at least 2"),
]


@pytest.mark.parametrize("bad,message", BAD_CONFIGS, ids=str)
def test_config_refuses(bad, message):
    with pytest.raises(InputError, match=message):
        PDDPOConfig("x", use_cpu=True, bf16=False, **bad)


@pytest.mark.parametrize("text,value", [("0.3", 0.3), ("5", 5), ("1.0", 1.0), ("none", None)])
def test_budget_from_the_command_line(text, value):
    parsed = PDDPOConfig("x", use_cpu=True, bf16=False, pd_budget=text).pd_budget
    assert parsed == value and type(parsed) is type(value)


def test_data_it_cannot_select_from(tiny_models, tmp_path):
    with pytest.raises(InputError, match="no column 'pd'.*pair_id"):
        make(tiny_models["causal"], tmp_path, tiny_preferences(8), {"pd_budget": 0.5})
    with pytest.raises(InputError, match="only 20"):
        make(tiny_models["causal"], tmp_path, scored(), {"pd_budget": 21})
    with pytest.raises(InputError, match="PDFilter"):
        make(tiny_models["causal"], tmp_path, scored().to_iterable_dataset(), {"pd_budget": 0.5, "max_steps": 1})
    holes = scored(4).remove_columns("pd").add_column("pd", [0.1, float("nan"), 0.2, 0.3])
    with pytest.raises(InputError, match="row 1"):
        make(tiny_models["causal"], tmp_path, holes, {"pd_budget": 0.5})
    twice = Dataset.from_list([*scored(2).to_list(), *scored(2).to_list()])
    with pytest.raises(InputError, match="pair0000"):
        make(tiny_models["causal"], tmp_path, twice, {"pd_budget": 0.5})
    with pytest.raises(InputError, match="pd_num_aspects"):
        make(tiny_models["causal"], tmp_path, tiny_preferences(8), {"pd_loss": "dfpo"})
    with pytest.raises(InputError, match="evaluation sets"):
        make(
            tiny_models["causal"], tmp_path, scored(), {"pd_loss": "dfpo"}, eval_dataset=tiny_preferences(4)
        ).evaluate()


def test_kappa_counts_aspects_and_not_the_overall_label():
    from pd_trl.trainers.dpo.trainer import _num_aspects

    columns = {f"reward_gap_{name}": [1.0, 1.0] for name in ("a", "b", "c", "overall", "mean")}
    args = PDDPOConfig("x", use_cpu=True, bf16=False, report_to="none", pd_loss="dfpo")
    assert _num_aspects(Dataset.from_dict({"pd": [0.0, 1.0], **columns}), args) == 3
    with pytest.raises(InputError, match="of 1 aspects"):
        _num_aspects(Dataset.from_dict({"pd": [0.0], "reward_gap_a": [1.0], "reward_gap_overall": [1.0]}), args)


def test_signatures_are_supersets_of_trl():
    for name in ("__init__", "compute_loss", "compute_ref_log_probs", "_prepare_dataset"):
        parent = inspect.signature(getattr(DPOTrainer, name)).parameters
        assert list(parent) == list(inspect.signature(getattr(PDDPOTrainer, name)).parameters)[: len(parent)], name


def test_every_constructor_argument_reaches_the_parent(monkeypatch):
    received = {}

    def init(self, **kwargs):
        received.update(kwargs)
        self.__dict__.update(kwargs)

    monkeypatch.setattr(DPOTrainer, "__init__", init)
    names = [name for name in inspect.signature(PDDPOTrainer.__init__).parameters if name not in ("self", "args")]
    given = {name: object() for name in names}
    PDDPOTrainer(args=PDDPOConfig("x", use_cpu=True, bf16=False), **given)
    assert {name: received[name] for name in names} == given


def test_resume_equals_an_uninterrupted_run(tiny_models, tmp_path):
    config = {"pd_budget": 0.8, "pd_loss": "dfpo", "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}
    whole = make(tiny_models["causal"], tmp_path, scored(), config)
    whole.train()
    again = make(tiny_models["causal"], tmp_path, scored(), config)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.state.global_step == 8
    for (name, a), (_, b) in zip(whole.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


@pytest.mark.multiprocess
def test_two_processes_equal_one(tiny_models, tmp_path):
    script = Path(__file__).with_name("two_processes_dpo.py")
    run = run_processes(2, [str(script), tiny_models["causal"], str(tmp_path)])
    assert run.returncode == 0, run.stderr[-3000:]
    config = {"pd_budget": 0.8, "pd_loss": "dfpo", "per_device_train_batch_size": 8}
    one = make(tiny_models["causal"], tmp_path / "one", scored(), config)
    one.train()
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value, two[name], atol=1e-5), name


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU to offload from")
def test_offloading_without_a_gpu_is_refused_in_one_line(tiny_models, tmp_path):
    with pytest.raises(InputError, match="`activation_offloading`.*no GPU"):
        make(tiny_models["causal"], tmp_path, scored(8), {"activation_offloading": True})


def with_images(data: Dataset, column: str, values: list) -> Dataset:
    return Dataset.from_list([{**row, column: value} for row, value in zip(data, values, strict=True)])


@pytest.mark.parametrize(
    "column,value", [("image", None), ("images", None), ("images", []), ("images", [None]), ("image", "")], ids=str
)
def test_image_columns_without_an_image_are_left_out(tiny_models, tmp_path, caplog, column, value):
    caplog.set_level("INFO")
    data = with_images(tiny_preferences(8), column, [value] * 8)
    trainer = make(tiny_models["causal"], tmp_path, data, {"max_steps": 1}, eval_dataset={"one": data})
    assert f"No row of the train set has an image: '{column}' is left out" in caplog.text
    trainer.train()
    assert trainer.evaluate()["eval_one_loss"] > 0


def test_declared_image_columns_without_an_image_are_left_out(tiny_models, tmp_path):
    features = Features({**tiny_preferences(4).features, "image": Image(), "images": [Image()]})
    rows = [{**row, "image": None, "images": []} for row in tiny_preferences(4)]
    data = Dataset.from_list(rows, features=features)
    assert len(make(tiny_models["causal"], tmp_path, data).train_dataset) == 4


@pytest.mark.parametrize("column,value", [("image", "a.png"), ("images", ["a.png"])])
def test_a_single_image_is_not_left_out(tiny_models, tmp_path, column, value):
    none = [] if column == "images" else None
    with pytest.raises(ValueError, match="vision"):
        make(tiny_models["causal"], tmp_path, with_images(tiny_preferences(4), column, [none, none, value, none]))


BROKEN = {"bytes": b"no medium at all", "path": None}
MEDIA = {
    "picture": (Image(), BROKEN),
    "sound": (Audio(), BROKEN),
    "pages": (List(Image()), [BROKEN]),
    "inside": ({"x": Image()}, {"x": BROKEN}),
}


def with_broken_media(data: Dataset, names) -> Dataset:
    schema = Features({**data.features, **{name: MEDIA[name][0] for name in names}}).arrow_schema
    table = data.with_format("arrow")[:]
    for name in names:
        values = pa.array([MEDIA[name][1]] * len(data), schema.field(name).type)
        table = table.append_column(schema.field(name), values)
    return Dataset(table.cast(schema))


@pytest.mark.parametrize("names", [["picture", "sound"], ["pages", "inside"]], ids=" ".join)
def test_media_that_no_trainer_reads_are_not_decoded(tiny_models, tmp_path, names):
    data = with_broken_media(tiny_preferences(8), names)
    trainer = make(tiny_models["causal"], tmp_path, data, {"max_steps": 1}, eval_dataset={"one": data})
    trainer.train()
    assert trainer.evaluate()["eval_one_loss"] > 0
    stream = make(tiny_models["causal"], tmp_path, data.to_iterable_dataset(), {"max_steps": 1})
    stream.train()


@pytest.mark.parametrize("column", ["image", "images"])
def test_images_that_cannot_be_decoded_are_refused(tiny_models, tmp_path, column):
    pytest.importorskip("PIL", reason="Pillow, which opens images, is not installed")
    feature, value = (Image(), BROKEN) if column == "image" else (List(Image()), [BROKEN])
    data = tiny_preferences(4)
    schema = Features({**data.features, column: feature}).arrow_schema
    table = data.with_format("arrow")[:].append_column(
        schema.field(column), pa.array([None, None, value, None], schema.field(column).type)
    )
    with pytest.raises(InputError, match=f"{column!r} of the train set must hold images, but the bytes in row 2"):
        make(tiny_models["causal"], tmp_path, Dataset(table.cast(schema)))


def test_a_foreign_margin_enters_no_dpo_loss(tiny_models, tmp_path):
    found = []
    for data in (tiny_preferences(8), tiny_preferences(8).add_column("margin", [9.0 * i for i in range(8)])):
        trainer = make(tiny_models["causal"], tmp_path, data, {"max_steps": 2})
        trainer.train()
        found.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert found[0] == found[1]
