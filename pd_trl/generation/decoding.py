"""Batched decoding with transformers: greedy, or by draws that depend on the prompt and not on the batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from ..errors import InputError
from ..models.inputs import check_token_ids, num_embeddings
from ..models.memory import in_halves
from ..models.positions import positions_of
from .padding import batches_for, check_language_model, check_reads_back_only, left_padded
from .settings import DecodingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Decoded:
    """
    Tokens of one output.

    Args:
        position (`int`): Position of its prompt.
        token_ids (`list` of `int`): Its tokens, up to and without the one that ends it.
        finished (`bool`): Whether it ended by itself, before `max_new_tokens`.
    """

    position: int
    token_ids: list[int]
    finished: bool


def decode(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[list[int]],
    keys: Sequence[str],
    config: DecodingConfig,
    *,
    batch_size: int = 32,
    numbers: Sequence[int] | None = None,
) -> Iterator[Decoded]:
    """
    Outputs of a model, in batches of prompts of similar length, longest first.

    Neither greedy decoding nor draws depend on the batch beyond the rounding of the model's arithmetic. Prompts of different
    lengths are batched only where padding does not change the model's output, see [`batches_for`]. A token is drawn by adding
    Gumbel noise to the logits. The noise of a prompt depends on the seed and the prompt's key alone, so that two models draw
    with the same noise.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]): A causal language model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        prompts (sequence of `list` of `int`): Token ids of each prompt.
        keys (sequence of `str`): What the draws of each prompt depend on, such as its text.
        config ([`DecodingConfig`]): How to decode.
        batch_size (`int`, *optional*, defaults to `32`): Prompts per batch; a batch that does not fit in memory is halved.
        numbers (sequence of `int`, *optional*): By which errors name the prompts. `None` are their positions.

    Yields:
        [`Decoded`]: each output as its batch is finished.

    Raises:
        InputError: When a prompt leaves no room for an output or has a token without an embedding, or when the model is not a
            decoder.
    """
    if batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {batch_size}.")
    if model.config.is_encoder_decoder:
        check_language_model(model.config, "The model")
    ends, pad = _special_tokens(model, tokenizer)
    named = range(len(prompts)) if numbers is None else numbers
    lengths = [len(ids) for ids in prompts]
    every = np.fromiter(chain.from_iterable(prompts), dtype=np.int64, count=sum(lengths))
    check_token_ids(every, lengths, num_embeddings(model), tokenizer, lambda index: f"prompt {named[index]}")
    limits = token_limits(model, prompts, config.max_new_tokens, named)
    was_training = model.training
    model.eval()
    try:
        check_reads_back_only(model, "The model")
        with _own_generation_config(model):
            kind = batches_for(model, ends, pad) if batch_size > 1 and len(prompts) > 1 else "alone"
            for rows, limit in _batches(prompts, limits, batch_size, kind):
                generate = partial(_decode_rows, model, prompts, keys, config, limit, ends, pad)
                for outputs in in_halves(rows, generate, partial(_too_large, prompts, limit)):
                    yield from outputs
    finally:
        model.train(was_training)


def token_limits(model: Any, prompts: Sequence[list[int]], max_new_tokens: int, numbers: Sequence[int]) -> list[int]:
    """Most new tokens of each prompt: `max_new_tokens`, or what the model has positions left for."""
    positions = positions_of(model)
    if positions is None:
        return [max_new_tokens] * len(prompts)
    full = [i for i, ids in enumerate(prompts) if len(ids) >= positions]
    if full:
        raise InputError(
            f"{len(full)} prompts fill all {positions} positions of the model, the first of them prompt {numbers[full[0]]} with "
            f"{len(prompts[full[0]])} tokens. Leave them out, or use a model with more positions."
        )
    return [min(max_new_tokens, positions - len(ids)) for ids in prompts]


def _batches(
    prompts: Sequence[list[int]], limits: Sequence[int], batch_size: int, kind: str
) -> Iterator[tuple[list[int], int]]:
    """
    Rows of each batch and their limit. Rows of one batch share it, so that an output does not depend on the others'. `kind` is
    that of [`batches_for`].
    """
    size = 1 if kind == "alone" else batch_size
    order = sorted(range(len(prompts)), key=lambda i: (limits[i], -len(prompts[i]), i))
    start = 0
    while start < len(order):
        limit = limits[order[start]]
        rows = [i for i in order[start : start + size] if limits[i] == limit]
        if kind == "alike":
            rows = [i for i in rows if len(prompts[i]) == len(prompts[rows[0]])]
        yield rows, limit
        start += len(rows)


def end_tokens(own: int | list[int] | None, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Tokens that end an output: `own`, those of the model's settings, and the tokenizer's."""
    known = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    return sorted({token for token in known if token is not None})


def up_to_end(tokens: list[int], ends: Sequence[int]) -> tuple[list[int], bool]:
    """The tokens before the first that ends an output, and whether there is one."""
    end = next((k for k, token in enumerate(tokens) if token in ends), None)
    return tokens[:end], end is not None


def prompt_seed(seed: int, key: str, num_bytes: int = 16) -> int:
    """The seed of one prompt's draws: a function of the run's seed and the prompt's key alone."""
    return int.from_bytes(blake2b(repr((seed, key)).encode(), digest_size=num_bytes).digest(), "big")


def _special_tokens(model: Any, tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], int]:
    """Tokens that end an output, and the one to pad with."""
    ends = end_tokens(getattr(getattr(model, "generation_config", None), "eos_token_id", None), tokenizer)
    if not ends:
        raise InputError(
            "Neither the model nor its tokenizer has an EOS token, so no output would end. Set `tokenizer.eos_token`."
        )
    pad = tokenizer.pad_token_id
    return ends, ends[0] if pad is None else pad


@contextmanager
def _own_generation_config(model: Any) -> Iterator[None]:
    """Puts aside what the model brings along (temperature, repetition penalty, …): only what we state decides."""
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = owner.generation_config
    owner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        owner.generation_config = before


def _too_large(prompts: Sequence[list[int]], limit: int, row: list[int], reason: str) -> str:
    return (
        f"A prompt of {len(prompts[row[0]])} tokens with {limit} new ones does not fit in memory ({reason}). Lower "
        "`max_new_tokens`."
    )


@torch.no_grad()
def _decode_rows(
    model: Any,
    prompts: Sequence[list[int]],
    keys: Sequence[str],
    config: DecodingConfig,
    limit: int,
    ends: list[int],
    pad: int,
    rows: list[int],
) -> list[Decoded]:
    """The outputs of one batch, whose prompts are padded at the left."""
    processors = LogitsProcessorList()
    if config.temperature > 0:
        processors.append(SeededDraws([keys[i] for i in rows], config, ends))
    inputs = left_padded([prompts[i] for i in rows], pad, model.device)
    sequences = model.generate(
        **inputs,
        generation_config=GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=limit, eos_token_id=ends, pad_token_id=pad
        ),
        logits_processor=processors,
    )
    answers = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return [Decoded(i, *up_to_end(tokens, ends)) for i, tokens in zip(rows, answers, strict=True)]


class SeededDraws(LogitsProcessor):
    """
    Turns greedy decoding into draws: the largest of `logits + temperature * noise` is a draw from
    `softmax(logits / temperature)` where the noise is Gumbel. Each row has a stream of noise of its own.

    Args:
        keys (sequence of `str`): What the stream of each row depends on, beside the seed.
        config ([`DecodingConfig`]): Temperature, `top_p`, `top_k` and seed.
        ends (sequence of `int`): Tokens after which a row needs no noise.
    """

    def __init__(self, keys: Sequence[str], config: DecodingConfig, ends: Sequence[int]):
        self.config, self.ends = config, list(ends)
        self.streams = [np.random.default_rng(prompt_seed(config.seed, key)) for key in keys]
        self.active = np.ones(len(self.streams), dtype=bool)
        self.started = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.started:
            self.active &= ~np.isin(input_ids[:, -1].cpu().numpy(), self.ends)
        self.started = True
        noise = np.zeros(tuple(scores.shape), dtype=np.float32)
        for row in np.flatnonzero(self.active):
            noise[row] = self.config.temperature * self.streams[row].gumbel(size=scores.shape[1]).astype(np.float32)
        drawn: Any = scores + torch.from_numpy(noise).to(scores.device)
        left_out = self._left_out(input_ids, scores)
        return drawn if left_out is None else drawn.masked_fill(left_out, -torch.inf)

    def _left_out(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        """Tokens outside `top_k` and `top_p`."""
        if self.config.top_p == 1 and not self.config.top_k:
            return None
        kept: Any = scores / self.config.temperature
        if self.config.top_k:
            kept = TopKLogitsWarper(self.config.top_k)(input_ids, kept)
        if self.config.top_p < 1:
            kept = TopPLogitsWarper(self.config.top_p)(input_ids, kept)
        return torch.isneginf(kept)
