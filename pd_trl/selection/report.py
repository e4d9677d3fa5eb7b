"""The report of a selection: what it kept and dropped, and warnings about its proxies and votes."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.id_columns import IdColumn
from ..errors import InputError
from ..method.divergence import PreferenceDivergence
from ..method.ranking import SELECTORS, select_lowest
from .aspect_columns import is_number_type, label_codes, numeric_column
from .gaps import GapMatrix, Gaps
from .report_inputs import Basis, Batch, dataset_text_lengths, number_columns, reported_columns, vote_names
from .report_numbers import SHARES, report_numbers
from .report_sums import ReportSums
from .report_text import render
from .scores import selector_scores
from .settings import SelectionSettings

logger = logging.getLogger(__name__)

# Rows summed at a time, so that what is computed on the way stays in the processor's cache.
_BLOCK = 32_768


class SelectionReport:
    """
    Report of a selection, made by [`PDFilter`]. Printed, it is a table; `to_dict()` gives its numbers.

    Args:
        numbers (`dict` or callable): What [`selection_report`] computed, or what computes it when the report is first read.
    """

    def __init__(self, numbers: dict[str, Any] | Callable[[], dict[str, Any]]):
        self._numbers = numbers

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers, ready for json."""
        if callable(self._numbers):
            self._numbers = self._numbers()
        return self._numbers

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for json."""
        return self.numbers

    def __getstate__(self) -> dict[str, Any]:
        return {"_numbers": self.numbers}

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]

    def __str__(self) -> str:
        return render(self.numbers)

    def __repr__(self) -> str:
        return f"SelectionReport(kept={self.numbers['kept']}, total={self.numbers['total']})"


def selection_report(
    dataset: Dataset,
    ids: IdColumn,
    kept: NDArray[np.bool_],
    settings: SelectionSettings,
    *,
    matrix: GapMatrix | None = None,
    divergence: PreferenceDivergence | None = None,
    weights: NDArray[np.float64] | None = None,
    proxy_metrics: Mapping[str, Mapping[str, float]] | None = None,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
) -> SelectionReport:
    """
    Numbers about a selection in memory: range of the PD, clipped shares and scales per aspect, accuracy of the proxies
    against a coin and against "longer wins", lengths before and after, correlations of the gaps with length and with
    each other, shares kept per aspect and per number of agreeing aspects, pairs with fewer votes than others, overlap
    with rival selections of the same size, and agreement with the labels that the selection did not see. Of a column
    that only the report reads, missing values are skipped, and so is the column if it holds no numbers. Texts are measured and
    rivals ranked when the report is first read.

    Args:
        dataset ([`~datasets.Dataset`]): The pairs.
        ids ([`IdColumn`]): Their `pair_id`s.
        kept (boolean array of shape `(num_pairs,)`): Which of them are kept.
        settings ([`SelectionSettings`]): The settings of the selection.
        matrix ([`GapMatrix`]), divergence ([`PreferenceDivergence`]), weights (array, *optional*):
            Gaps, PD and weights of the votes, where there is a PD.
        proxy_metrics (`dict`, *optional*): Held-out metrics of each aspect's reward model.
        outputs (`dict`, *optional*): What is read of each aspect's reward model, see [`read_outputs`].
    """
    schema = dataset.features.arrow_schema
    labels, own = label_codes(dataset, matrix.names if matrix is not None else [])
    reported = reported_columns(dataset.column_names, settings)
    numbers = {name: numeric_column(dataset, name) for name in number_columns(schema, reported)}
    basis = Basis(labels, np.empty(0, np.float32), np.empty(0), reported=reported, known=vote_names(schema))
    batch = Batch(Gaps([], own), kept, numbers)
    if matrix is not None and divergence is not None and weights is not None:
        basis.scale, basis.weights = divergence.quantiles, weights
        basis.divergence_quantiles = divergence_quantiles(divergence.values)
        batch.gaps = Gaps(list(matrix.gaps.T), own, matrix.missing)
        batch.divergence, batch.clipped = divergence.values, divergence.clipped
    sums = ReportSums(basis)
    for part in batch.parts(_BLOCK, sums.names):
        sums.add_columns(part)
    values = None if divergence is None else divergence.values
    rest = Batch(Gaps([], own[:0]), kept, {name: numbers[name] for name in ("delta_length",) if name in numbers})
    # The settings of the filter may change before its report is read.
    settings, metrics = SelectionSettings(**settings.to_dict()), dict(proxy_metrics or {})

    def computed() -> dict[str, Any]:
        rest.lengths = dataset_text_lengths(dataset)
        sums.add_lengths(rest)
        overlap = rival_overlaps(lambda column: numbers_of(dataset, column), ids, kept, settings, values)
        return report_numbers(sums, settings, metrics, overlap, outputs)

    return SelectionReport(computed)


def divergence_quantiles(divergence: NDArray[np.floating]) -> dict[str, float]:
    """The quantiles of the PD that the report shows, of the pairs that have one."""
    values = divergence[~np.isnan(divergence)].astype(np.float64)
    found = np.quantile(values, SHARES).tolist() if values.size else []
    return {f"{share:g}": value for share, value in zip(SHARES, found, strict=False)}


def rival_overlaps(
    column_of: Callable[[str], NDArray | None],
    ids: IdColumn,
    kept: NDArray[np.bool_],
    settings: SelectionSettings,
    divergence: NDArray | None,
) -> dict[str, float]:
    """
    Share of the kept pairs that each rival selection of the same size would keep too, if its columns are complete. The random one
    is drawn by [`IdColumn.draws`], which hashes a million ids in a few hundredths of a second.

    Args:
        column_of (callable): A column as numbers; `None` where there is none.
        ids ([`IdColumn`]): `pair_id`s.
        kept (boolean array of shape `(num_pairs,)`): The kept pairs.
        settings ([`SelectionSettings`]): The settings of the selection.
        divergence (array of shape `(num_pairs,)`, *optional*): PD, where it is computed.
    """
    read: dict[str, NDArray | None] = {"pd": divergence}
    count, result = int(kept.sum()), {}
    for name, rival in SELECTORS.items():
        for column in rival.inputs:
            if column not in read:
                read[column] = column_of(settings.column_of(column))
        inputs = {column: values for column in rival.inputs if (values := read[column]) is not None}
        complete = len(inputs) == len(rival.inputs) and all(np.isfinite(values).all() for values in inputs.values())
        if name == settings.selector or not complete:
            continue
        try:
            if name == "random":
                scores = ids.draws(settings.seed)
            else:
                given = {"pair_id": np.asarray(ids)} if rival.reads_ids else {}
                scores = selector_scores(rival, {**given, **inputs}, settings.seed)
        except InputError as error:
            logger.warning("The report has no overlap with the selector %r: %s", name, error)
            continue
        chosen, _ = select_lowest(scores, ids, count)
        result[name] = float((chosen & kept).sum() / count)
    return result


def numbers_of(dataset: Dataset, column: str) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where one is missing; `None` if there is no such column or it does not hold numbers."""
    if column not in dataset.column_names or not is_number_type(dataset.features.arrow_schema.field(column).type):
        return None
    return numeric_column(dataset, column)
