"""Which pairs to keep: a budget, a score to rank by, and the rank itself."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, InputTypeError
from .rivals import distance_calibrated_margin


@dataclass(frozen=True)
class Selector:
    """
    A rule that ranks pairs: the lowest scores are kept first.

    Args:
        name (`str`): Name shown in reasons and reports.
        inputs (`tuple` of `str`): What the score is computed from besides `pair_id`: `"pd"`, `"margin"` (the filter's
            `margin_column`), or any column of numbers.
        score (callable): `score(inputs, seed)` -> float array of shape `(num_pairs,)`. Must depend on each row alone.
        description (`str`): One line for reports and `--help`.
        reads_ids (`bool`, *optional*, defaults to `True`): Whether the score reads `pair_id`. Out of core, `False` spares
            reading that column.
        made_by (`dict`, *optional*): The function that adds an input, for the error where it is missing.
        sign (`int`, *optional*, defaults to `0`): 1 or -1 where the score is the only input or its negative, which SQL can say; 0
            where it is more.
    """

    name: str
    inputs: tuple[str, ...]
    score: Callable[[Mapping[str, np.ndarray], int], NDArray[np.floating]]
    description: str
    reads_ids: bool = True
    made_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    sign: int = 0


def random_keys(pair_ids: ArrayLike, seed: int) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each `pair_id`: a function of `(seed, pair_id)` alone, whatever the rows' order."""
    salt = str(int(seed)).encode()
    given = np.asarray(pair_ids)
    keyed, digests = hashlib.blake2b(digest_size=8, key=salt[:64]).copy, []
    for pair_id in given.tolist() if given.dtype.kind == "U" else map(str, given.tolist()):
        digest = keyed()
        digest.update(pair_id.encode())
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.float64) / 2.0**64


SELECTORS: dict[str, Selector] = {
    "pd": Selector("pd", ("pd",), lambda x, seed: x["pd"], "lowest Preference Divergence: the votes agree most with the label", False, sign=1),
    "pd_high": Selector("pd_high", ("pd",), lambda x, seed: -x["pd"], "highest Preference Divergence (the paper's ablation)", False, sign=-1),
    "random": Selector("random", (), lambda x, seed: random_keys(x["pair_id"], seed), "uniformly at random, by seed and pair_id"),
    "margin": Selector("margin", ("margin",), lambda x, seed: -x["margin"], "largest margin of one unified reward model (RAF)", False, sign=-1),
    "length": Selector("length", ("delta_length",), lambda x, seed: -x["delta_length"], "longest chosen relative to rejected (a ruler)", False, sign=-1),
    "pareto": Selector("pareto", ("worst_gap",), lambda x, seed: -x["worst_gap"], "largest gap in the worst other aspect: the chosen response dominates (Reward Consistency, arXiv 2504.11337)", False, {"worst_gap": "rival_scores"}, sign=-1),
    "difficulty": Selector("difficulty", ("implicit_margin",), lambda x, seed: x["implicit_margin"], "smallest implicit reward margin of a DPO policy (arXiv 2508.04149)", False, {"implicit_margin": "policy_margins"}, sign=1),
    "alignment_potential": Selector("alignment_potential", ("alignment_potential",), lambda x, seed: -x["alignment_potential"], "largest explicit minus implicit margin (M_AP, arXiv 2503.01864)", False, {"alignment_potential": "rival_scores"}, sign=-1),
    "dcrm": Selector("dcrm", ("margin", "edit_distance", "logp_distance"), lambda x, seed: -distance_calibrated_margin(x["margin"], x["edit_distance"], x["logp_distance"]), "largest reward margin for the distance of the responses (DCRM, arXiv 2506.14157)", False, {"margin": "score_pairs", "edit_distance": "policy_margins", "logp_distance": "policy_margins"}),
    "bees": Selector("bees", ("bees",), lambda x, seed: -x["bees"], "label most probable by explicit and implicit margin (BeeS, arXiv 2502.14560)", False, {"bees": "rival_scores"}, sign=-1),
    "selective_dpo": Selector("selective_dpo", ("validation_loss",), lambda x, seed: x["validation_loss"], "lowest DPO loss of policies that have not seen the pair (SelectiveDPO, arXiv 2502.09650)", False, {"validation_loss": "validation_losses"}, sign=1),
}  # fmt: skip


def resolve_budget(budget: Any, num_pairs: int) -> int:
    """
    Number of pairs to keep.

    Args:
        budget (`float` or `int`): A `float` in (0, 1] is the share to keep (the paper's lambda), rounded up exactly:
            `ceil(budget * num_pairs)`. An `int` is a count.
        num_pairs (`int`): Number of pairs to choose from.

    Raises:
        InputError: On a share outside (0, 1], a count below 1 or above `num_pairs`, or where there are no pairs.
    """
    check_budget(budget)
    if num_pairs < 1:
        raise InputError(
            "There is no pair to select from: the data is empty, or no pair has a vote of an aspect that is not its own."
        )
    if isinstance(budget, (int, np.integer)):
        if budget > num_pairs:
            raise InputError(f"`budget` asks for {budget} pairs, but there are only {num_pairs}.")
        return int(budget)
    return math.ceil(Fraction(repr(float(budget))) * num_pairs)


def check_budget(budget: Any) -> None:
    """Raises `InputError` unless `budget` is a share in (0, 1] (`float`) or a positive count (`int`)."""
    if isinstance(budget, (bool, np.bool_)) or not isinstance(budget, (int, float, np.integer, np.floating)):
        raise InputTypeError(f"`budget` must be a float (share of pairs) or an int (number of pairs), got {budget!r}.")
    if isinstance(budget, (int, np.integer)):
        if budget < 1:
            raise InputError(f"`budget` as a number of pairs must be at least 1, got {budget}.")
    elif not 0 < budget <= 1:
        raise InputError(
            f"`budget` as a share of pairs must be in (0, 1], got {budget}. To keep a number of pairs, pass an int."
        )


def parse_budget(text: str | float | int | None) -> float | int | None:
    """
    A budget as written on a command line or in YAML: `"0.3"` and `"1.0"` are shares, `"300"` is a number of pairs, `"none"`
    is `None`. Numbers pass through.
    """
    if text is None or not isinstance(text, str):
        return text
    if text.strip().lower() in ("none", "null", ""):
        return None
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else float(text)
    except ValueError:
        raise InputError(
            f"`budget` must be a share such as 0.3 or a number of pairs such as 5000, got {text!r}."
        ) from None


# Where the gaps of a filter come from.
SOURCES = ("rewards", "ratings", "column")
# What to do where a pair has no vote of another aspect.
ON_NO_VOTES = ("error", "drop")


@dataclass(frozen=True)
class Threshold:
    """
    The last pair kept: a pair is kept when `(score, pair_id) <= (score, pair_id)` of the threshold.

    Args:
        score (`float`): Highest score kept.
        pair_id (`str`): Greatest `pair_id` kept among the pairs with exactly that score.
    """

    score: float
    pair_id: str

    def keep(self, scores: NDArray[np.floating], pair_ids: NDArray) -> NDArray[np.bool_]:
        """Mask of shape `(num_pairs,)` of the pairs at or before this one in the ranking."""
        tied = scores == self.score
        kept = scores < self.score
        if tied.any():
            kept[tied] = pair_ids[tied] <= self.pair_id
        return kept


def select_lowest(scores: ArrayLike, pair_ids: ArrayLike, count: int) -> tuple[NDArray[np.bool_], Threshold]:
    """
    Keeps the `count` lowest scores, ties by `pair_id`: exactly `count` pairs, the same ones in any row order, and a
    smaller count is a subset of a larger one.

    Args:
        scores (array of shape `(num_pairs,)`): What to rank by.
        pair_ids (array of shape `(num_pairs,)`): Unique ids. Only those of ties are read.
        count (`int`): Number of pairs to keep, in `[1, num_pairs]`.

    Returns:
        `tuple`: mask of kept pairs, and the [`Threshold`] that reproduces it.
    """
    values, ids = np.asarray(scores), _readable(pair_ids)
    if values.ndim != 1 or values.shape != ids.shape:
        raise InputError(
            f"Scores and pair_ids must be vectors of one length, got shapes {values.shape} and {ids.shape}."
        )
    if np.isnan(values).any():
        raise InputError(f"Cannot rank a score of NaN (row {np.flatnonzero(np.isnan(values))[0]}).")
    if not 1 <= count <= values.size:
        raise InputError(f"Cannot keep {count} of {values.size} pairs.")
    cut = np.partition(values, count - 1)[count - 1]
    tied = np.flatnonzero(values == cut)
    needed = count - np.count_nonzero(values < cut)
    last = np.sort(ids[tied])[needed - 1]
    threshold = Threshold(float(cut), str(last))
    kept = values < cut
    kept[tied] = ids[tied] <= last
    return kept, threshold


def select_ranked(
    scores: ArrayLike, pair_ids: ArrayLike, budget: Any, strata: ArrayLike | None = None, name: str = "all"
) -> tuple[NDArray[np.bool_], dict[str, Threshold]]:
    """
    Keeps what the budget allows of the pairs that have a score: a score of NaN is that of a pair that cannot be ranked.

    Args:
        scores (array of shape `(num_pairs,)`): What to rank by.
        pair_ids (array of shape `(num_pairs,)`): Unique ids.
        budget (`float` or `int`): Share, of the pairs with a score, or number to keep.
        strata (array of shape `(num_pairs,)`, *optional*): Stratum of each pair, see [`select_per_stratum`].
        name (`str`, *optional*, defaults to `"all"`): Name of the threshold where there are no strata.

    Returns:
        `tuple`: mask of kept pairs, and the [`Threshold`]s.
    """
    values, ids = np.asarray(scores), _readable(pair_ids)
    rows = np.flatnonzero(~np.isnan(values))
    whole = rows.size == values.size
    count = resolve_budget(budget, rows.size)
    values, ids = (values, ids) if whole else (values[rows], ids[rows])
    if strata is None:
        inside, threshold = select_lowest(values, ids, count)
        thresholds = {name: threshold}
    else:
        inside, thresholds = select_per_stratum(values, ids, np.asarray(strata)[rows], count)
    kept = np.zeros(np.shape(scores), dtype=bool)
    kept[rows] = inside
    return kept, thresholds


def select_per_stratum(
    scores: ArrayLike, pair_ids: ArrayLike, strata: ArrayLike, count: int
) -> tuple[NDArray[np.bool_], dict[str, Threshold]]:
    """
    Keeps `count` pairs in all, the lowest scores of each stratum, in proportion to the strata's sizes.

    Pairs are ranked by `(rank in stratum + 1/2) / size of stratum` (Webster's apportionment), so that a smaller count is
    a subset of a larger one and the shares of the strata differ by less than one pair.

    Returns:
        `tuple`: mask of kept pairs, and the [`Threshold`] of each stratum of which anything was kept.
    """
    values, ids, groups = np.asarray(scores), _readable(pair_ids), np.asarray(strata)
    position = np.empty(values.size)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        position[ranked_rows(rows, values, ids)] = (np.arange(rows.size) + 0.5) / rows.size
    order = np.lexsort((groups, position))[:count]
    kept = np.zeros(values.size, dtype=bool)
    kept[order] = True
    thresholds = {}
    for group in np.unique(groups[kept]):
        rows = np.flatnonzero(kept & (groups == group))
        highest = values[rows].max()
        thresholds[str(group)] = Threshold(float(highest), str(np.sort(ids[rows[values[rows] == highest]])[-1]))
    return kept, thresholds


def _readable(pair_ids: Any) -> Any:
    """The ids as what gives those of some rows as an array: as they are, or as an array."""
    return pair_ids if hasattr(pair_ids, "shape") else np.asarray(pair_ids)


def ranked_rows(rows: NDArray[np.integer], values: NDArray, ids: Any) -> NDArray[np.integer]:
    """`rows` by value, ties by id. Only the ids of ties are read."""
    rows = rows[np.argsort(values[rows], kind="stable")]
    equal = values[rows][1:] == values[rows][:-1]
    tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
    if tied.size:
        some = rows[tied]
        rows[tied] = some[np.lexsort((ids[some], values[some]))]
    return rows
