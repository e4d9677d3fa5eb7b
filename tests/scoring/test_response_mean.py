"""Rewards from the mean over the response: the same in any batch, with shared prompts and without, and in any form of the data."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from pd_trl import score_pairs, score_responses
from pd_trl.errors import InputError
from pd_trl.evaluation.judges.reward_model import RewardModelJudge
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.scoring.vllm_scorer import sequence_classifier_folder
from tests.tiny import ASPECTS, tiny_preferences, tiny_tokenizer

MANY = {"tokens_per_batch": 4096}


@pytest.fixture(scope="module", params=["<pad>", "<eos>"])
def mean_model(request, tiny_models):
    torch.manual_seed(0)
    model = MultiAspectRewardModel.from_backbone(
        tiny_models["causal"], list(ASPECTS), pooling="mean", layers=[1, 2], standardize=True
    )
    torch.nn.init.normal_(model.score.weight, std=3.0)
    model.score.measure(torch.randn(64, model.config.num_features))
    tokenizer = tiny_tokenizer(pad_token=request.param)
    model.config.text_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def rows(chat: bool = False) -> Dataset:
    """Pairs of few prompts; responses of one prompt begin alike, so that what they share ends within the response."""
    found = []
    for i, row in enumerate(tiny_preferences(24, seed=2)):
        prompt, begin = f"the cat sees the bird and the fish {'very ' * (i % 3)}", "a dog eats "
        sides = {name: (begin if i % 2 else "") + row[name] for name in ("chosen", "rejected")}
        if chat:
            prompt = [{"role": "user", "content": prompt}]
            sides = {name: [{"role": "assistant", "content": text}] for name, text in sides.items()}
        found.append({**row, "prompt": prompt, **sides})
    return Dataset.from_list(found)


@torch.no_grad()
def by_hand(model, tokenizer, row, side: str) -> torch.Tensor:
    """Rewards of one side by the whole model, one row at a time."""
    prompt, response = row["prompt"], row[side]
    if isinstance(prompt, str):
        begin, ids = tokenizer(prompt)["input_ids"], tokenizer(prompt + response + "<eos>")["input_ids"]
    else:
        apply = lambda messages, **more: tokenizer.apply_chat_template(messages, return_dict=True, **more)["input_ids"]  # noqa: E731
        begin, ids = apply(prompt, add_generation_prompt=True), apply(prompt + response)
    assert ids[: len(begin)] == begin
    mask = torch.zeros(1, len(ids), dtype=torch.long)
    mask[0, len(begin) :] = 1
    return model(torch.tensor([ids]), response_mask=mask).logits[0]


def gaps_of(data: Dataset) -> np.ndarray:
    return np.stack([data[f"reward_gap_{aspect}"][:] for aspect in ASPECTS], axis=1)


@pytest.mark.parametrize("chat", [False, True])
def test_gaps_do_not_depend_on_the_batch(mean_model, chat):
    model, tokenizer = mean_model
    data = rows(chat)
    expected = np.stack(
        [(by_hand(*mean_model, row, "chosen") - by_hand(*mean_model, row, "rejected")).numpy() for row in data]
    )
    assert np.ptp(expected, axis=0).min() > 0.1
    models = dict.fromkeys(ASPECTS, mean_model)
    for settings in ({**MANY, "share_prefix": False}, MANY, {"tokens_per_batch": 40}, {"backend": "transformers"}):
        np.testing.assert_allclose(
            gaps_of(score_pairs(data, models, **settings)), expected, atol=2e-5, err_msg=str(settings)
        )


def test_the_engine_shares_prompts_of_heads_that_read_the_mean(mean_model, caplog):
    with caplog.at_level("INFO", logger="pd_trl"):
        score_pairs(rows(), dict.fromkeys(ASPECTS, mean_model), **MANY)
    shared = next(message for message in caplog.messages if "read with another's prompt" in message)
    assert "(0.0 % of them read" not in shared


def test_single_responses_and_implicit_prompts(mean_model):
    data = rows(chat=True)
    expected = np.stack([by_hand(*mean_model, row, "chosen").numpy() for row in data])
    models = dict.fromkeys(ASPECTS, mean_model)
    found = score_responses(data["prompt"][:], data["chosen"][:], models)
    np.testing.assert_allclose(np.stack([found[a] for a in ASPECTS], axis=1), expected, atol=2e-5)
    whole = [prompt + chosen for prompt, chosen in zip(data["prompt"], data["chosen"], strict=True)]
    found = score_responses(None, whole, models)
    np.testing.assert_allclose(np.stack([found[a] for a in ASPECTS], axis=1), expected, atol=2e-5)


def test_a_text_that_holds_its_prompt_is_refused(mean_model):
    with pytest.raises(InputError, match="nothing says where it begins in the chosen side of pair_id 'pair0000'"):
        score_pairs(tiny_preferences(4, implicit=True), dict.fromkeys(ASPECTS, mean_model))


def test_what_is_cut_off_is_the_prompt(mean_model):
    model, tokenizer = mean_model
    data = rows().select(range(1, 4))
    row = data[0]
    found = gaps_of(score_pairs(data, dict.fromkeys(ASPECTS, mean_model), max_length=12))
    expected = []
    for side in ("chosen", "rejected"):
        ids = tokenizer(row["prompt"] + row[side] + "<eos>")["input_ids"]
        count, ids = len(ids) - len(tokenizer(row["prompt"])["input_ids"]), ids[-12:]
        mask = torch.tensor([[int(i >= len(ids) - count) for i in range(len(ids))]])
        with torch.no_grad():
            expected.append(model(torch.tensor([ids]), response_mask=mask).logits[0])
    np.testing.assert_allclose(found[0], (expected[0] - expected[1]).numpy(), atol=2e-5)


def test_vllm_is_refused(mean_model, tmp_path):
    with pytest.raises(InputError, match="read the mean over the response's tokens.*backend='engine'"):
        sequence_classifier_folder(tmp_path, mean_model[0].config, tmp_path)


def test_a_judge_reads_the_mean_too(mean_model, tmp_path):
    model, tokenizer = mean_model
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    pairs = [(row["prompt"], row["chosen"]) for row in rows()]
    expected = score_responses(*zip(*pairs, strict=True), {ASPECTS[1]: (model, tokenizer)}, chat=True)[ASPECTS[1]]
    found = RewardModelJudge(str(tmp_path), aspect=ASPECTS[1]).score(pairs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(InputError, match="nothing says where it begins"):
        RewardModelJudge(str(tmp_path), aspect=ASPECTS[1], chat=False).score(pairs)
