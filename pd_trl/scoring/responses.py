"""Rewards of single responses, without a pair."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.inputs import check_token_ids, with_eos
from .batching import score_sequences
from .encoding import Text, encode_responses, response_counts
from .scorer import RewardModelScorer
from .tokens import TokenRows


def conversation(scorer: RewardModelScorer, prompt: Any, response: Any, *, chat: bool) -> Text:
    """
    Prompt and response as the model reads them.

    Args:
        scorer ([`RewardModelScorer`]): The reward model.
        prompt (`str` or `list` of messages, *optional*): The prompt; `None` where the response holds the whole conversation.
        response (`str` or `list` of messages): The response.
        chat (`bool`): Whether strings become messages of the user and the assistant.
    """
    if prompt is None and not isinstance(response, str):
        return list(response)
    if isinstance(response, str) and (prompt is None or isinstance(prompt, str) and not chat):
        return (prompt or "") + with_eos(scorer.tokenizer, response)
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    after = [{"role": "assistant", "content": response}] if isinstance(response, str) else list(response)
    return before + after


def score_conversations(
    scorer: RewardModelScorer,
    conversations: Sequence[Text],
    *,
    max_length: int | None = None,
    tokens_per_batch: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
    name: Callable[[int], str] = lambda index: f"conversation {index}",
) -> tuple[NDArray[np.float32], int]:
    """
    Rewards of conversations, see [`conversation`].

    Args:
        scorer ([`RewardModelScorer`]): The reward model.
        conversations (sequence): What to score.
        max_length (`int`, *optional*): Most tokens; the start of a longer one is cut. `None` is what the model has positions for.
        tokens_per_batch (`int`, *optional*): Most tokens of a batch, padding counted. `None` is 16,384 on a GPU and 2,048 on a CPU.
        progress (callable, *optional*): Told the number of conversations of each batch.
        name (callable, *optional*): What to call the conversation at a position that cannot be scored.

    Returns:
        `tuple`: rewards in nats, shape `(num_conversations, num_aspects)`, and how many conversations were cut.

    Raises:
        InputError: Where the model reads the mean over the response, and a conversation is a text, which holds its prompt.
    """
    strings = [i for i, text in enumerate(conversations) if isinstance(text, str)]
    chats = [i for i, text in enumerate(conversations) if not isinstance(text, str)]
    encoded: list[list[int]] = [[] for _ in conversations]
    for rows in (strings, chats):
        found = encode_responses(scorer.tokenizer, [conversations[i] for i in rows], name=_at(rows, name))
        for i, ids in zip(rows, found, strict=True):
            encoded[i] = ids
    counts = None
    if scorer.counts_responses:
        counts = response_counts(scorer.tokenizer, encoded, [{}] * len(encoded), conversations, name)
    tokens = TokenRows.of(encoded, counts)
    check_token_ids(tokens.ids, tokens.lengths, scorer.num_embeddings, scorer.tokenizer, name)
    longest = max_length if max_length is not None else scorer.longest
    cut = int((tokens.lengths > longest).sum()) if longest is not None else 0
    rewards, _ = score_sequences(
        scorer, tokens.shortened(longest, scorer.keeps_first), tokens_per_batch=tokens_per_batch, progress=progress
    )
    return rewards, cut


def _at(rows: Sequence[int], name: Callable[[int], str]) -> Callable[[int], str]:
    return lambda index: name(rows[index])
