"""Tokens of the distinct conversations of a shard. Models with the same tokenizer share them."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from .encoding import PAIR, conversations, encode_responses, response_counts, response_key
from .tokens import TokenRows

# Tokens that are kept for the next model. Beyond it the shards are tokenised again for each.
_CACHED_BYTES = 1 << 30


@dataclass(frozen=True)
class ShardTokens:
    """
    Tokens of the rows of a shard, pairs or single responses.

    Args:
        tokens ([`TokenRows`]): Each distinct conversation once.
        places (array of shape `(num_rows * num_sides,)`): Conversation of each side, chosen and rejected of each pair in turn.
        groups (array of shape `(num_conversations,)`): Conversations of one group have one prompt.
    """

    tokens: TokenRows
    places: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        tokens = self.tokens
        arrays = (tokens.ids, tokens.starts, tokens.lengths, tokens.responses, self.places, self.groups)
        return sum(array.nbytes for array in arrays if array is not None)


def side_name(place: int, ids: Sequence[Any], sides: Sequence[str] = PAIR) -> str:
    """What to call the side at a place of [`ShardTokens`], given the `pair_id` of each pair, or the number of each row."""
    if len(sides) == 1:
        return f"the response of row {ids[place]}"
    return f"the {sides[place % 2]} side of pair_id {str(ids[place // 2])!r}"


def encode_shard(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    groups: NDArray[np.integer],
    sides: Sequence[str] = PAIR,
    counts_responses: bool = False,
) -> ShardTokens:
    """
    Tokens of the rows of a shard: each distinct conversation is tokenised once, however many rows it is in.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer of the reward model.
        rows (sequence of mappings): The rows.
        groups (array of shape `(num_rows,)`): Prompt of each row, see [`prompt_groups`].
        sides (sequence of `str`, *optional*): Columns of the responses.
        counts_responses (`bool`, *optional*, defaults to `False`): Whether to find out where responses begin.
    """
    texts = conversations(tokenizer, rows, sides)
    position: dict[str, int] = {}
    distinct: list[int] = []
    places = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        row = rows[i // len(sides)]
        key = response_key(text, row)
        if counts_responses:
            # The same words, with the border of prompt and response elsewhere.
            key = f"{len(row.get('prompt') or ())} {key}"
        if key not in position:
            position[key] = len(distinct)
            distinct.append(i)
        places[i] = position[key]

    def name(index: int) -> str:
        return side_name(distinct[index], [row["pair_id"] for row in rows], sides)

    own_rows = [rows[i // len(sides)] for i in distinct]
    encoded = encode_responses(tokenizer, [texts[i] for i in distinct], own_rows, name)
    counts = None
    if counts_responses:
        responses = [row[sides[i % len(sides)]] for i, row in zip(distinct, own_rows, strict=True)]
        counts = response_counts(tokenizer, encoded, own_rows, responses, name)
    return ShardTokens(TokenRows.of(encoded, counts), places, np.asarray(groups)[np.array(distinct) // len(sides)])


class ShardReader:
    """
    Reads and tokenises shards, the next one in a thread while the model is at work on this one.

    Args:
        texts ([`~datasets.Dataset`]): The rows.
        groups (array of shape `(num_rows,)`): Prompt of each.
        rows (list of arrays): Rows of each shard.
        sides (sequence of `str`, *optional*): Columns of the responses.
    """

    def __init__(
        self,
        texts: Dataset,
        groups: NDArray[np.integer],
        rows: Sequence[NDArray[np.integer]],
        sides: Sequence[str] = PAIR,
    ):
        self.texts, self.groups, self.rows, self.sides = texts, groups, rows, sides
        self._cache: dict[tuple[str, int, bool], ShardTokens] = {}
        self._cached_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._ahead: tuple[tuple[str, int, bool], Future[ShardTokens]] | None = None
        # The tokenizers are held, so that no other takes the place of one.
        self._digests: dict[int, tuple[PreTrainedTokenizerBase, str]] = {}
        self._tokenizer_lock = threading.Lock()

    def read(self, tokenizer: PreTrainedTokenizerBase, index: int, counts_responses: bool = False) -> ShardTokens:
        """Tokens of a shard, with `counts_responses` those of the responses too."""
        key = (self._digest(tokenizer), index, counts_responses)
        if key in self._cache:
            return self._cache[key]
        ahead, self._ahead = self._ahead, None
        tokens = ahead[1].result() if ahead is not None and ahead[0] == key else self._encode(tokenizer, *key[1:])
        if self._cached_bytes + tokens.nbytes <= _CACHED_BYTES:
            self._cache[key] = tokens
            self._cached_bytes += tokens.nbytes
        return tokens

    def read_ahead(self, tokenizer: PreTrainedTokenizerBase, index: int, counts_responses: bool = False) -> None:
        """Starts on a shard that will probably be read next."""
        key = (self._digest(tokenizer), index, counts_responses)
        if key not in self._cache and self._ahead is None:
            self._ahead = (key, self._thread.submit(self._encode, tokenizer, *key[1:]))

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _encode(self, tokenizer: PreTrainedTokenizerBase, index: int, counts_responses: bool) -> ShardTokens:
        rows = self.rows[index]
        # A tokenizer is not to be used by two threads at a time.
        with self._tokenizer_lock:
            content = self.texts.select(rows).to_list()
            return encode_shard(tokenizer, content, self.groups[rows], self.sides, counts_responses)

    def _digest(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Hash of what decides the tokens: models whose tokenizers are equal share them."""
        if id(tokenizer) not in self._digests:
            backend = getattr(tokenizer, "backend_tokenizer", None)
            content = backend.to_str() if backend is not None else str(id(tokenizer))
            content += repr((tokenizer.chat_template, sorted(tokenizer.special_tokens_map.items())))
            digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
            self._digests[id(tokenizer)] = (tokenizer, digest)
        return self._digests[id(tokenizer)][1]
