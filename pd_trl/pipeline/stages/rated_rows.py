"""What `rate` is given, and the preferences that the rated pairs give."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ...data import OVERALL, effective_labels, prepare_preferences, read_pairs
from ...data.label_report import own_labels
from ...data.loading import LoadReport
from ...data.sources import load_source
from ...errors import InputError
from ...rating.columns import ESTIMATE, labels_of_pairs
from ...rating.rubric import Rubric
from ..mappings import mapping_of
from .inputs import rows_of

if TYPE_CHECKING:
    from .rate import RateArguments


# The responses of preferences, by their names among pairs.
SIDES_TO_RATE = {"chosen": "response_a", "rejected": "response_b"}


def unrated_pairs(arguments: "RateArguments") -> tuple[datasets.Dataset, LoadReport]:
    """The pairs to rate, from any source that `load_pairs` reads, or with no label at all, and what was left out."""
    if not arguments.dataset_name:
        raise InputError("`pd-trl rate` needs pairs: --dataset_name with a Hub id, a folder or a file.")
    folder = Path(arguments.dataset_name).expanduser()
    options: dict[str, Any] = {"split": arguments.dataset_split, "on_invalid": arguments.on_invalid}
    mapping = mapping_of(arguments.column_mapping, "column_mapping") or None
    if (folder / "manifest.json").is_file():
        return read_pairs(rows_of(arguments.dataset_name, "pairs"), **options, column_mapping=mapping)
    origin: dict[str, Any] = {"config": arguments.dataset_config, "revision": arguments.dataset_revision}
    rows = load_source(arguments.dataset_name, split=arguments.dataset_split, **origin)
    given = mapping or {}
    names = {given.get(side, side) for side in ("response_a", "response_b")}
    labelled = any(n.startswith(("rating_", "pref_")) for n in [*rows.column_names, *given])
    if names <= set(rows.column_names) and not labelled:
        # What has no label yet: the ratings will give one.
        unlabelled = rows.add_column("pref_overall", [None] * len(rows), feature=datasets.Value("float64"))
        return read_pairs(unlabelled, **options, column_mapping=mapping, adapter="columns")
    return read_pairs(arguments.dataset_name, **options, **origin, column_mapping=mapping, seed=arguments.seed)


def rows_to_rate(arguments: "RateArguments") -> datasets.Dataset:
    """The pairs to rate as preferences, for a plan: the first response stands for the chosen one."""
    pairs, _ = unrated_pairs(arguments)
    rows = pairs.select_columns(["pair_id", "prompt_id", "prompt", *SIDES_TO_RATE.values()])
    rows = rows.rename_columns({ours: theirs for theirs, ours in SIDES_TO_RATE.items()})
    return rows.add_column("aspect", [OVERALL] * len(rows), feature=datasets.Value("string"))


def left_out_lines(report: LoadReport) -> list[str]:
    """A line for each reason for which rows or pairs of the source are not rated."""
    lost = {**report.skipped, **report.dropped}
    return [f"{count:,} left out before the rating: {reason}" for reason, count in lost.items() if count]


def check_label(pairs: datasets.Dataset, labels: str | None, rubric: Rubric) -> None:
    """Raises `InputError` where pairs keep a label of their own that no column of the result could carry."""
    if labels == "own" and labels_of_pairs(pairs) is None:
        raise InputError("labels='own' keeps the label of the pairs, but they have none. Leave `labels` out.")
    own = own_labels(pairs)
    if own is None or effective_labels(pairs, labels) != "own":
        return
    clash = sorted({str(name) for name in own[0] if name is not None} & set(rubric.names))
    if clash:
        raise InputError(
            f"The pairs are labelled by {', '.join(clash)}, which the rubric names as well: the judge's ratings would take the place of "
            "these labels. Rename the aspect in the rubric, or pass --labels one."
        )


def rated_preferences(
    rated: datasets.Dataset, labels: str | None, rubric: Rubric, seed: int
) -> tuple[datasets.Dataset, Any]:
    """Preferences by the pairs' own label where they have one, else by one rated aspect."""
    if ESTIMATE in rated.column_names:
        labelled = np.flatnonzero([value is not None for value in rated[ESTIMATE][:]])
        if len(labelled) < len(rated):
            preferences, report = rated_preferences(rated.select(labelled), labels, rubric, seed)
            report.dropped[
                "no label of their own, or identical responses: adaptive rating asks nothing about them"
            ] = len(rated) - len(labelled)
            return preferences, report
    own = own_labels(rated)
    # The rubric's aspects vote. Those of the source stay with the pairs, but for the ones whose labels the pairs carry.
    carried = {str(name) for name in own[0] if name is not None} if own is not None and labels != "one" else set()
    aspects = sorted({*rubric.names, *(carried - {OVERALL})})
    if labels in (None, "own") and own is None and labels_of_pairs(rated) is not None:
        return prepare_preferences(rated, relabel="overall", labels="one", seed=seed, aspects=aspects)
    return prepare_preferences(rated, labels=labels, seed=seed, aspects=aspects)  # type: ignore[arg-type]
