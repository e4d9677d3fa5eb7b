"""[`score_pairs`]: reward gaps of every pair by every aspect's reward model."""

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ..artifacts import dataset_digest
from ..data.columnar import closest
from ..data.validation import RESERVED_ASPECTS, aspects_of, check_aspect_names, check_preferences
from ..errors import InputError
from ..length import adjusted_gap, check_length_penalty
from ..reward_sidecar import RewardSidecar
from .batching import run_batches
from .encoding import conversations, encode_responses, response_key, truncate_start
from .reward_models import RewardModel, RewardModelScorer, check_reward_models, load_scorers
from .shards import ShardFolder, compute_shards

logger = logging.getLogger(__name__)

PAIRS_PER_SHARD = 2048
_TEXT_COLUMNS = ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs")


def score_pairs(
    preferences: Dataset,
    reward_models: Mapping[str, RewardModel],
    *,
    output_dir: str | os.PathLike | None = None,
    max_length: int | None = None,
    tokens_per_batch: int | None = None,
    on_long: str = "truncate",
    length_penalty: float | Mapping[str, float] | None = None,
    length_correction: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    pairs_per_shard: int = PAIRS_PER_SHARD,
    trust_remote_code: bool = False,
) -> Dataset:
    """
    Adds the reward gap of each aspect to each pair (Eq. 12 and 17 of
    [arXiv 2508.07638](https://huggingface.co/papers/2508.07638)).

    Scores do not depend on the order of the rows, on batches, on the number of processes or on interruptions: 1e-5 in
    float32. Started again with the same arguments after a kill, it goes on with the shards that are missing. Under
    `accelerate launch`, the processes share the shards of `output_dir`, and each returns the whole result.

    Args:
        preferences ([`~datasets.Dataset`]):
            Preferences in the data contract: `pair_id`, `chosen`, `rejected`, `aspect`, and `prompt` unless it is part of
            both.
        reward_models (`dict`):
            A reward model for each aspect: path or Hub id of a model or LoRA adapter, a model, or a tuple of a model and
            its tokenizer. The key `"overall"` is for a unified model, whose gap is no aspect's.
        output_dir (`str`, *optional*):
            Folder for shards. `None` keeps nothing.
        max_length (`int`, *optional*):
            Most tokens of prompt and response. `None` is what the model has positions for.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted. `None` is 16,384 on a GPU and 4,096 on a CPU.
        on_long (`str`, *optional*, defaults to `"truncate"`):
            What to do with a pair of which a side is longer than `max_length`: `"truncate"` the start of its prompt and
            count it, `"drop"` the pair and count it, or raise an `"error"`.
        length_penalty (`float` or `dict`, *optional*):
            Length penalty rho per completion token, for all aspects or each. `None` is what each model was trained with.
        length_correction (`str`, *optional*):
            `"penalty"` adjusts the gap as in Eq. 17, `"residual"` and `"none"` keep it raw. `None` is what each model was
            trained with.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of models in memory.
        dtype (`torch.dtype`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere.
        pairs_per_shard (`int`, *optional*, defaults to `2048`):
            Pairs of a shard: what a kill can lose.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.

    Returns:
        [`~datasets.Dataset`]: all columns of `preferences`, `reward_gap_<aspect>` (float32, nats, adjusted), and
        `delta_length` (int32, completion tokens of the chosen minus those of the rejected response, by the first model's
        tokenizer).

    Raises:
        InputError: On unusable data or models, or when `output_dir` holds shards of another run.
    """
    check_preferences(preferences)
    check_reward_models(reward_models)
    _check_aspects(preferences, list(reward_models))
    for name in reward_models:
        rho, correction = _length_term(name, RewardSidecar(), length_penalty, length_correction)
        check_length_penalty(rho, correction)
    if on_long not in ("truncate", "drop", "error"):
        raise InputError(f"`on_long` must be 'truncate', 'drop' or 'error', got {on_long!r}.")
    for name, value in (
        ("max_length", max_length),
        ("tokens_per_batch", tokens_per_batch),
        ("pairs_per_shard", pairs_per_shard),
    ):
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")
    texts = preferences.select_columns([c for c in ("pair_id", *_TEXT_COLUMNS) if c in preferences.column_names])
    scored, kept = preferences, np.ones(len(preferences), dtype=bool)
    columns: dict[str, NDArray] = {}
    with _folder(output_dir) as folder:
        identity = {"data": dataset_digest(texts), "max_length": max_length, "on_long": on_long, "dtype": str(dtype)}
        scorers = load_scorers(reward_models, tokenizer=tokenizer, dtype=dtype, trust_remote_code=trust_remote_code)
        for scorer in scorers:
            gaps, delta, inside = _score_with(
                scorer, texts, Path(folder), identity, max_length, tokens_per_batch, pairs_per_shard
            )
            kept &= inside
            columns.setdefault("delta_length", delta)
            for k, aspect in enumerate(scorer.aspects):
                rho, correction = _length_term(aspect, scorer.sidecars[aspect], length_penalty, length_correction)
                columns[f"reward_gap_{aspect}"] = adjusted_gap(gaps[:, k], delta, rho, correction)
    if not kept.all():
        logger.warning("%d of %d pairs are longer than the models take and are dropped.", (~kept).sum(), kept.size)
        if not kept.any():
            raise InputError("No pair is left: all are longer than the reward models take. Use on_long='truncate'.")
        scored = scored.select(np.flatnonzero(kept))
    for name in [f"reward_gap_{aspect}" for aspect in reward_models] + ["delta_length"]:
        if name in scored.column_names:
            scored = scored.remove_columns(name)
        scored = scored.add_column(name, columns[name][kept])
    return scored


def _check_aspects(preferences: Dataset, models: list[str]) -> None:
    """Models of aspects that the data does not have are a mistake; aspects without a model are worth a word."""
    check_aspect_names(models)
    aspects = aspects_of(preferences)
    unknown = [name for name in models if name not in (*aspects, *RESERVED_ASPECTS)]
    if aspects and unknown:
        hints = "".join(closest(name, aspects) for name in unknown)
        raise InputError(
            f"`reward_models` has {', '.join(map(repr, unknown))}, but the aspects of the data are {', '.join(aspects)}.{hints}"
        )
    without = [name for name in aspects if name not in models]
    if without:
        logger.warning(
            "No reward model for %s: PD will need one for every aspect that labels pairs.", ", ".join(without)
        )


def _folder(output_dir: str | os.PathLike | None) -> Any:
    if output_dir is None:
        return tempfile.TemporaryDirectory()
    return _Existing(Path(output_dir))


class _Existing:
    """A folder that stays, in the shape of a `TemporaryDirectory`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def __exit__(self, *error: object) -> None:
        return None


def _length_term(
    aspect: str, sidecar: RewardSidecar, penalty: float | Mapping[str, float] | None, correction: str | None
) -> tuple[float, str]:
    if isinstance(penalty, Mapping):
        penalty = penalty.get(aspect)
    if penalty is not None and correction is None and sidecar.length_correction == "none":
        correction = "penalty"
    return (
        sidecar.length_penalty if penalty is None else penalty,
        sidecar.length_correction if correction is None else correction,
    )


def _score_with(
    scorer: RewardModelScorer,
    texts: Dataset,
    folder: Path,
    identity: dict[str, Any],
    max_length: int | None,
    tokens_per_batch: int | None,
    pairs_per_shard: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
    """Raw gaps `(num_pairs, num_aspects)`, `delta_length` and whether each pair is kept, by one scorer."""
    longest = max_length if max_length is not None else scorer.longest
    on_cpu = next(scorer.model.parameters()).device.type == "cpu"
    budget = tokens_per_batch or (4096 if on_cpu else 16384)
    num_shards = -(-len(texts) // pairs_per_shard)
    shards = ShardFolder(
        folder / "shards" / "+".join(scorer.aspects),
        num_shards,
        {**identity, "model": scorer.digest, "aspects": scorer.aspects, "longest": longest},
    )
    with tqdm(total=len(texts), desc=f"Scoring {', '.join(scorer.aspects)}", unit="pair", disable=None) as bar:
        bar.update(sum(min(pairs_per_shard, len(texts) - i * pairs_per_shard) for i in shards.done))

        def compute(index: int) -> tuple[Dataset, dict[str, int]]:
            rows = texts.select(range(index * pairs_per_shard, min(len(texts), (index + 1) * pairs_per_shard)))
            result = _score_rows(scorer, rows.to_list(), longest, identity["on_long"], budget, bar.update)
            return result

        compute_shards(shards, compute)
    merged, counts = shards.merged()
    if counts["truncated"]:
        logger.warning(
            "%d of %d pairs are longer than %s tokens for %s and were scored without the start of their prompt.",
            counts["truncated"], counts["rows"], longest, ", ".join(scorer.aspects),
        )  # fmt: skip
    arrays = merged.with_format("numpy")[:]
    if arrays["pair_id"].astype(str).tolist() != [str(i) for i in texts["pair_id"]]:
        raise InputError(f"The shards in {shards.folder} do not match the data. Remove the folder and run again.")
    gaps = np.stack([arrays[f"gap_{k}"] for k in range(len(scorer.aspects))], axis=1).astype(np.float32)
    return gaps, arrays["delta_length"].astype(np.int32), arrays["kept"].astype(bool)


def _score_rows(
    scorer: RewardModelScorer,
    rows: list[dict[str, Any]],
    longest: int | None,
    on_long: str,
    tokens_per_batch: int,
    progress: Callable[[int], Any],
) -> tuple[Dataset, dict[str, int]]:
    """One shard: each distinct conversation is tokenised and scored once, however many pairs it is in."""
    tokenizer = scorer.tokenizer
    texts = conversations(tokenizer, rows)
    position: dict[str, int] = {}
    distinct: list[int] = []
    places = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        key = response_key(text, rows[i // 2])
        if key not in position:
            position[key] = len(distinct)
            distinct.append(i)
        places[i] = position[key]
    encoded = encode_responses(tokenizer, [texts[i] for i in distinct], [rows[i // 2] for i in distinct])
    lengths = np.array([len(ids) for ids in encoded])[places].reshape(-1, 2)
    too_long = (lengths > longest).any(axis=1) if longest is not None else np.zeros(len(rows), dtype=bool)
    if too_long.any() and on_long == "error":
        row = int(np.flatnonzero(too_long)[0])
        raise InputError(
            f"{int(too_long.sum())} pairs are longer than {longest} tokens, the first with pair_id "
            f"{rows[row]['pair_id']!r} ({int(lengths[row].max())} tokens). Shorten them, or use on_long='truncate' or 'drop'."
        )
    done = {"pairs": 0.0}
    share = len(rows) / len(encoded)

    def advance(count: int) -> None:
        before = int(done["pairs"])
        done["pairs"] += count * share
        progress(int(done["pairs"] + 1e-6) - before)

    rewards = run_batches([truncate_start(ids, longest) for ids in encoded], scorer, tokens_per_batch, advance)
    gaps = rewards[places[0::2]] - rewards[places[1::2]]
    bad = np.flatnonzero(~np.isfinite(gaps).all(axis=1))
    if bad.size:
        aspects = [name for k, name in enumerate(scorer.aspects) if not np.isfinite(gaps[:, k]).all()]
        raise InputError(
            f"The reward model of {', '.join(aspects)} gives rewards that are not finite, the first for pair_id "
            f"{rows[bad[0]]['pair_id']!r} ({bad.size} such pairs in this shard). Train it again."
        )
    content: dict[str, Any] = {
        "pair_id": [row["pair_id"] for row in rows],
        "delta_length": (lengths[:, 0] - lengths[:, 1]).astype(np.int32),
        "kept": ~too_long if on_long == "drop" else np.ones(len(rows), dtype=bool),
    }
    content |= {f"gap_{k}": gaps[:, k] for k in range(gaps.shape[1])}
    truncated = int(too_long.sum()) if on_long == "truncate" else 0
    return Dataset.from_dict(content), {"truncated": truncated, "conversations": len(encoded)}
