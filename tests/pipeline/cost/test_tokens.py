"""Tokens that are predicted are those that the trainers and the scorer process."""

import json

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from pd_trl import PDDPOConfig, PDDPOTrainer, PDRewardConfig, PDRewardTrainer, score_pairs
from pd_trl.errors import InputError
from pd_trl.pipeline.cost.batches import reading_work, scoring_work, training_work
from pd_trl.pipeline.cost.lengths import assumed_lengths, pair_lengths
from pd_trl.pipeline.cost.training import epochs_work
from tests.tiny import tiny_preferences, tiny_tokenizer

COMMON = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "gradient_checkpointing": False}


def lengths_of(rows: Dataset, sample_rows: int = 1000):
    return pair_lengths(rows, tiny_tokenizer(), sample_rows=sample_rows, seed=0, source="tiny")


class Counting:
    """A collator that counts the tokens of its batches."""

    def __init__(self, collator):
        self.collator, self.tokens, self.computed = collator, 0, 0

    def __call__(self, examples):
        batch = self.collator(examples)
        self.tokens += int(batch["attention_mask"].sum())
        self.computed += batch["input_ids"].numel()
        return batch


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_reward_trainer(tiny_models, tmp_path, chat, grouped):
    rows = tiny_preferences(50, chat=chat)
    strategy = "group_by_length" if grouped else "random"
    args = PDRewardConfig(
        str(tmp_path), per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2, max_length=27,
        train_sampling_strategy=strategy, **COMMON,
    )  # fmt: skip
    trainer = PDRewardTrainer(tiny_models["causal"], args, train_dataset=rows)
    trainer.data_collator = counting = Counting(trainer.data_collator)
    trainer.train()
    lengths = lengths_of(rows)
    fits = np.flatnonzero(np.maximum(lengths.chosen, lengths.rejected) <= 27)
    assert 0 < fits.size == len(trainer.train_dataset) < 50
    left = lengths.select(fits)
    work = epochs_work(left.chosen, left.rejected, left.prompt, args)
    assert (work.tokens, work.padded, work.steps) == (counting.tokens, counting.computed, trainer.state.global_step)


def test_a_frozen_backbone_reads_each_conversation_once(tiny_models, tmp_path, monkeypatch):
    from pd_trl.models.heads import MultiAspectRewardModel

    rows = tiny_preferences(30)
    # Every other pair comes twice, with another label.
    rows = Dataset.from_list([*rows.to_list(), *({**row, "aspect": "b"} for row in rows.to_list()[::2])])
    rows = rows.map(lambda row: {"aspect": row["aspect"] if row["aspect"] == "b" else "a"})
    read, computed = [], []
    inner = MultiAspectRewardModel.read

    def counted(self, input_ids, attention_mask, **more):
        read.append(int(attention_mask.sum()))
        computed.append(input_ids.numel())
        return inner(self, input_ids=input_ids, attention_mask=attention_mask, **more)

    monkeypatch.setattr(MultiAspectRewardModel, "read", counted)
    args = PDRewardConfig(
        str(tmp_path), freeze_backbone=True, per_device_train_batch_size=4, num_train_epochs=3,
        length_balance_temperature=None, **COMMON,
    )  # fmt: skip
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ["a", "b"], pooling="mean")
    PDRewardTrainer(model, args, train_dataset=rows).train()
    work = reading_work(lengths_of(rows), 4)
    assert work.tokens == sum(read) and work.sequences == 60
    assert work.padded == pytest.approx(sum(computed), rel=0.1)


@pytest.mark.parametrize("implicit", [False, True])
def test_the_dpo_trainer(tiny_models, tmp_path, implicit):
    rows = tiny_preferences(40, implicit=implicit)
    args = PDDPOConfig(str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, max_length=20, **COMMON)
    trainer = PDDPOTrainer(tiny_models["causal"], args=args, train_dataset=rows)
    trainer.data_collator = counting = Counting(trainer.data_collator)
    trainer.train()
    lengths = lengths_of(rows)
    given = trainer.train_dataset
    prompts = [len(ids) for ids in given["prompt_ids"]]
    assert lengths.prompt[lengths.prompt < 20].tolist() == prompts
    left = lengths.select(np.flatnonzero(lengths.prompt < 20))
    chosen, rejected = np.minimum(left.chosen, 20), np.minimum(left.rejected, 20)
    work = epochs_work(chosen, rejected, left.prompt, args)
    assert (work.tokens, work.steps) == (counting.tokens, trainer.state.global_step)
    assert work.padded == pytest.approx(counting.computed, rel=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_the_scorer(tiny_models, tmp_path, shared):
    rows = tiny_preferences(12)
    recurring = rows.select([i // 4 for i in range(48)]).to_list()
    for i, row in enumerate(recurring):
        row["pair_id"], row["prompt_id"] = f"pair{i:03d}", row["pair_id"]
        row["prompt"] = row["prompt"] * 9 if i // 4 % 2 else row["prompt"]
        row["rejected"] = recurring[i - 1]["rejected"] if i % 4 == 3 else row["rejected"] + " the" * (i % 4)
    data = Dataset.from_list(recurring)
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["reward"])
    score_pairs(
        data, {"honesty": tiny_models["reward"]}, output_dir=tmp_path, tokens_per_batch=200, pairs_per_shard=16, max_length=100,
        share_prefix=shared,
    )  # fmt: skip
    markers = [json.loads(path.read_text()) for path in tmp_path.glob("shards/*/*.done")]
    lengths = pair_lengths(data, tokenizer, sample_rows=1000, seed=0, source="tiny")
    work = scoring_work(lengths, longest=100, tokens_per_batch=200, pairs_per_shard=16, share_prefix=shared)
    assert len(markers) == 3 and work.sequences == sum(marker["sequences"] for marker in markers) < 96
    assert work.tokens == sum(marker["tokens"] for marker in markers)
    cells = sum(marker["cells"] for marker in markers)
    assert work.padded == pytest.approx(cells, rel=0.05) if shared else work.padded == cells


def test_a_sample_stands_for_the_rest():
    rows = tiny_preferences(400)
    whole, sampled = lengths_of(rows), lengths_of(rows, sample_rows=60)
    assert whole.standard_error == 0 < sampled.standard_error
    assert (whole.counted, sampled.counted) == (400, 60)
    assert abs(sampled.mean - whole.mean) < 4 * sampled.standard_error + 0.05
    assert lengths_of(rows, sample_rows=60).chosen.tolist() == sampled.chosen.tolist()


def test_shared_prompts_are_read_once_where_that_spares_a_tenth():
    prompt, chosen, rejected = np.array([90, 90, 2, 2]), np.array([100] * 4), np.array([100] * 4)
    options = {"order": np.arange(4), "batch_size": 2}
    apart = training_work(chosen, rejected, **options)
    together = training_work(chosen, rejected, **options, prompts=prompt)
    # The first batch has rows of 90 + 10 + 10; in the second a row of both would be 198 of 200.
    assert (apart.padded, together.padded) == (2 * 400, 2 * 110 + 400)


def test_assumed_pairs_recur_as_told():
    lengths = assumed_lengths(600, 50, 2 / 3)
    assert len(np.unique(lengths.keys)) == 400 and lengths.mean == 50
    assert len(np.unique(lengths.groups)) == 100
    assert len(np.unique(assumed_lengths(600, 50, 2).keys)) == 1200
    with pytest.raises(InputError, match="conversations_per_pair"):
        assumed_lengths(600, 50, 3)
