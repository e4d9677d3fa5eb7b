"""Sampler and collator for rows of several aspects."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray

from ....data.columnar import closest
from ....errors import InputError
from ..sampler import EpochSampler, LengthBalancedSampler, group_by_length


class AspectCollator:
    """
    Adds `aspect_ids` of shape `(2 * num_pairs,)` to the batches of a collator of preference pairs: the head of each row, the
    chosen responses first.

    Args:
        collator (callable): Makes a batch of a list of rows.
        aspects (sequence of `str`): Aspects of the heads.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]], aspects: Sequence[str]):
        self.collator, self.aspects = collator, list(aspects)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = aspect_ids([example.get("aspect") for example in examples], self.aspects)
        return {**self.collator(examples), "aspect_ids": torch.from_numpy(np.tile(ids, 2))}


class AspectBalancedSampler(EpochSampler):
    """
    Length-balanced sampling within each aspect: every epoch draws as many pairs of an aspect as it has, with the shares of
    [`LengthBalancedSampler`]. With one aspect it draws what that sampler draws.

    Args:
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.
        head_of_row (array of shape `(num_pairs,)`): Head of each pair.
        temperature, seed, epoch, lengths, batch_size: See [`LengthBalancedSampler`].
    """

    def __init__(
        self,
        delta_lengths: ArrayLike,
        head_of_row: ArrayLike,
        *,
        temperature: float = 1.0,
        seed: int = 42,
        epoch: int | Callable[[], int] = 0,
        lengths: ArrayLike | None = None,
        batch_size: int = 1,
    ):
        delta, heads = np.asarray(delta_lengths), np.asarray(head_of_row)
        self.seed, self.epoch, self.batch_size = seed, epoch, batch_size
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.rows = [np.flatnonzero(heads == head) for head in np.unique(heads)]
        self.samplers = [LengthBalancedSampler(delta[rows], temperature, seed + k) for k, rows in enumerate(self.rows)]

    def __len__(self) -> int:
        return sum(len(sampler) for sampler in self.samplers)

    def indices(self, epoch: int) -> NDArray[np.integer]:
        drawn = np.concatenate(
            [rows[sampler.indices(epoch)] for rows, sampler in zip(self.rows, self.samplers, strict=True)]
        )
        if len(self.rows) > 1:
            np.random.default_rng([int(self.seed), int(epoch)]).shuffle(drawn)
        return drawn if self.lengths is None else group_by_length(drawn, self.lengths, self.batch_size)


def aspect_ids(labels: Sequence[Any], aspects: Sequence[str]) -> NDArray[np.int64]:
    """
    The head of each row, shape `(num_rows,)`, by the name of its aspect.

    Raises:
        InputError: On a row whose aspect has no head.
    """
    position = {aspect: k for k, aspect in enumerate(aspects)}
    unknown = [row for row, label in enumerate(labels) if label not in position]
    if unknown:
        label = str(labels[unknown[0]])
        raise InputError(
            f"{len(unknown)} rows have an aspect for which the model has no head, the first of them row {unknown[0]} with "
            f"{label!r}: its aspects are {', '.join(aspects)}.{closest(label, list(aspects))}"
        )
    return np.array([position[label] for label in labels], dtype=np.int64)


def check_aspect_column(dataset: Any, aspects: Sequence[str], dataset_name: str) -> None:
    """Raises `InputError` unless every row of a data set names an aspect that has a head; a stream is looked at as it comes."""
    columns = getattr(dataset, "column_names", None)
    if columns is not None and "aspect" not in columns:
        raise InputError(
            f"The {dataset_name} set needs the column 'aspect', the head of each row, but its columns are "
            f"{', '.join(sorted(columns))}. The model's aspects are {', '.join(aspects)}."
        )
    if isinstance(dataset, Dataset):
        aspect_ids(dataset["aspect"][:], aspects)
