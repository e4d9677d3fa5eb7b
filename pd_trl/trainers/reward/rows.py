"""What [`PDRewardTrainer`] adds to its batches: the margin of each pair, and keys of its prompt and content."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from os.path import commonprefix
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ...data.ids import canonical_json, row_keys
from ...errors import InputError
from ...method.ranking import random_keys, resolve_budget, select_lowest

logger = logging.getLogger(__name__)

# Names the prompt and the pair in each row of an evaluation set: errors count prompts, and halves are drawn by content.
PAIR_KEYS = "pd_pair_keys"
MARGIN = "margin"
_KEY_COLUMNS = ("prompt_id", "prompt", "chosen", "rejected", "chosen_ids", "rejected_ids")


class PairCollator:
    """
    Wraps TRL's collator: its `margin` comes from `margin_column` only, and `pd_pair_keys` are carried into the batch.

    Args:
        collator (callable): Makes a batch of a list of rows.
        margin_column (`str`, *optional*): See [`PDRewardConfig`].
        as_trl (`bool`, *optional*, defaults to `False`): Leave a column `margin` in the rows, as TRL does.
    """

    def __init__(
        self,
        collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
        margin_column: str | None,
        as_trl: bool = False,
    ):
        self.collator, self.margin_column, self.as_trl = collator, margin_column, as_trl

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator([self._with_margin(example, i) for i, example in enumerate(examples)])
        if PAIR_KEYS in examples[0]:
            batch[PAIR_KEYS] = torch.tensor([example[PAIR_KEYS] for example in examples], dtype=torch.int64)
        return batch

    def _with_margin(self, example: dict[str, Any], position: int) -> dict[str, Any]:
        if self.as_trl:
            return example
        kept = {name: value for name, value in example.items() if name != MARGIN}
        if self.margin_column is not None:
            kept[MARGIN] = _number(example.get(self.margin_column), self.margin_column, position)
        return kept


def _number(value: Any, column: str, position: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"`margin_column={column!r}` must hold a finite number in every row, got {value!r} in row {position} of a batch. "
            "Fill the column, or leave `margin_column` unset."
        )
    return number


def check_margin(dataset: Any, margin_column: str | None, dataset_name: str) -> None:
    """
    Says once that a `margin` column nobody asked for is left out of the loss; raises `InputError` where the column that was
    asked for is missing. A stream that does not know its columns is looked at as it comes.
    """
    columns = getattr(dataset, "column_names", None)
    if columns is None:
        return
    if margin_column is None and MARGIN in columns and dataset_name in ("train", "training"):
        logger.warning(
            "The column 'margin' of the %s set does not enter the loss. Set `margin_column='margin'` if its numbers are margins "
            "of the reward, chosen minus rejected.",
            dataset_name,
        )
    if margin_column is not None and margin_column not in columns:
        raise InputError(
            f"`margin_column={margin_column!r}` is not a column of the {dataset_name} set; its columns are "
            f"{', '.join(sorted(columns))}."
        )


def with_pair_keys(dataset: Any) -> Any:
    """
    The rows with `pd_pair_keys`: two hashes, of the prompt (`prompt_id`, the `prompt`, or what both sides begin with, the first
    of these that a row has) and of the tokens of both sides.
    """
    if PAIR_KEYS in (getattr(dataset, "column_names", None) or []):
        return dataset
    if not isinstance(dataset, Dataset):
        return dataset.map(_with_keys)
    names = [name for name in _KEY_COLUMNS if name in dataset.column_names]
    rows = dataset.with_format(None).select_columns(names)
    return dataset.add_column(PAIR_KEYS, [_pair_keys(row) for row in _rows(rows)])


def keys_of_batch(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The keys of a batch whose rows came without them, by its tokens, shape `(num_pairs, 2)`."""
    sides = zip(batch["input_ids"].cpu(), batch["attention_mask"].cpu().bool(), strict=True)
    tokens = [ids[mask].tolist() for ids, mask in sides]
    half = len(tokens) // 2
    pairs = zip(tokens[:half], tokens[half:], strict=True)
    keys = [_pair_keys({"chosen_ids": chosen, "rejected_ids": rejected}) for chosen, rejected in pairs]
    return torch.tensor(keys, dtype=torch.int64, device=batch["input_ids"].device)


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for batch in dataset.iter(batch_size=1000):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _with_keys(row: dict[str, Any]) -> dict[str, Any]:
    return {PAIR_KEYS: _pair_keys(row)}


def _pair_keys(row: Mapping[str, Any]) -> list[int]:
    prompt = next((row[name] for name in ("prompt_id", "prompt") if row.get(name) is not None), None)
    if prompt is None:
        sides = ("chosen", "rejected") if row.get("chosen") is not None else ("chosen_ids", "rejected_ids")
        prompt = commonprefix([row[side] for side in sides])
    return [_hash(prompt), _hash([row["chosen_ids"], row["rejected_ids"]])]


def _hash(value: Any) -> int:
    digest = hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def share_of(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The share of the rows that `train_share` leaves, drawn by the seed and the rows' ids."""
    ids = row_keys(dataset)
    kept, _ = select_lowest(random_keys(ids, seed), ids, resolve_budget(float(share), len(dataset)))
    logger.info("Training on %d of %d rows (train_share=%g).", kept.sum(), len(dataset), share)
    return dataset.select(np.flatnonzero(kept))
