"""What the report of a selection is computed from: columns of numbers, lengths of the texts, and votes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..data.chat import normalize_text, text_length
from ..data.columnar import arrow_column
from ..errors import InputTypeError
from .aspect_columns import VOTE_PREFIX, is_number_type, rated_aspects, rating_columns, scored_aspects
from .gaps import Gaps
from .settings import SelectionSettings

SIDES = ("chosen", "rejected")


@dataclass
class Basis:
    """
    What the report needs to know about the fit.

    Args:
        labels (`list` of `str`): Name of each index in [`Gaps.own`], aspects first.
        scale (array of shape `(num_aspects,)`, float32): Scales of the gaps (Eq. 13).
        weights (array of shape `(num_aspects,)`): Weights of the votes.
        divergence_quantiles (`dict`): Quantiles of the PD.
        reported (`list` of `str`): Columns of numbers that the report reads, beside the gaps and the votes.
        known (`list` of `str`): Names of `vote_` columns that belong to aspects.
    """

    labels: list[str]
    scale: NDArray[np.float32]
    weights: NDArray[np.float64]
    divergence_quantiles: dict[str, float] = field(default_factory=dict, kw_only=True)
    reported: list[str] = field(default_factory=list, kw_only=True)
    known: list[str] = field(default_factory=list, kw_only=True)


@dataclass
class Batch:
    """
    Rows, in the form that [`ReportSums`] takes.

    Args:
        gaps ([`Gaps`]): Labels, and gaps where there are any.
        kept (boolean array of shape `(num_rows,)`): Whether a row is kept.
        numbers (`dict`): By name, the columns of [`number_columns`], NaN where a number is missing.
        lengths (`dict`): Characters of each side, where the texts are read.
        divergence (array of shape `(num_rows,)`, *optional*): PD.
        clipped (array of shape `(num_aspects,)`, *optional*): Gaps of each aspect that count and exceed their scale.
    """

    gaps: Gaps
    kept: NDArray[np.bool_]
    numbers: Mapping[str, NDArray[np.float64]]
    lengths: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    divergence: NDArray[np.float32] | None = None
    clipped: NDArray[np.int64] | None = None

    def parts(self, rows: int, names: Sequence[str]) -> Iterator["Batch"]:
        """The batch in parts of `rows` rows, whose gaps are those of `names`. What is counted over all rows goes to the first."""
        clipped = self.clipped
        for start in range(0, len(self.kept), rows):
            part = slice(start, start + rows)
            gaps = [gap[part] for gap in self.gaps.gaps]
            missing = {
                name: int(np.isnan(gap).sum())
                for name, gap in zip(names, gaps, strict=False)
                if self.gaps.missing.get(name)
            }
            yield Batch(
                Gaps(gaps, self.gaps.own[part], missing),
                self.kept[part],
                {name: values[part] for name, values in self.numbers.items()},
                {name: values[part] for name, values in self.lengths.items()},
                None if self.divergence is None else self.divergence[part],
                clipped,
            )
            clipped = None if clipped is None else np.zeros_like(clipped)


def reported_columns(column_names: Sequence[str], settings: SelectionSettings) -> list[str]:
    """Columns of numbers that the report reads, whatever the selection ranks by."""
    return [name for name in dict.fromkeys(("delta_length", settings.margin_column)) if name in column_names]


def number_columns(schema: pa.Schema, reported: Iterable[str]) -> list[str]:
    """Columns of numbers that the report reads: lengths, margins and votes. A column without numbers is left out."""
    votes = [name for name in schema.names if name.startswith(VOTE_PREFIX)]
    wanted = dict.fromkeys(["delta_length", *reported, *votes])
    return [name for name in wanted if name in schema.names and is_number_type(schema.field(name).type)]


def text_lengths(schema: pa.Schema, read: Callable[[str], pa.ChunkedArray]) -> dict[str, NDArray[np.int64]]:
    """Characters of the texts of both sides; a column that holds no texts is left out."""
    found = {}
    for side in SIDES:
        if side in schema.names:
            try:
                found[side] = text_length(normalize_text(read(side), side))
            except InputTypeError:
                continue
    return found


def dataset_text_lengths(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """[`text_lengths`] of a data set."""

    return text_lengths(dataset.features.arrow_schema, lambda name: arrow_column(dataset, name))


def length_difference(
    delta: NDArray[np.float64] | None, lengths: Mapping[str, NDArray[np.int64]]
) -> NDArray[np.float64] | None:
    """Length of the chosen minus the rejected response: in tokens if given, else in characters, `None` if unknown."""
    if delta is None and len(lengths) == len(SIDES):
        return lengths["chosen"].astype(np.float64) - lengths["rejected"]
    return delta


def vote_names(schema: pa.Schema) -> list[str]:
    """Names of `vote_` columns that belong to aspects: those with gaps or ratings too, or of the type of votes (int8)."""
    names = schema.names
    rated = [name for name in rated_aspects(names) if len(rating_columns(name, names)) == 2]
    typed = [name for name in names if name.startswith(VOTE_PREFIX) and schema.field(name).type == pa.int8()]
    return [*scored_aspects(names), *rated, *(name[len(VOTE_PREFIX) :] for name in typed)]


def other_votes(votes: NDArray[np.float64], own: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the pairs of other aspects on which a vote agrees with the label, and on which it decides."""
    votes = np.nan_to_num(votes)
    counted = (votes != 0) & ~own
    return counted & (votes > 0), counted
