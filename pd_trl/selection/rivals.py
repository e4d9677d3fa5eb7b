"""[`rival_scores`]: what other papers' selectors rank by, where it takes statistics of all pairs."""

from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..errors import InputError
from ..method.divergence import GAMMA, preference_divergence
from ..method.rivals import BEES_QUANTILE, alignment_potential, bayesian_margin, worst_gap
from .aspect_columns import numeric_column
from .gaps import gap_matrix

MARGIN_COLUMN = "reward_gap_overall"
IMPLICIT_COLUMN = "implicit_margin"


def rival_scores(
    dataset: Dataset,
    rivals: Sequence[str] | None = None,
    *,
    source: str = "rewards",
    gamma: float = GAMMA,
    margin_column: str = MARGIN_COLUMN,
    quantile: float = BEES_QUANTILE,
) -> Dataset:
    """
    Adds the columns that the selectors `"pareto"`, `"alignment_potential"` and `"bees"` rank by. Their formulas scale gaps or
    margins by statistics of all rows, so they are computed once, here, and a selection then reads a number a row, in memory
    or out of core.

    | selector | column added | from |
    |---|---|---|
    | `pareto` | `worst_gap` | the gaps of the aspects, see [`~method.rivals.worst_gap`] |
    | `alignment_potential` | `alignment_potential` | `margin_column` and `implicit_margin`, see [`~method.rivals.alignment_potential`] |
    | `bees` | `bees` | the same, see [`~method.rivals.bayesian_margin`] |

    Args:
        dataset ([`~datasets.Dataset`]):
            Scored pairs. `implicit_margin` is a column of [`policy_margins`].
        rivals (sequence of `str`, *optional*):
            Selectors. `None` takes those whose columns are there.
        source (`str`, *optional*, defaults to `"rewards"`):
            Gaps of `"pareto"`: `"rewards"` or `"ratings"`.
        gamma (`float`, *optional*, defaults to `0.9`):
            Quantile of the absolute gaps that becomes 1 (Eq. 13 of arXiv 2508.07638), for `"pareto"`.
        margin_column (`str`, *optional*, defaults to `"reward_gap_overall"`):
            Column with the margin of one reward model.
        quantile (`float`, *optional*, defaults to `0.99`):
            Quantile of the absolute margins from which on they are sure, for `"bees"`.

    Returns:
        [`~datasets.Dataset`]: The rows, with a float64 column for each rival. A column of that name is replaced.

    Raises:
        InputError: On an unknown rival, where columns are missing or hold no finite numbers, or where a pair has no vote of
            another aspect.
    """
    margins = (margin_column, IMPLICIT_COLUMN)
    made: dict[str, tuple[str, Callable[[], NDArray[np.float64]]]] = {
        "pareto": ("worst_gap", lambda: _worst_gaps(dataset, source, gamma)),
        "alignment_potential": (
            "alignment_potential",
            lambda: _potential(*_columns(dataset, margins, "alignment_potential")),
        ),
        "bees": ("bees", lambda: bayesian_margin(_columns(dataset, margins, "bees"), quantile)),
    }
    if rivals is None:
        complete = all(name in dataset.column_names for name in margins)
        rivals = ["pareto", *(["alignment_potential", "bees"] if complete else [])]
    unknown = [name for name in rivals if name not in made]
    if unknown:
        raise InputError(
            f"`rivals` must be among {', '.join(made)}, got {unknown[0]!r}. The other selectors need no column of this function."
        )
    for name in rivals:
        column, compute = made[name]
        values = compute()
        if column in dataset.column_names:
            dataset = dataset.remove_columns(column)
        dataset = dataset.add_column(column, values)
    return dataset


def _worst_gaps(dataset: Dataset, source: str, gamma: float) -> NDArray[np.float64]:
    matrix = gap_matrix(dataset, source)
    found = preference_divergence(
        matrix.gaps, matrix.own, gamma, aspect_names=matrix.names, allow_missing=source == "ratings"
    )
    return worst_gap(found.normalized_gaps, matrix.own)


def _potential(explicit: NDArray[np.float64], implicit: NDArray[np.float64]) -> NDArray[np.float64]:
    return alignment_potential(explicit, implicit)


def _columns(dataset: Dataset, names: Sequence[str], rival: str) -> list[NDArray[np.float64]]:
    makers = {IMPLICIT_COLUMN: "policy_margins"}
    found = []
    for name in names:
        if name not in dataset.column_names:
            raise InputError(
                f"The rival {rival!r} needs the column {name!r}, which `pd_trl.{makers.get(name, 'score_pairs')}` adds; the columns are "
                f"{', '.join(dataset.column_names)}."
            )
        values = numeric_column(dataset, name)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise InputError(f"Column {name!r} must hold finite numbers, got {values[bad[0]]} in row {bad[0]}.")
        found.append(values)
    return found
