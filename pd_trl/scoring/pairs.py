"""[`score_pairs`]: reward gaps of every pair by every aspect's reward model."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..data.columnar import closest
from ..data.plain import as_preferences
from ..data.validation import RESERVED_ASPECTS, aspects_of, check_aspect_names, check_preferences
from ..errors import InputError
from ..method.length import adjusted_gap, check_length_penalty
from ..models.named import model_output
from ..models.sidecar import RewardSidecar
from .backends import Scorer
from .reward_models import RewardModel, check_reward_models, named_models
from .run import Scores, ScoringRun
from .settings import PAIRS_PER_SHARD, ScoringSettings

logger = logging.getLogger(__name__)

NO_PAIR_LEFT = "No pair is left: all are longer than `max_length`, or than the models take. Use on_long='truncate'."


def score_pairs(
    preferences: Dataset,
    reward_models: Mapping[str, RewardModel] | str | os.PathLike,
    *,
    output_dir: str | os.PathLike | None = None,
    max_length: int | None = None,
    tokens_per_batch: int | None = None,
    on_long: str = "truncate",
    length_penalty: float | Mapping[str, float] | None = None,
    length_correction: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | str | None = None,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    share_prefix: bool = True,
    backend: str = "engine",
    engine_kwargs: Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    torch_compile: bool = False,
    trust_remote_code: bool = False,
    chat: bool = False,
    scorers: Sequence[Scorer] | None = None,
) -> Dataset:
    """
    Adds the reward gap of each aspect to each pair (Eq. 12 and 17 of
    [arXiv 2508.07638](https://huggingface.co/papers/2508.07638)).

    Scores do not depend on the order of the rows, on batches, on the number of processes or on interruptions: they are equal
    to 1e-5 in float32. A conversation that is in several pairs of a prompt is scored once. After a kill, the same call goes on
    with the missing shards. Under `accelerate launch`, the processes share the shards of `output_dir`, and each returns the
    whole result.

    Args:
        preferences ([`~datasets.Dataset`]):
            Preferences in the data contract: `pair_id`, `chosen`, `rejected`, `aspect`, and `prompt` unless it is part of
            both. Plain pairs do, too: what [`load_pairs`] returns of a chosen and a rejected response, or these columns alone.
            They get a `pair_id` by their content, and `overall` as their `aspect`: the label is no aspect's, and each model
            votes on each pair.
        reward_models (`dict`):
            A reward model for each aspect: path or Hub id of a model or LoRA adapter, a model, or a tuple of a model and
            its tokenizer. The key `"overall"` is for a unified model, whose gap is no aspect's. `"org/model#output"` is one of
            several outputs, by its name or number, and `"-org/cost"` one of which less is better, or a mapping, such as
            `{"model": "org/cost", "output": "0", "sign": -1, "scale": 0.5}`. The name of one model, and no dict, is all its
            outputs by their names.
        output_dir (`str`, *optional*):
            Folder for shards. `None` keeps nothing.
        max_length (`int`, *optional*):
            Most tokens of prompt and response. `None` is what the model has positions for.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted. `None` is 16,384 on a GPU and 2,048 on a CPU.
        on_long (`str`, *optional*, defaults to `"truncate"`):
            What to do with a pair of which a side is longer than `max_length`: `"truncate"` the start of its prompt and
            count it, `"drop"` the pair and count it, or raise an `"error"`.
        length_penalty (`float` or `dict`, *optional*):
            Length penalty rho per completion token, for all aspects or each, which is subtracted as in Eq. 17 however the
            model was trained. `None`, and an aspect that is not named, is what the model was trained with.
        length_correction (`str`, *optional*):
            `"penalty"` adjusts the gap as in Eq. 17, `"residual"` and `"none"` keep it raw. `None` is what each model was
            trained with.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of models in memory.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        pairs_per_shard (`int`, *optional*, defaults to `2048`):
            Pairs of a shard, plus the rest of its last prompt. A kill loses one shard at most.
        share_prefix (`bool`, *optional*, defaults to `True`):
            Whether to read a prompt once for all its responses. It is done where that saves 30 % of the tokens or more and
            the model is a decoder with attention over the whole sequence. Scores are equal to 1e-5 in float32 either way.
        backend (`str`, *optional*, defaults to `"engine"`):
            What runs the models: `"engine"` is ours, `"transformers"` calls them as they are, `"vllm"` leaves it to vLLM, whose
            rounding depends on the batch.
        engine_kwargs (`dict`, *optional*):
            Further arguments of `vllm.LLM`, such as `{"tensor_parallel_size": 2}`.
        attn_implementation (`str`, *optional*):
            Attention of models that are loaded, such as `"flash_attention_2"`. `None` is transformers' choice. Prompts are
            shared by `"sdpa"` and `"eager"` only.
        torch_compile (`bool`, *optional*, defaults to `False`):
            Whether to compile the models by `torch.compile`, which takes a minute or more before the first batch.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.
        chat (`bool`, *optional*, defaults to `False`):
            Whether strings are scored as messages of the user and the assistant, in the chat template of each model: what most
            published reward models were trained on. The columns stay as they are.
        scorers (sequence, *optional*):
            The models, loaded already, as [`load_scorers`] gives them. `None` loads one after the other.

    Returns:
        [`~datasets.Dataset`]: all columns of `preferences`, `reward_gap_<aspect>` (float32, nats, adjusted), and
        `delta_length` (int32, completion tokens of the chosen minus those of the rejected response, by the first model's
        tokenizer).

    Raises:
        InputError: On unusable data or models, or when `output_dir` holds shards of another run.
    """
    settings = ScoringSettings(
        max_length=max_length, tokens_per_batch=tokens_per_batch, on_long=on_long, tokenizer=tokenizer, dtype=dtype,
        pairs_per_shard=pairs_per_shard, share_prefix=share_prefix, backend=backend, engine_kwargs=engine_kwargs,
        attn_implementation=attn_implementation, torch_compile=torch_compile, trust_remote_code=trust_remote_code, chat=chat,
    )  # fmt: skip
    models = named_models(reward_models, trust_remote_code)
    preferences = as_preferences(preferences)
    _check(preferences, models, length_penalty, length_correction)
    with scoring_folder(output_dir) as folder, contextlib.closing(ScoringRun(preferences, settings, folder)) as run:
        found = run.each(scorers if scorers is not None else run.scorers(models))
        columns, kept = gap_columns(found, len(preferences), length_penalty, length_correction)
    return with_columns(_without_long(preferences, kept), _in_order(columns, models), kept)


def gap_columns(
    found: Iterable[tuple[Scorer, Scores]],
    num_rows: int,
    length_penalty: float | Mapping[str, float] | None,
    length_correction: str | None,
) -> tuple[dict[str, NDArray], NDArray[np.bool_]]:
    """The columns that scoring adds to pairs, and whether each row is kept: the gaps of each aspect with its length term (Eq. 17)."""
    columns: dict[str, NDArray] = {}
    kept = np.ones(num_rows, dtype=bool)
    for scorer, (gaps, delta, inside) in found:
        kept &= inside
        columns.setdefault("delta_length", delta)
        for k, aspect in enumerate(scorer.aspects):
            rho, correction = _length_term(aspect, scorer.sidecars[aspect], length_penalty, length_correction)
            columns[f"reward_gap_{aspect}"] = adjusted_gap(gaps[:, k], delta, rho, correction)
        # The next model is loaded while the loop still holds this one.
        del scorer
    return columns, kept


def _in_order(columns: Mapping[str, NDArray], models: Iterable[str]) -> dict[str, NDArray]:
    return {name: columns[name] for name in [*(f"reward_gap_{aspect}" for aspect in models), "delta_length"]}


def _check(
    preferences: Dataset,
    reward_models: Mapping[str, RewardModel],
    length_penalty: float | Mapping[str, float] | None,
    length_correction: str | None,
) -> None:
    check_preferences(preferences)
    check_reward_models(reward_models)
    check_models_of(aspects_of(preferences), reward_models)
    check_length_terms(reward_models, length_penalty, length_correction)


def check_length_terms(
    reward_models: Mapping[str, RewardModel],
    length_penalty: float | Mapping[str, float] | None,
    length_correction: str | None,
) -> None:
    """Raises `InputError` on a length term that is out of range, has no effect, or is that of no model."""
    if isinstance(length_penalty, Mapping) and not set(length_penalty) <= set(reward_models):
        unknown = sorted(set(map(str, length_penalty)) - set(reward_models))
        raise InputError(
            f"`length_penalty` names {', '.join(map(repr, unknown))}, but the reward models are those of "
            f"{', '.join(reward_models)}."
        )
    for name in reward_models:
        rho, correction = _length_term(name, RewardSidecar(), length_penalty, length_correction)
        check_length_penalty(rho, correction)
        if rho and correction != "penalty":
            raise InputError(
                f"`length_penalty={rho:g}` of '{name}' would have no effect: `length_correction={correction!r}` keeps the gap raw. "
                "Leave one of the two out."
            )


def _without_long(preferences: Dataset, kept: NDArray[np.bool_]) -> Dataset:
    if not kept.all():
        logger.warning(
            "%d of %d pairs are longer than `max_length`, or than the models take, and are dropped.",
            (~kept).sum(),
            kept.size,
        )
        if not kept.any():
            raise InputError(NO_PAIR_LEFT)
        return preferences.select(np.flatnonzero(kept))
    return preferences


def with_columns(rows: Dataset, columns: Mapping[str, NDArray], kept: NDArray[np.bool_]) -> Dataset:
    """The kept rows with columns added, of which `columns` has the values of all rows."""
    if getattr(rows, "_indices", None) is not None:
        # Adding a column writes the selected rows into the cache otherwise.
        rows = rows.flatten_indices(keep_in_memory=True)
    for name, values in columns.items():
        if name in rows.column_names:
            rows = rows.remove_columns(name)
        rows = rows.add_column(name, values[kept])
    return rows


def check_models_of(aspects: Sequence[str], models: Mapping[str, RewardModel], whole: bool = True) -> None:
    """
    Raises `InputError` on models of aspects that the data does not have, unless they name one of several outputs, which then only
    votes; warns of aspects without a model. Where `aspects` are not those of the `whole` data, it warns of both.
    """
    check_aspect_names(models)
    beyond = [name for name in models if name not in (*aspects, *RESERVED_ASPECTS)]
    unknown = [name for name in beyond if model_output(models[name]).output is None]
    if aspects and len(beyond) > len(unknown):
        logger.info("These outputs label no pair, and only vote: %s.", ", ".join(sorted(set(beyond) - set(unknown))))
    if aspects and unknown:
        hints = "".join(closest(name, aspects) for name in unknown)
        found = f"`reward_models` has {', '.join(map(repr, unknown))}, but the aspects of the data are {', '.join(aspects)}.{hints}"
        if whole:
            raise InputError(found)
        logger.warning("%s These are the aspects of a sample: other rows may have more.", found)
    without = [name for name in aspects if name not in models]
    if without:
        logger.warning(
            "No reward model for %s: PD will need one for every aspect that labels pairs.", ", ".join(without)
        )


@contextlib.contextmanager
def scoring_folder(output_dir: str | os.PathLike | None) -> Iterator[Path]:
    """The folder of the shards, which is removed with the block where none is given."""
    if output_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield Path(output_dir)


def _length_term(
    aspect: str, sidecar: RewardSidecar, penalty: float | Mapping[str, float] | None, correction: str | None
) -> tuple[float, str]:
    """Penalty and correction of one aspect: as given, else as the model was trained. A given penalty is subtracted."""
    if isinstance(penalty, Mapping):
        penalty = penalty.get(aspect)
    if penalty is None:
        return sidecar.length_penalty, correction or sidecar.length_correction
    return penalty, correction or "penalty"
