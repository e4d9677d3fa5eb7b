"""The engine against each sequence alone: token rows, groups that share a prefix, decoders and encoders."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from pd_trl.models.sidecar import RewardSidecar
from pd_trl.scoring.batching import score_sequences, token_batches
from pd_trl.scoring.layout import shard_rows
from pd_trl.scoring.prefixes import prefix_batches, shared_prefixes
from pd_trl.scoring.scorer import RewardModelScorer
from pd_trl.scoring.tokens import TokenRows
from tests.tiny import tiny_tokenizer

SIZES = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, pad_token_id=1,
    max_position_embeddings=128, num_labels=1,
)  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "mistral with a window": MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=5),
    "bert": BertConfig(**SIZES),
}
SHARING = {"llama", "qwen2", "gpt_neox"}

sequences = st.lists(st.lists(st.integers(2, 9), max_size=12), min_size=1, max_size=12)


def scorer_of(config: AutoConfig, attention: str = "sdpa", pad: int | None = None) -> RewardModelScorer:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).float()
    for name, weight in model.named_parameters():
        if name in ("score.weight", "classifier.weight"):
            weight.data.normal_(std=3)
    if pad is not None:
        model.config.pad_token_id = pad
    return RewardModelScorer(model, tiny_tokenizer(), {"a": RewardSidecar()}, "digest")


def alone(scorer: RewardModelScorer, rows: list[list[int]]) -> np.ndarray:
    """Each row by the whole model, without padding."""
    with torch.no_grad():
        return np.array([scorer.model(torch.tensor([row])).logits.numpy()[0] for row in rows])


def rows_of_prompts(seed: int, num_prompts: int, low: int = 2) -> tuple[list[list[int]], np.ndarray]:
    generator = np.random.default_rng(seed)
    rows, groups = [], []
    for group in range(num_prompts):
        prompt = generator.integers(low, 60, generator.integers(1, 40)).tolist()
        for _ in range(generator.integers(1, 11)):
            rows.append(prompt + generator.integers(low, 60, generator.integers(0, 20)).tolist())
            groups.append(group)
    order = generator.permutation(len(rows))
    return [rows[i] for i in order], np.array(groups)[order]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_equal_each_sequence_alone(name, attention):
    scorer = scorer_of(CONFIGS[name], attention)
    rows, groups = rows_of_prompts(0, 7)
    expected = alone(scorer, rows)
    for budget in (1, 150, 5000):
        rewards, counts = score_sequences(scorer, TokenRows.of(rows), groups, tokens_per_batch=budget)
        assert np.abs(rewards - expected).max() < 1e-5
        assert (counts.computed < counts.tokens) == (name in SHARING)
        assert counts.sequences == len(rows) and counts.cells >= counts.computed
    plain, counts = score_sequences(scorer, TokenRows.of(rows), groups, share_prefix=False)
    assert np.abs(plain - expected).max() < 1e-5 and counts.computed == counts.tokens


@pytest.mark.parametrize("pad", [1, 3])
def test_the_reward_is_read_before_trailing_pads(pad):
    """With EOS as pad, a response of EOS only is read at the end of its prompt, also where that was read once for all."""
    scorer = scorer_of(CONFIGS["llama"], pad=pad)
    rows, groups = rows_of_prompts(1, 5)
    rows = [row + [3] * (i % 3) for i, row in enumerate(rows)] + [[7, 8, 9, 10, 3], [7, 8, 9, 10, 3, 3], [7, 8, 9, 10]]
    groups = np.append(groups, [99] * 3)
    rewards, counts = score_sequences(scorer, TokenRows.of(rows), groups)
    assert np.abs(rewards - alone(scorer, rows)).max() < 1e-5 and counts.computed < counts.tokens


def test_a_model_whose_parts_do_not_agree_is_called_whole():
    class Doubled(type(scorer_of(CONFIGS["llama"]).model)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2 + 1
            return output

    torch.manual_seed(0)
    scorer = RewardModelScorer(Doubled(CONFIGS["llama"]).float(), tiny_tokenizer(), {"a": RewardSidecar()}, "digest")
    rows, groups = rows_of_prompts(2, 4)
    rewards, _ = score_sequences(scorer, TokenRows.of(rows), groups)
    assert not scorer.shares_prefixes and np.abs(rewards - alone(scorer, rows)).max() < 1e-5


@settings(deadline=None)
@given(sequences, st.integers(1, 14))
def test_token_rows(rows, longest):
    tokens = TokenRows.of(rows)
    assert tokens.lengths.tolist() == [len(row) for row in rows]
    width = max(1, max(len(row) for row in rows))
    assert tokens.padded(1).tolist() == [row + [1] * (width - len(row)) for row in rows]
    assert (
        tokens.shortened(longest).padded(1).tolist()
        == TokenRows.of([row[-longest:] for row in rows]).padded(1).tolist()
    )
    order = np.arange(len(rows))[::-1]
    assert tokens.take(order).padded(1).tolist() == tokens.padded(1)[order].tolist()
    last = [max((i for i, token in enumerate(row) if token != 5), default=0) for row in rows]
    assert tokens.last_other_than(5).tolist() == last
    shared = [next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
              for a, b in zip(rows, rows[1:], strict=False)]  # fmt: skip
    assert tokens.shared_with_next().tolist() == shared


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.integers(2, 3), min_size=1, max_size=6)), min_size=1, max_size=40
    )
)
def test_groups_hold_every_sequence_once_and_begin_alike(labelled):
    rows, groups = [row for _, row in labelled], np.array([group for group, _ in labelled])
    found = shared_prefixes(TokenRows.of(rows), groups, least_saving=0.0)
    members, place = found.members(np.arange(len(found)))
    assert sorted([*members, *found.alone]) == list(range(len(rows)))
    for number in range(len(found)):
        own = [rows[i] for i in members[place == number]]
        length = found.lengths[number]
        assert 2 <= len(own) <= 8 and len({groups[i] for i in members[place == number]}) == 1
        assert length >= 1 and all(row[:length] == own[0][:length] for row in own)
        assert min(map(len, own)) == length or len({row[length] for row in own}) > 1


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 300)), min_size=1, max_size=50), st.integers(1, 1500))
def test_prefix_batches_keep_the_budget(sizes, budget):
    prefixes, branches = (np.array(column) for column in zip(*sizes, strict=True))
    batches = [batch.tolist() for batch in prefix_batches(prefixes, branches, budget)]
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (prefixes[batch].max() + branches[batch].max()) <= budget


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 1000))
def test_batches_keep_the_budget_and_hold_every_row_once(lengths, budget):
    batches = [batch.tolist() for batch in token_batches(lengths, budget)]
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(1, 9))
def test_shards_keep_prompts_together(labels, size):
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    groups = np.array([order[label] for label in labels])
    shards = shard_rows(groups, size)
    assert sorted(np.concatenate(shards)) == list(range(len(labels)))
    largest = np.bincount(groups).max()
    for shard in shards:
        assert shard.size < size + max(size, largest)
    if largest <= size:
        assert all(len({s for s, rows in enumerate(shards) if i in groups[rows]}) == 1 for i in groups)


def test_a_prompt_with_many_responses_has_several_rows():
    rows = [[5, 6, 7, 8, 10 + i] for i in range(19)]
    found = shared_prefixes(TokenRows.of(rows), np.zeros(19, dtype=np.int64))
    assert found.sizes.tolist() == [8, 8, 3] and found.lengths.tolist() == [4, 4, 4] and found.alone.size == 0
