"""Ratings in the columns of the data contract."""

import logging

import datasets
import numpy as np
import pyarrow as pa

from ..data.columnar import dataset_table, from_numpy, table_dataset, to_numpy
from ..data.label_report import own_labels
from ..data.normal_form import column_order
from ..data.ratings import compare
from .sheet import Sheet

logger = logging.getLogger(__name__)

# Names of the source's own labels where the judge rates the same aspect.
SOURCE_PREFIX = "source_"
ESTIMATE = "rated_pd"


def rated_pairs(pairs: datasets.Dataset, sheet: Sheet, estimate: np.ndarray | None = None) -> datasets.Dataset:
    """
    The pairs with `rating_<aspect>_a`, `rating_<aspect>_b` and `pref_<aspect>` of the sheet, null where there is no rating. Labels of
    the source for the same aspects become `source_rating_<aspect>_a`, `source_rating_<aspect>_b` and `source_gap_<aspect>` (1: side a,
    -1: side b, 0: a tie).

    Args:
        pairs ([`~datasets.Dataset`]): Pairs.
        sheet ([`Sheet`]): The ratings.
        estimate (array of shape `(num_pairs,)`, *optional*): Estimated PD, the column `rated_pd`.
    """
    table = dataset_table(pairs)
    columns = {name: table.column(name) for name in table.column_names}
    moved = _moved(columns, sheet.rubric.names)
    if moved:
        logger.info("Labels of the source for aspects of the rubric are kept as %s.", ", ".join(sorted(moved)))
    first, second = sheet.sides()
    gaps = sheet.gaps()
    for k, name in enumerate(sheet.rubric.names):
        known = ~np.isnan(gaps[:, k])
        for side, values in (("a", first), ("b", second)):
            # One side alone is no vote, and is kept where it was asked for.
            columns[f"rating_{name}_{side}"] = from_numpy(values[:, k])
        columns[f"pref_{name}"] = from_numpy(np.where(known, compare(gaps[:, k], np.zeros(len(gaps))), np.nan))
    columns |= moved
    if estimate is not None:
        columns[ESTIMATE] = from_numpy(estimate.astype(np.float32), pa.float32())
    if "pref_overall" in columns and columns["pref_overall"].null_count == len(table):
        del columns["pref_overall"]
    return table_dataset(pa.table({name: columns[name] for name in column_order(columns)}), pairs.features)


def _moved(columns: dict[str, pa.ChunkedArray], aspects: list[str]) -> dict[str, pa.ChunkedArray]:
    """Takes the source's labels of the aspects out of the columns, and gives them their other names."""
    moved = {}
    for name in aspects:
        for side in "ab":
            column = columns.pop(f"rating_{name}_{side}", None)
            if column is not None:
                moved[f"{SOURCE_PREFIX}rating_{name}_{side}"] = column
        preference = columns.pop(f"pref_{name}", None)
        if preference is not None:
            moved[f"{SOURCE_PREFIX}gap_{name}"] = from_numpy(2 * to_numpy(preference) - 1)
    return moved


def labels_of_pairs(pairs: datasets.Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Whose label each pair has before it is rated, `"overall"` as a rule, and that label (1: side a, -1: side b, 0: none or a tie), both
    of shape `(num_pairs,)`: the source's own, else the overall one; `None` where no pair has either.
    """
    own = own_labels(pairs)
    if own is not None:
        names, values = own
    elif "pref_overall" in pairs.column_names:
        values = to_numpy(dataset_table(pairs.select_columns("pref_overall")).column(0))
        names = np.full(len(values), "overall", dtype=object)
    else:
        return None
    signs = np.nan_to_num(2 * values - 1)
    return (names, signs) if signs.any() else None
