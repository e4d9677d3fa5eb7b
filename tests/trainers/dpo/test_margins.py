"""Margins of a policy against log-probabilities taken by hand, and cross-fitting by prompt."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pd_trl import PDFilter, policy_margins, rival_scores, validation_losses
from pd_trl.errors import InputError
from pd_trl.trainers.dpo.margins import prompt_parts
from tests.tiny import WORDS, tiny_preferences, tiny_tokenizer


@pytest.fixture(scope="module")
def policy(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def by_hand(model, data, side):
    """Sum and number of the log-probabilities of the response's tokens, one pair at a time."""
    tokenizer, sums, counts = tiny_tokenizer(), [], []
    for row in data:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = tokenizer(row["prompt"] + row[side] + tokenizer.eos_token)["input_ids"]
        with torch.no_grad():
            logps = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        taken = [float(logps[t - 1, ids[t]]) for t in range(len(prompt), len(ids))]
        sums.append(sum(taken))
        counts.append(len(taken))
    return np.array(sums), np.array(counts)


def test_margins_are_those_of_the_log_probabilities(tiny_models, policy, tmp_path):
    # A selection of rows in a file, as a stage leaves it.
    tiny_preferences(12).to_parquet(tmp_path / "rows.parquet")
    data = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache")).select(range(9))
    data = data.add_column("policy_logp_chosen", [0.0] * 9)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    reference = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
    ours = {side: by_hand(policy, data, side) for side in ("chosen", "rejected")}
    theirs = {side: by_hand(reference, data, side) for side in ("chosen", "rejected")}
    found = policy_margins(data, policy, tiny_models["causal"], beta=0.2, tokenizer=tiny_tokenizer())
    expected = 0.2 * ((ours["chosen"][0] - theirs["chosen"][0]) - (ours["rejected"][0] - theirs["rejected"][0]))
    assert found.column_names == [
        *(name for name in data.column_names if name != "policy_logp_chosen"),
        *("policy_logp_chosen", "policy_logp_rejected", "implicit_margin", "logp_distance", "edit_distance"),
    ]
    assert np.allclose(found["implicit_margin"], expected, atol=1e-4) and np.abs(expected).max() > 1e-2
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == files
    plain = policy_margins(data, tiny_models["causal"], edit_distances=False)
    assert np.allclose(plain["policy_logp_chosen"], theirs["chosen"][0], atol=1e-4)
    distance = np.abs(ours["chosen"][0] - ours["rejected"][0])
    assert np.allclose(found["logp_distance"], distance, atol=1e-4)
    assert found["edit_distance"][0] <= max(ours[side][1][0] for side in ours)
    alone = policy_margins(data, policy, beta=2.0, tokenizer=tiny_tokenizer(), edit_distances=False)
    means = [ours[side][0] / ours[side][1] for side in ("chosen", "rejected")]
    assert np.allclose(alone["implicit_margin"], 2.0 * (means[0] - means[1]), atol=1e-4)
    assert "edit_distance" not in alone.column_names


def test_an_adapter_in_memory_is_refused_until_it_is_merged(tiny_models):
    base = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    data, tokenizer = tiny_preferences(4, chat=True), tiny_tokenizer()
    # A prompt that is learned adapts no layer.
    prompt = get_peft_model(copy.deepcopy(base), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    for model in (adapted, adapted.get_base_model(), prompt):
        with pytest.raises(InputError, match="adapter in memory"):
            policy_margins(data, model, tokenizer=tokenizer)
    assert len(policy_margins(data, adapted.merge_and_unload(), tokenizer=tokenizer)) == 4


@pytest.fixture
def adapter(tiny_models, tmp_path):
    """The folder of an adapter without a tokenizer, and the same policy as one model."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False))  # fmt: skip
    adapted.save_pretrained(tmp_path / "adapter")
    return str(tmp_path / "adapter"), adapted.merge_and_unload()


def test_the_folder_of_an_adapter_is_a_policy(tiny_models, adapter):
    (folder, whole), data = adapter, tiny_preferences(6, chat=True)
    found = policy_margins(data, folder, tiny_models["causal"])
    expected = policy_margins(data, whole, tiny_models["causal"], tokenizer=tiny_tokenizer())
    assert np.allclose(found["implicit_margin"], expected["implicit_margin"], atol=1e-5)
    assert np.abs(found["implicit_margin"][:]).min() > 1e-4
    base = policy_margins(data, tiny_models["causal"], folder)
    assert np.allclose(base["implicit_margin"], -np.array(found["implicit_margin"]), atol=1e-5)
    training = {
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "model_init_kwargs": {"dtype": "float32"},
    }
    losses = [
        validation_losses(data, model, repeats=1, training=training, tokenizer=tiny_tokenizer())["validation_loss"][:]
        for model in (folder, whole)
    ]
    assert np.allclose(*losses, atol=1e-5)
    (Path(folder) / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="The adapter in .* cannot be loaded"):
        policy_margins(data, folder)
    with pytest.raises(InputError, match="there is no folder"):
        policy_margins(data, "./no/such/model")


def test_batches_padding_and_shared_prompts_change_nothing(policy):
    data = tiny_preferences(9, chat=True)
    found = [
        np.array(policy_margins(data, policy, tokenizer=tiny_tokenizer(), **options)["implicit_margin"])
        for options in ({"batch_size": 1}, {"batch_size": 9}, {"batch_size": 4, "share_prefix": True})
    ]
    assert np.allclose(found[0], found[1], atol=1e-6) and np.allclose(found[0], found[2], atol=1e-6)
    noisy = copy.deepcopy(policy).train()
    for layer in noisy.model.layers:
        layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.5))
    calm = policy_margins(data, noisy, tokenizer=tiny_tokenizer())["implicit_margin"]
    assert np.allclose(np.array(calm), found[0], atol=1e-6)
    assert noisy.training and noisy.model.layers[0].mlp.act_fn[1].p == 0.5
    order = [8, 2, 5, 0, 1, 3, 4, 7, 6]
    shuffled = policy_margins(data.select(order), policy, tokenizer=tiny_tokenizer())["implicit_margin"]
    assert np.allclose(np.array(shuffled), found[0][order], atol=1e-6)


def test_the_columns_select(policy):
    data = tiny_preferences(12)
    rng = np.random.default_rng(0)
    for name in ("helpfulness", "honesty", "truthfulness", "overall"):
        data = data.add_column(f"reward_gap_{name}", rng.normal(size=12))
    data = rival_scores(policy_margins(data, policy, tokenizer=tiny_tokenizer()))
    for selector in ("difficulty", "alignment_potential", "dcrm", "bees", "pareto"):
        assert len(PDFilter(4, selector=selector)(data)) == 4
    lowest = np.argsort(data["implicit_margin"])[:4]
    assert set(PDFilter(4, selector="difficulty")(data)["pair_id"]) == {data["pair_id"][int(i)] for i in lowest}


def test_cross_fitting_finds_the_labels_that_others_contradict(tiny_models):
    # One word makes the better response on nine prompts of ten. A policy that has not seen a pair learns it from the others.
    rows = tiny_preferences(60)
    good, bad = f"{WORDS[0]} {WORDS[0]} .", f"{WORDS[9]} {WORDS[9]} ."
    flipped = np.arange(60) % 10 == 0
    rows = rows.map(
        lambda row, i: {"chosen": bad if flipped[i] else good, "rejected": good if flipped[i] else bad},
        with_indices=True,
    )
    training = {"learning_rate": 1e-2, "num_train_epochs": 3, "beta": 0.5, "per_device_train_batch_size": 10}
    options = {"training": training, "repeats": 1, "tokenizer": tiny_tokenizer()}
    found = validation_losses(rows, tiny_models["causal"], **options)
    losses = np.array(found["validation_loss"])
    assert losses[flipped].min() > losses[~flipped].max() and losses[~flipped].mean() < np.log(2)
    again = validation_losses(found, tiny_models["causal"], **options)
    assert again.column_names == found.column_names and np.allclose(again["validation_loss"], losses, atol=1e-6)
    kept = PDFilter(54, selector="selective_dpo")(found)
    assert {i for i in rows["pair_id"]} - {*kept["pair_id"]} == {f"pair{i:04d}" for i in np.flatnonzero(flipped)}


def test_prompts_are_split_whole():
    data = tiny_preferences(40).map(lambda row, i: {"prompt_id": f"p{i // 3}"}, with_indices=True)
    parts = prompt_parts(data, 3, 1)
    by_prompt = {}
    for name, part in zip(data["prompt_id"], parts, strict=True):
        by_prompt.setdefault(name, set()).add(int(part))
    assert all(len(found) == 1 for found in by_prompt.values())
    sizes = np.bincount([found.pop() for found in by_prompt.values()])
    assert len(sizes) == 3 and sizes.max() - sizes.min() <= 1
    assert not np.array_equal(parts, prompt_parts(data, 3, 2)) and np.array_equal(parts, prompt_parts(data, 3, 1))
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(prompt_parts(data.select(order), 3, 1), parts[order])


def test_what_is_refused(policy):
    data = tiny_preferences(4)
    for call, message in (
        (lambda: policy_margins(data, policy, beta=0.0), "`beta` must be above 0"),
        (lambda: policy_margins(data.select([]), policy, tokenizer=tiny_tokenizer()), "The data set is empty"),
        (
            lambda: policy_margins(data.remove_columns("chosen"), policy, tokenizer=tiny_tokenizer()),
            "'chosen' and 'rejected'",
        ),
        (lambda: validation_losses(data, policy, folds=1), "`folds` must be at least 2"),
        (lambda: validation_losses(data, policy, folds=5), "There are 4 prompts, too few for 5 parts"),
        (lambda: validation_losses(data.remove_columns("prompt"), policy), "neither `prompt` nor `prompt_id`"),
    ):
        with pytest.raises(InputError, match=message):
            call()
