"""Backends of scoring: our engine, the whole model of transformers, or vLLM."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InputError
from ..hub import local_model_folder
from ..models.named import ModelOutput, model_output
from .reward_models import RewardModel, load_scorers
from .scorer import RewardModelScorer
from .vllm_scorer import VllmScorer

BACKENDS = ("engine", "transformers", "vllm")

Scorer: TypeAlias = "RewardModelScorer | VllmScorer"


def check_backend(backend: str, engine_kwargs: Mapping[str, Any] | None = None) -> None:
    """Raises `InputError` on an unknown backend, or on arguments of vLLM for another one."""
    if backend not in BACKENDS:
        raise InputError(f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if engine_kwargs and backend != "vllm":
        raise InputError(f"`engine_kwargs` are of backend 'vllm', and the backend is {backend!r}.")


def scorers_of(
    reward_models: Mapping[str, RewardModel],
    backend: str,
    *,
    torch_compile: bool = False,
    engine_kwargs: Mapping[str, Any] | None = None,
    **loading: Any,
) -> Iterator[Scorer]:
    """
    Scorers of all aspects, one after the other.

    Args:
        reward_models (`dict`): See [`load_scorers`].
        backend (`str`): `"engine"` runs backbone and heads by themselves where that gives the same numbers, `"transformers"`
            the model as it is, `"vllm"` leaves it to vLLM.
        torch_compile (`bool`, *optional*, defaults to `False`): Whether to compile the models.
        engine_kwargs (`dict`, *optional*): Further arguments of `vllm.LLM`.
        loading: See [`load_scorers`].
    """
    check_backend(backend)
    if backend == "vllm":
        yield from _by_vllm(reward_models, engine_kwargs, loading)
        return
    for scorer in load_scorers(reward_models, **loading):
        if backend == "transformers":
            scorer.call_whole_model()
        if torch_compile:
            scorer.compile()
        yield scorer


def _by_vllm(
    reward_models: Mapping[str, RewardModel], engine_kwargs: Mapping[str, Any] | None, loading: Mapping[str, Any]
) -> Iterator[VllmScorer]:
    folders: dict[Path, dict[str, ModelOutput]] = {}
    for aspect, source in reward_models.items():
        given = model_output(source)
        if not given.is_named:
            raise InputError(f"vLLM loads models from folders, and that of '{aspect}' is in memory. Save it first.")
        folder = local_model_folder(given.model, what=f"reward model of aspect '{aspect}'")
        folders.setdefault(folder, {})[aspect] = given
    for folder, chosen in folders.items():
        yield VllmScorer(
            folder, chosen, dtype=loading.get("dtype"), engine_kwargs=engine_kwargs,
            trust_remote_code=loading.get("trust_remote_code", False),
        )  # fmt: skip
