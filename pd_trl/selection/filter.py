"""[`PDFilter`]: keeps pairs by Preference Divergence or a rival rule. A fitted filter can be applied to other data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value
from numpy.typing import NDArray

from ..data.id_columns import IdColumn, row_ids
from ..errors import InputError, InputTypeError
from ..method.divergence import PreferenceDivergence
from ..method.ranking import select_ranked
from ..safety.media import check_media_table, media_columns, undecoded
from .aspect_columns import GAP_PREFIX, label_codes, numeric_column
from .fitted import FittedFilter
from .model_gaps import STREAM_ROWS
from .out_of_core.stream import fit_stream
from .reasons import ALL_PAIRS, Decider, split_kept, with_decision
from .report import selection_report
from .scores import missing_column_error, selector_scores
from .sql import divergence_sql, kept_sql
from .votes import fitted_votes, transformed_divergence

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class PDFilter(FittedFilter):
    """
    Keeps the pairs of lowest Preference Divergence: those on which the other aspects agree with the label most ([arXiv
    2508.07638](https://huggingface.co/papers/2508.07638)).

    Called on a data set, it returns the kept rows with all their columns, and adds `pd`, `pd_kept` and `pd_reason`.
    `dropped_` then holds the other rows, and `report_` says what was kept and why. `fit` computes statistics, which
    can be saved and applied to other data (`transform`), streams included.

    Example:

    ```python
    >>> from pd_trl import PDFilter, load_pairs, to_preferences

    >>> pd_filter = PDFilter(budget=0.3, source="ratings")
    >>> pairs = load_pairs("nvidia/HelpSteer2")
    >>> kept = pd_filter(to_preferences(pairs, aspects=["helpfulness", "correctness", "coherence"]))
    >>> print(pd_filter.report_)
    ```

    Args:
        budget (`float` or `int`, *optional*, defaults to `0.3`):
            A `float` in (0, 1] is the share to keep (the paper's lambda: 0.3 for UltraFeedback, 0.5 for HelpSteer). An
            `int` is the number of pairs to keep. `1.0` keeps all, `1` keeps one.
        source (`str`, *optional*, defaults to `"rewards"`):
            Where the gaps come from. `"rewards"`: the columns `reward_gap_<aspect>`, or `reward_models` where they are
            missing. `"ratings"`: the ratings of both sides. `"column"`: PD is read from the column `pd_column`.
        gamma (`float`, *optional*, defaults to `0.9`):
            Quantile of the absolute gaps that becomes 1 (Eq. 13), in (0, 1]. The paper's value is not known; 0.9 is ours.
        weights (`dict` or `str`, *optional*):
            Weight of the vote of an aspect; 1 for those not named. A weight of 0 leaves the aspect out.
            `"decorrelated"` learns the weights from the correlation of the gaps, so that aspects that say the same do
            not outvote the others, see [`decorrelated_weights`].
        reward_models (`dict` or `str`, *optional*):
            A reward model for each aspect, or one name for all outputs of a model, see [`score_pairs`]. For a stream,
            all models are in memory at once.
        per_aspect (`bool`, *optional*, defaults to `False`):
            Whether to keep the same share of each aspect's pairs.
        seed (`int`, *optional*, defaults to `42`):
            Seed of `selector="random"`.
        selector (`str`, *optional*, defaults to `"pd"`):
            Rule to rank by, one of [`SELECTORS`]: `"pd"`, `"pd_high"`, `"random"`, `"margin"` (RAF), `"length"`, or a rule of
            another paper: `"pareto"`, `"difficulty"`, `"alignment_potential"`, `"dcrm"`, `"bees"`, `"selective_dpo"`. These need
            columns of [`rival_scores`], [`policy_margins`] or [`validation_losses`] (docs/rivals.md).
        margin_column (`str`, *optional*, defaults to `"reward_gap_overall"`):
            Column with the margin of one unified reward model, for `selector="margin"`.
        pd_column (`str`, *optional*, defaults to `"pd"`):
            Column to read with `source="column"`.
        min_proxy_accuracy (`float`, *optional*):
            An aspect gets a weight of 0 if its reward model is less accurate than this on held-out pairs.
        proxy_metrics (`dict`, *optional*):
            Held-out metrics of each aspect's reward model. Read from `reward_models` where these are folders.
        output_dir (`str`, *optional*):
            Folder for the shards of `score_pairs`. Each data set gets a subfolder.
        chat (`bool`, *optional*, defaults to `False`):
            Whether `reward_models` score strings as messages in their chat template, see [`score_pairs`].
        on_no_votes (`str`, *optional*, defaults to `"error"`):
            What to do with a pair that has no PD because no other aspect votes on it. `"error"` raises an error.
            `"drop"` drops it with its own reason, and the budget is then a share of the other pairs. Selectors that do
            not use PD may keep such pairs.

    Attributes:
        report_ ([`SelectionReport`]): What the last fit kept and dropped, as a table (`print`) and a dict (`to_dict()`).
        dropped_ ([`~datasets.Dataset`]): Rows that the last call left out, with `pd` and `pd_reason`.
        aspects_ (`list` of `str`), quantiles_ (`dict`), thresholds_ (`dict`): Statistics of the fit.
        weights_ (`dict`), proxy_metrics_ (`dict`): Weights of the votes in the fit, and the metrics of the reward models.

    Raises:
        InputError: On arguments out of range.

    A call on a `Dataset` always fits again. `transform`, and a call on a stream, use the fitted statistics.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dropped_: Dataset | None = None

    def __call__(self, dataset: Any) -> Any:
        """
        Fits on `dataset` and returns its kept rows. For a `DatasetDict`, fits on `train` and filters every split. A
        stream is read (and scored) once to fit, unless the filter is fitted already, and again when its kept rows are read.
        """
        if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
            if self.thresholds_ is None:
                self.fit(dataset)
            if isinstance(dataset, IterableDatasetDict):
                return IterableDatasetDict({name: self(part) for name, part in dataset.items()})
            return self._as_given(self._transform_stream(dataset).filter(lambda row: row["pd_kept"]), dataset)
        if isinstance(dataset, DatasetDict):
            decided = self.fit_transform(dataset)
            parts = {name: split_kept(part) for name, part in decided.items()}
            self.dropped_ = parts[self._fit_split(dataset)][1]
            return DatasetDict({name: kept for name, (kept, _) in parts.items()})
        kept, self.dropped_ = split_kept(self.fit_transform(dataset))
        return kept

    def fit(self, dataset: Any) -> "PDFilter":
        """
        Computes the scales of the gaps, the threshold of the budget, and the report. For a stream, the columns that
        decide are written to a temporary file, and memory stays bounded.
        """
        if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
            dataset = dataset[self._fit_split(dataset)]
        if isinstance(dataset, IterableDataset):
            fit_stream(self, dataset)
            return self
        prepared = self._prepared(dataset)
        self._fit(prepared, row_ids(prepared))
        return self

    def transform(self, dataset: Any) -> Any:
        """
        Adds `pd` (float32), `pd_kept` (bool) and `pd_reason` (string) to every row, by the statistics of `fit`. On the
        data of the fit, exactly the rows of the budget are kept. On other data, the rows at or below the same
        threshold are kept.
        """
        if self.thresholds_ is None:
            raise InputError(
                "The filter is not fitted. Call `fit` first, or load a fitted filter with `PDFilter.load`."
            )
        if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
            return type(dataset)({name: self.transform(part) for name, part in dataset.items()})
        if isinstance(dataset, IterableDataset):
            return self._as_given(self._transform_stream(dataset), dataset)
        return self._transform(self._prepared(dataset))

    def to_sql(self, dialect: str = "duckdb", *, column: str = "pd_kept", voted: Sequence[str] = ()) -> str:
        """
        The fitted decision as one SQL expression over the columns of the scored pairs. On the data of the fit it is true for
        exactly the kept pairs.

        Example:

        ```python
        >>> pd_filter = PDFilter.load("runs/select")
        >>> duckdb.sql(f"SELECT * FROM 'scored.parquet' WHERE {pd_filter.to_sql()}")
        ```

        Args:
            dialect (`str`, *optional*, defaults to `"duckdb"`): `"duckdb"`, `"spark"` or `"bigquery"`. BigQuery has no 32-bit
                floats: gaps in 64-bit columns are not rounded there, so that a tie may fall otherwise.
            column (`str`, *optional*, defaults to `"pd_kept"`): `"pd_kept"`, or `"pd"` for the PD (Eq. 15) in 64 bits.
            voted (sequence of `str`, *optional*): With `source="ratings"`, the aspects that have a column `vote_<aspect>` in place
                of ratings.

        Raises:
            InputError: If the filter is not fitted, or its rule is no single column and not PD, such as `"random"`.
        """
        if column not in ("pd_kept", "pd"):
            raise InputError(f"`column` must be 'pd_kept' or 'pd', got {column!r}.")
        return (kept_sql if column == "pd_kept" else divergence_sql)(self, dialect, voted)

    def fit_transform(self, dataset: Any) -> Any:
        """[`fit`] and [`transform`] of the same data, which is scored once unless it is a stream."""
        if isinstance(dataset, (IterableDataset, IterableDatasetDict)):
            return self.fit(dataset).transform(dataset)
        if isinstance(dataset, DatasetDict):
            split = self._fit_split(dataset)
            fitted = {split: self.fit_transform(dataset[split])}
            return DatasetDict({n: fitted[n] if n in fitted else self.transform(part) for n, part in dataset.items()})
        dataset = self._prepared(dataset)
        ids = row_ids(dataset)
        return self._decided(dataset, self._fit(dataset, ids), ids)

    def _fit_split(self, dataset: DatasetDict | IterableDatasetDict) -> str:
        if "train" in dataset:
            return "train"
        if len(dataset) == 1:
            return next(iter(dataset))
        raise InputError(
            f"PDFilter fits on the split 'train', but the DatasetDict has {', '.join(dataset)}. Pass one of its splits."
        )

    def _prepared(self, dataset: Any) -> Dataset:
        if not isinstance(dataset, Dataset):
            raise InputTypeError(
                "PDFilter expects a `Dataset`, `IterableDataset` or a dict of these, of preferences, got "
                f"{type(dataset).__name__}."
            )
        if len(dataset) == 0:
            raise InputError("The data set is empty: there is nothing to select from.")
        dataset = self.models.add(dataset)
        if "pair_id" not in dataset.column_names:
            raise InputError(
                "The data has no column 'pair_id', by which ties are broken and results are checked; its columns are "
                f"{', '.join(dataset.column_names)}. Load it with `load_pairs` and `to_preferences`, or prepare it with `pd-trl prepare`."
            )
        return dataset

    def _fit(self, dataset: Dataset, ids: IdColumn) -> PreferenceDivergence | None:
        votes = fitted_votes(self, dataset)
        divergence = votes.divergence if votes is not None else None
        scores = self._scores(dataset, divergence, ids)
        if self.per_aspect and "aspect" not in dataset.column_names:
            raise InputError("`per_aspect=True` needs the column 'aspect', which the data does not have.")
        names, strata = self._groups(dataset)
        kept, found = select_ranked(scores, ids, self.budget, strata if self.per_aspect else None, "0")
        thresholds = {names[int(code)]: threshold for code, threshold in found.items()}
        if votes is None:
            self.set_statistics([], np.empty(0, dtype=np.float32), np.empty(0), thresholds)
            self.report_ = selection_report(dataset, ids, kept, self)
            return None
        self.set_statistics(votes.matrix.names, votes.divergence.quantiles, votes.weights, thresholds)
        self.report_ = selection_report(
            dataset, ids, kept, self, matrix=votes.matrix, divergence=divergence, weights=votes.weights,
            proxy_metrics=self.proxy_metrics_, outputs=self.outputs_read(),
        )  # fmt: skip
        for name, count in votes.matrix.missing.items():
            logger.warning(
                "%d of %d pairs have no rating of '%s'. It has no vote on these pairs.", count, len(dataset), name
            )
        return votes.divergence

    def _transform(self, dataset: Dataset) -> Dataset:
        return self._decided(dataset, transformed_divergence(self, dataset), row_ids(dataset, unique=False))

    def _scores(self, dataset: Dataset, divergence: PreferenceDivergence | None, ids: IdColumn) -> NDArray:
        inputs: dict[str, NDArray] = {"pair_id": np.asarray(ids)} if self.rule.reads_ids else {}
        for name in self.rule.inputs:
            if name == "pd" and divergence is not None:
                inputs[name] = divergence.values
            else:
                inputs[name] = self._read_input(dataset, name)
        if "pd" in inputs and self.pd_column == "pd":
            # In the precision in which the column is written, so that the written column gives the same selection.
            inputs["pd"] = inputs["pd"].astype(np.float32, copy=False)
        return selector_scores(self.rule, inputs, self.seed)

    def _read_input(self, dataset: Dataset, name: str) -> NDArray:
        """A column that holds an input of the selector."""
        column = self.column_of(name)
        if column not in dataset.column_names:
            raise missing_column_error(self.rule, name, column, dataset.column_names)
        values = numeric_column(dataset, column)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise InputError(f"Column {column!r} must hold finite numbers, got {values[bad[0]]} in row {bad[0]}.")
        return values

    def _groups(self, dataset: Dataset) -> tuple[list[str], NDArray[np.integer]]:
        """Names of the groups with a threshold of their own, and each row's group."""
        if self.per_aspect:
            return label_codes(dataset, [])
        return [ALL_PAIRS], np.zeros(len(dataset), dtype=np.int8)

    def _decided(self, dataset: Dataset, divergence: PreferenceDivergence | None, ids: IdColumn) -> Dataset:
        names, groups = self._groups(dataset)
        scores = self._scores(dataset, divergence, ids)
        kept, reasons = Decider(names, self.thresholds_ or {}, self.selector)(scores, groups, ids.column)
        values = divergence.values if divergence is not None else None
        if values is None and self.pd_column in dataset.column_names and self.needs_divergence:
            values = self._read_input(dataset, "pd").astype(np.float32)
        return with_decision(dataset, values, kept, reasons)

    def _transform_stream(self, dataset: IterableDataset) -> IterableDataset:
        plain, media = undecoded(dataset), media_columns(dataset.features)
        given = plain.features
        held = Features({name: given[name] for name in media}) if media else Features()
        read = Features({name: entry for name, entry in given.items() if name not in held}) if given else None
        has_divergence = self.needs_divergence or self.aspects_ is not None
        missing = self.models.missing(list(given or ()))

        def transform_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            carried = {name: batch.pop(name) for name in media}
            check_media_table(pa.table(carried, held.arrow_schema), held, "the stream", indices[0])
            rows = self._transform(self.models.add_to_part(Dataset.from_dict(batch, features=read)))
            columns = {**carried, **rows.to_dict()}
            return columns if "pd" in columns or not has_divergence else {**columns, "pd": [None] * len(rows)}

        # With features given, `datasets` would treat the media as already decoded. Texts of plain pairs may take another form.
        plain_pairs = not {"pair_id", "aspect"} <= set(given or ())
        features = self._stream_features(given) if given and not media and not plain_pairs else None
        return plain.map(
            transform_batch, batched=True, with_indices=True, batch_size=STREAM_ROWS if missing else 1000, features=features,
        )  # fmt: skip

    def _stream_features(self, given: Features) -> Features:
        """Columns of a stream after the decision; `given` are those before it."""
        missing = self.models.missing(list(given))
        added = {f"{GAP_PREFIX}{aspect}": Value("float32") for aspect in missing}
        added |= {name: Value("string") for name in ("pair_id", "aspect") if missing and name not in given}
        added |= {"delta_length": Value("int32")} if missing else {}
        added |= {"pd": Value("float32")} if self.needs_divergence or self.aspects_ is not None else {}
        return Features({**given, **added, "pd_kept": Value("bool"), "pd_reason": Value("string")})

    def _as_given(self, decided: IterableDataset, stream: IterableDataset) -> IterableDataset:
        """The stream after the decision, with media decoded where those of `stream` are."""
        return decided.cast(self._stream_features(stream.features)) if media_columns(stream.features) else decided
