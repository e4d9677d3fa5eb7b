"""The few labels that an advice is made from: an overall one, or the mean of the aspects' ratings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.ids import canonical_json, row_keys
from ..data.validation import OVERALL
from ..errors import InputError
from .aspect_columns import VOTE_PREFIX, numeric_column, rated_aspects, rating_columns
from .aspect_columns import labels_of as given_labels
from .gaps import rating_gap

MEAN = "mean"


@dataclass
class Labels:
    """
    Args:
        reference (`str`): `"overall"` or `"mean"`.
        signs (integer array of shape `(num_pairs,)`): 1 where the reference agrees with a pair's label, -1 where not, 0 where
            it does not decide or is missing.
        ties (`int`): Pairs on which the reference is there and does not decide.
    """

    reference: str
    signs: NDArray[np.int8]
    ties: int

    @property
    def described(self) -> str:
        """What the reference is called."""
        return "an overall label" if self.reference == OVERALL else "a mean of ratings"


def labels_of(scored: Dataset, ids: NDArray[np.str_], labelled: Dataset | None, reference: str | None) -> Labels:
    """
    The labels of the scored pairs, in their order.

    Args:
        scored ([`~datasets.Dataset`]): The scored pairs.
        ids (array of shape `(num_pairs,)`): Their `pair_id`s.
        labelled ([`~datasets.Dataset`], *optional*): Pairs with labels. A pair whose sides are swapped there counts with the other sign.
        reference (`str`, *optional*): `"overall"`, `"mean"`, or `None` for the overall label where it is not that of all pairs.

    Raises:
        InputError: Where there is no such label, where `labelled` shares no pair with `scored`, or holds other texts.
    """
    source = scored if labelled is None else labelled
    if reference not in (None, OVERALL, MEAN):
        raise InputError(f"`reference` must be 'overall' or 'mean', got {reference!r}.")
    names = source.column_names
    own = [str(label) for label in given_labels(scored)] if "aspect" in scored.column_names else []
    if reference is None:
        reference = OVERALL if _has(OVERALL, names) and own != [OVERALL] else MEAN
    values = _overall(source) if reference == OVERALL else _mean(source)
    if labelled is None:
        signs, known = np.nan_to_num(np.sign(values)), ~np.isnan(values)
    else:
        signs, known = _joined(scored, ids, labelled, values)
    return Labels(reference, signs.astype(np.int8), int((known & (signs == 0)).sum()))


def _has(aspect: str, names: Sequence[str]) -> bool:
    return all(column in names for column in rating_columns(aspect, names))


def _overall(source: Dataset) -> NDArray[np.float64]:
    names = source.column_names
    if not _has(OVERALL, names):
        raise InputError(
            f"There is no overall label: neither 'rating_overall_chosen' and 'rating_overall_rejected' nor '{VOTE_PREFIX}overall' is "
            f"among the columns {', '.join(names)}. Use reference='mean' with ratings of aspects, or rate pairs with `pd-trl rate`."
        )
    return rating_gap([numeric_column(source, column) for column in rating_columns(OVERALL, names)], OVERALL)


def _mean(source: Dataset) -> NDArray[np.float64]:
    """Mean of the ratings' gaps, of those that are there; NaN where none is."""
    names = rated_aspects(source.column_names)
    if not names:
        raise InputError(
            "There are no labels to compare with: no ratings or votes of aspects and no overall label that the pairs do not carry "
            f"themselves, among the columns {', '.join(source.column_names)}. Rate at most 300 pairs, drawn at random, with `pd-trl rate`."
        )
    gaps = np.stack(
        [
            rating_gap([numeric_column(source, column) for column in rating_columns(name, source.column_names)], name)
            for name in names
        ]
    )
    present = ~np.isnan(gaps)
    count = present.sum(axis=0)
    total = np.where(present, gaps, 0.0).sum(axis=0).round(9)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _joined(
    scored: Dataset, ids: NDArray[np.str_], labelled: Dataset, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Signs of the labels in the order of `ids`, and where there is a label at all."""
    if "pair_id" not in labelled.column_names:
        raise InputError(
            "`labelled` has no column 'pair_id', by which its pairs are found among the scored ones; its columns are "
            f"{', '.join(labelled.column_names)}."
        )
    place = {name: row for row, name in enumerate(ids.tolist())}
    keys = row_keys(labelled).tolist()
    rows = [(place[key], i) for i, key in enumerate(keys) if key in place]
    if not rows:
        raise InputError(
            f"None of the {len(keys)} labelled pairs is among the {len(ids)} scored ones, by `pair_id`: the first is {keys[0]!r} there "
            f"and {ids[0]!r} here. Label pairs of the same data."
        )
    signs, known = np.zeros(len(ids)), np.zeros(len(ids), dtype=bool)
    texts = {"chosen", "rejected"} <= {*scored.column_names} & {*labelled.column_names}
    sides = ["chosen", "rejected"]
    if texts:
        scored, labelled = scored.select_columns(sides), labelled.select_columns(sides)
    for here, there in rows:
        sign = 1 if not texts else _orientation(scored[here], labelled[there], keys[there])
        known[here] = not np.isnan(values[there])
        signs[here] = sign * np.nan_to_num(np.sign(values[there]))
    return signs, known


def _orientation(row: dict, other: dict, key: str) -> int:
    """1 where both rows have the same chosen response, -1 where the sides are swapped."""
    here, there = (tuple(canonical_json(part[side]) for side in ("chosen", "rejected")) for part in (row, other))
    if here == there:
        return 1
    if here == there[::-1]:
        return -1
    raise InputError(
        f"The pair {key!r} has other texts in `labelled` than in the scored data. Label pairs of the same data."
    )
