"""[`Decoder`]: a policy that stays loaded, and the rows of its outputs. This process has one, or each of Ray's actors."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ..models.vllm import check_engine_kwargs
from ..runs.on_ray import on_ray, parts_of
from ..runs.throughput import Progress
from .decoding import Decoded, decode
from .policies import PlacedPolicy, PolicySource
from .settings import DecodingConfig
from .vllm_backend import PROMPTS_PER_CALL, VllmDecoder

logger = logging.getLogger(__name__)

VLLM = "vllm"
# Batches that an actor is given at a time.
_BATCHES_PER_PART = 4
# vLLM answers many prompts at a time, and fewer of them are no faster.
_LEAST_FOR_VLLM = 64
_ROWS = "rows"


class Prompt(NamedTuple):
    """
    What a policy answers.

    Args:
        number (`int`): By which it is known.
        ids (`list` of `int`): Its tokens.
        text (`str`): What its draws depend on.
    """

    number: int
    ids: list[int]
    text: str


@dataclass
class Decoder:
    """
    A policy and how it answers.

    Args:
        source ([`PolicySource`]): The policy.
        config ([`DecodingConfig`]): How to decode.
        batch_size (`int`, *optional*, defaults to `32`): Prompts per batch, with transformers.
        backend (`str`, *optional*, defaults to `"transformers"`): `"transformers"` or `"vllm"`.
        engine_kwargs (`dict`, *optional*): Further arguments of `vllm.LLM`.
    """

    source: PolicySource
    config: DecodingConfig
    batch_size: int = 32
    backend: str = "transformers"
    engine_kwargs: dict[str, Any] | None = None

    @cached_property
    def _vllm(self) -> VllmDecoder:
        return VllmDecoder(self.source, self.config, self.engine_kwargs)

    def rows(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and row (output, its number of tokens, whether it ended by itself) of each prompt, as its batch is finished."""
        for answer in self._decoded(prompts):
            text = str(self.source.tokenizer.decode(answer.token_ids, skip_special_tokens=True))
            row = {"output": text, "num_tokens": len(answer.token_ids), "finished": answer.finished}
            yield prompts[answer.position].number, row

    def _decoded(self, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        if not prompts:
            return iter(())
        ids, texts = [prompt.ids for prompt in prompts], [prompt.text for prompt in prompts]
        if self.backend == VLLM:
            return self._vllm.decode(ids, texts)
        return decode(
            self.source.loaded, self.source.tokenizer, ids, texts, self.config, batch_size=self.batch_size,
            numbers=[prompt.number for prompt in prompts],
        )  # fmt: skip

    def rows_on_ray(self, prompts: Sequence[Prompt], num_actors: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """[`~Decoder.rows`] by Ray's actors, see [`on_ray`]. They get whole batches, those of one process."""
        check_engine_kwargs(self.engine_kwargs)
        if not prompts:
            return
        how = (self.config, self.batch_size, self.backend, self.engine_kwargs)
        work = DecodingWork(PlacedPolicy.of(self.source), *how)
        done = 0
        progress = Progress(len(prompts), lambda: done, "prompts", "Answered", on_terminal=False)
        for result in on_ray(work, self._parts(prompts), num_actors):
            done += len(result[_ROWS])
            progress.add({"tokens": sum(row["num_tokens"] for _, row in result[_ROWS])})
            yield from result[_ROWS]
        logger.info("%s", progress)

    def _parts(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        """Prompts in parts, longest first as [`decode`] takes them."""
        order = sorted(prompts, key=lambda prompt: (-len(prompt.ids), prompt.number))
        if self.backend == VLLM:
            return parts_of(order, _LEAST_FOR_VLLM, PROMPTS_PER_CALL)
        return parts_of(order, self.batch_size, _BATCHES_PER_PART * self.batch_size)


@dataclass(frozen=True)
class DecodingWork:
    """
    A [`Decoder`] on its way to an actor, see [`~pd_trl.runs.on_ray.Work`].

    Args:
        policy ([`PlacedPolicy`]): The policy.
        config, batch_size, backend, engine_kwargs: See [`Decoder`].
    """

    policy: PlacedPolicy
    config: DecodingConfig
    batch_size: int
    backend: str
    engine_kwargs: dict[str, Any] | None

    def worker(self) -> "ActorDecoder":
        """The decoder there."""
        how = (self.config, self.batch_size, self.backend, self.engine_kwargs)
        return ActorDecoder(Decoder(self.policy.source(), *how))


class ActorDecoder:
    """
    [`Decoder`] of prompts that Ray gives to an actor.

    Args:
        decoder ([`Decoder`]): What answers.
    """

    def __init__(self, decoder: Decoder):
        self.decoder = decoder

    def each(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The rows of each part, which is a list of prompts."""
        for part in items:
            yield {_ROWS: list(self.decoder.rows([Prompt(*prompt) for prompt in part]))}
