"""Scores of the selectors, the same in memory, out of core and in reports."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..method.ranking import Selector


def selector_scores(
    selector: Selector, inputs: Mapping[str, NDArray], seed: int, first_row: int = 0, where: str = ""
) -> NDArray:
    """
    Scores of the pairs, shape `(num_pairs,)`, lowest kept first. NaN for a pair without a PD, if the selector needs one.

    Args:
        selector ([`Selector`]): The rule.
        inputs (`dict`): The selector's inputs, and `pair_id`.
        seed (`int`): Its seed.
        first_row (`int`), where (`str`): Place of the pairs, for the message.

    Raises:
        InputError: If the rule does not give a finite number for a pair that has all its inputs.
    """
    scores = np.asarray(selector.score(inputs, seed))
    count = len(next(iter(inputs.values())))
    if scores.shape != (count,) or scores.dtype.kind not in "fiu":
        raise InputError(
            f"Selector {selector.name!r} must give one number for each of {count} pairs, got {scores.dtype} of shape {scores.shape}."
        )
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    if finite.all():
        return scores if "pd" not in selector.inputs else _without(scores, inputs["pd"])
    silent = np.isnan(inputs["pd"]) if "pd" in selector.inputs else np.zeros(count, dtype=bool)
    bad = np.flatnonzero(~finite & ~silent)
    if bad.size:
        raise InputError(
            f"Selector {selector.name!r} must give finite numbers, got {scores[bad[0]]} in row {first_row + bad[0]}{where}."
        )
    return _without(scores, inputs["pd"])


def missing_column_error(selector: Selector, name: str, column: str, column_names: Iterable[str]) -> InputError:
    """The error about data without the column that holds the input `name` of a selector."""
    function = selector.made_by.get(name)
    made = f", which `pd_trl.{function}` adds (docs/rivals.md)" if function else ""
    return InputError(
        f"`selector={selector.name!r}` needs the column {column!r}{made}; the columns are {', '.join(column_names)}."
    )


def _without(scores: NDArray, divergence: NDArray) -> NDArray:
    """The scores, NaN where there is no PD."""
    silent = np.isnan(divergence)
    return np.where(silent, scores.dtype.type(np.nan), scores) if silent.any() else scores
