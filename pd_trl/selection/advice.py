"""[`advise`]: whether selecting by Preference Divergence will help a data set, before a policy is trained on it."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.ids import prompt_names, row_keys
from ..data.validation import OVERALL
from ..errors import InputError
from ..method.accuracy import share_error
from ..method.advice import LEVEL, label_information, matched_weights, share_difference
from ..method.divergence import GAMMA, preference_divergence
from ..method.ranking import SELECTORS, check_budget, random_keys, select_ranked
from .advice_answer import MIN_KEPT, Advice, BudgetAdvice, decide
from .advice_labels import Labels, labels_of
from .aspect_columns import numeric_column
from .gaps import GapMatrix, gap_matrix

BUDGETS = (0.1, 0.2, 0.3, 0.5, 0.7)
MAX_PAIRS = 300
_LENGTH_STRATA = 10


def advise(
    scored: Dataset,
    labelled: Dataset | None = None,
    *,
    reference: str | None = None,
    source: str = "rewards",
    budgets: Sequence[float] = BUDGETS,
    max_pairs: int = MAX_PAIRS,
    gamma: float = GAMMA,
    margin_column: str = "reward_gap_overall",
    level: float = LEVEL,
    seed: int = 42,
) -> Advice:
    """
    Whether a selection by Preference Divergence ([arXiv 2508.07638](https://huggingface.co/papers/2508.07638)) keeps labels that
    agree with an overall judgement more often than random pairs do, and than those of the largest margin of one reward model
    (RAF): an interval for each budget from a few labelled pairs, a budget to try, or the reason not to select.

    The labelled pairs must be drawn at random from the scored ones. Agreement of labels is what is estimated; a policy
    trained on them is not.

    Args:
        scored ([`~datasets.Dataset`]):
            All pairs, with `aspect` and `reward_gap_<aspect>`, as [`score_pairs`] returns them.
        labelled ([`~datasets.Dataset`], *optional*):
            Preferences with ratings of aspects or an overall label, such as [`to_preferences`] makes of what [`rate_pairs`] returns,
            joined by `pair_id`; their sides may be swapped. `None` reads the columns of `scored`.
        reference (`str`, *optional*):
            `"overall"` compares with the overall label, `"mean"` with the mean of the aspects' ratings. `None` takes the overall
            label where there is one that the pairs do not carry themselves.
        source (`str`, *optional*, defaults to `"rewards"`):
            Gaps that PD is computed from: `"rewards"`, or `"ratings"`, such as a judge's of all pairs, which only an overall label
            can test.
        budgets (sequence of `float`, *optional*, defaults to `(0.1, 0.2, 0.3, 0.5, 0.7)`):
            Shares of the pairs, each below 1.
        max_pairs (`int`, *optional*, defaults to `300`):
            Labelled pairs to use; more are drawn from by `seed` and `pair_id`.
        gamma (`float`, *optional*, defaults to `0.9`):
            Quantile of the absolute gaps that becomes 1 (Eq. 13).
        margin_column (`str`, *optional*, defaults to `"reward_gap_overall"`):
            Column with the margin of one reward model. Without it there is no comparison with RAF.
        level (`float`, *optional*, defaults to `0.9`):
            Level of the intervals.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the draw and of the bootstrap.

    Returns:
        [`Advice`]

    Raises:
        InputError: Where gaps or labels are missing, on fewer than 20 labelled pairs with a decision, or on arguments out of range.
    """
    _check(budgets, max_pairs, level)
    ids = row_keys(scored)
    matrix = gap_matrix(scored, source)
    divergence = preference_divergence(
        matrix.gaps,
        matrix.own,
        gamma,
        aspect_names=matrix.names,
        allow_missing=source == "ratings",
        allow_no_votes=True,
    ).values.astype(np.float64)
    ranked = ~np.isnan(divergence)
    labels = labels_of(scored, ids, labelled, reference)
    if source == "ratings" and labels.reference != OVERALL:
        raise InputError(
            "With source='ratings' the PD comes from the ratings themselves, so that their mean says nothing about it. "
            + (
                "The pairs carry the overall label, which cannot test itself: prepare them with one aspect's label each "
                "(labels='one', --labels one), or score the pairs by reward models."
                if (matrix.own < 0).all()
                else "Provide an overall label (the column 'vote_overall'), or score the pairs by reward models."
            )
        )
    rows = _drawn(labels, ids, ranked, max_pairs, seed)
    prompts = prompt_names(scored)
    groups = np.asarray(ids if prompts is None else prompts)[rows]
    agrees = labels.signs[rows] > 0
    rivals: dict[str, NDArray] = {"pd": divergence}
    if margin_column in scored.column_names:
        margin = SELECTORS["margin"].score({"margin": numeric_column(scored, margin_column)}, seed)
        rivals["raf"] = np.where(ranked, margin, np.nan)
    strata = _strata_of(scored)
    found = []
    for budget in sorted(float(budget) for budget in budgets):
        kept = {name: select_ranked(scores, ids, budget)[0] for name, scores in rivals.items()}
        controls: dict[str, NDArray] = {"random": ranked.astype(float)}
        if "raf" in kept:
            controls["raf"] = kept["raf"]
        if strata is not None:
            controls["same length"] = matched_weights(strata, kept["pd"])
        inside = kept["pd"][rows]
        if inside.sum() < MIN_KEPT:
            continue
        effects = {
            name: share_difference(agrees, inside, control[rows], groups, level=level, seed=seed)
            for name, control in controls.items()
        }
        share = float((agrees[inside].sum() + 1) / (inside.sum() + 2))
        found.append(
            BudgetAdvice(
                budget, int(kept["pd"].sum()), int(inside.sum()), float(agrees[inside].mean()),
                label_information(budget, share), {name: effect for name, effect in effects.items() if effect},
            )
        )  # fmt: skip
    aspects = _aspect_agreement(matrix, labels, rows, groups)
    advice = Advice(
        False, None, [], [], labels.reference, len(ids), len(rows), labels.ties, int(np.unique(groups).size),
        float(agrees.mean()), aspects, found,
    )  # fmt: skip
    decide(advice, len(matrix.names))
    return advice


def _check(budgets: Sequence[float], max_pairs: int, level: float) -> None:
    for budget in budgets:
        check_budget(float(budget))
        if not float(budget) < 1:
            raise InputError(f"`budgets` are shares below 1, got {budget}: all pairs are no selection.")
    if not budgets or max_pairs < 20 or not 0 < level < 1:
        raise InputError(
            "`budgets` must hold a share, `max_pairs` must be at least 20 and `level` in (0, 1), got "
            f"{list(budgets)}, {max_pairs} and {level}."
        )


def _drawn(
    labels: Labels, ids: NDArray[np.str_], ranked: NDArray[np.bool_], max_pairs: int, seed: int
) -> NDArray[np.integer]:
    """Rows of the labelled pairs with a decision and a PD, at most `max_pairs`, in their order."""
    rows = np.flatnonzero((labels.signs != 0) & ranked)
    if rows.size < 20:
        raise InputError(
            f"Only {rows.size} pairs have {labels.described} that decides, of {len(ids)}; at least 20 are needed. Rate some pairs, drawn "
            "at random, with `pd-trl rate`, and name the result with `labelled`."
        )
    if rows.size > max_pairs:
        rows = rows[np.argsort(random_keys(ids[rows], seed), kind="stable")[:max_pairs]]
    return np.sort(rows)


def _strata_of(scored: Dataset) -> NDArray[np.integer] | None:
    if "delta_length" not in scored.column_names:
        return None
    delta = numeric_column(scored, "delta_length")
    return length_strata(delta) if np.isfinite(delta).all() else None


def length_strata(delta: NDArray[np.float64]) -> NDArray[np.integer]:
    """Tenths of the pairs by the length of the chosen minus the rejected response, shape `(num_pairs,)`."""
    edges = np.unique(np.quantile(delta, np.arange(1, _LENGTH_STRATA) / _LENGTH_STRATA))
    return np.searchsorted(edges, delta, side="right")


def _aspect_agreement(
    matrix: GapMatrix, labels: Labels, rows: NDArray[np.integer], groups: NDArray
) -> dict[str, dict[str, float]]:
    """By aspect, how often its gap agrees with the reference on the labelled pairs of other aspects that it decides."""
    result = {}
    for k, name in enumerate(matrix.names):
        gaps = matrix.gaps[rows, k]
        used = (matrix.own[rows] != k) & (gaps != 0)
        if used.any():
            right = np.sign(gaps[used]) == labels.signs[rows][used]
            result[name] = {
                "share": float(right.mean()),
                "se": share_error(right, groups[used]),
                "pairs": int(used.sum()),
            }
    return result
