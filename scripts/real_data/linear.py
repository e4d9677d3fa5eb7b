"""Linear Bradley-Terry proxies, solved exactly on the Gram matrix of the pairs' feature differences."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import NDArray

from pd_trl.errors import InputError
from pd_trl.method.length import PENALTY_RULES, adjusted_gap, training_margin

from .handling import AUTO_STRENGTHS, Handling, balance_weights, length_scale
from .sets import RealSet, prompt_folds

INNER_FOLDS = 4


@dataclass
class LinearData:
    """
    Args:
        gram (array of shape `(num_pairs, num_pairs)`): Inner products of chosen minus rejected features.
        delta_length (integer array of shape `(num_pairs,)`): Tokens of the chosen minus those of the rejected response.
        inverse_regularization (`float`): C of scikit-learn's `LogisticRegression`.
    """

    gram: NDArray
    delta_length: NDArray[np.integer]
    inverse_regularization: float


def pair_gram(texts_gram: NDArray, chosen: NDArray, rejected: NDArray) -> NDArray[np.float64]:
    """Inner products of the pairs' differences from those of the texts."""
    half = texts_gram[chosen] - texts_gram[rejected]
    return (half[:, chosen] - half[:, rejected]).astype(np.float64)


def bradley_terry(
    gram: NDArray, offsets: NDArray, weights: NDArray, inverse_regularization: float
) -> NDArray[np.float64]:
    """
    Dual coefficients of shape `(num_pairs,)` of the weights `v` that minimise
    `sum(weights * -log sigmoid(x @ v + offsets)) + |v|^2 / (2 C)`, with `x` the differences behind `gram`; the gap of another
    pair is its row of the Gram matrix times these. Newton's method in function space, with step halving.
    """
    covariance = inverse_regularization * gram
    dual, logits = np.zeros(len(gram)), np.zeros(len(gram))
    loss = _loss(dual, logits, offsets, weights)
    for _ in range(100):
        miss = scipy.special.expit(-(logits + offsets))
        curvature = np.maximum(weights * miss * (1 - miss), 1e-12)
        root = np.sqrt(curvature)
        right = curvature * logits + weights * miss
        inner = root[:, None] * covariance * root
        inner[np.diag_indices_from(inner)] += 1.0
        factor = scipy.linalg.cho_factor(inner, lower=True, overwrite_a=True, check_finite=False)
        step = right - root * scipy.linalg.cho_solve(factor, root * (covariance @ right), check_finite=False) - dual
        ahead = covariance @ step
        # A full step overshoots where an offset saturates the loss.
        size = 1.0
        while (reached := _loss(dual + size * step, logits + size * ahead, offsets, weights)) > loss and size > 1e-4:
            size /= 2
        dual, logits = dual + size * step, logits + size * ahead
        improved, loss = loss - reached, min(loss, reached)
        if improved < 1e-9 * max(1.0, abs(loss)):
            return inverse_regularization * dual
    raise InputError(
        f"The linear proxy did not converge on {len(gram)} pairs (last step gained {improved:.2g}); lower C."
    )


def _loss(dual: NDArray, logits: NDArray, offsets: NDArray, weights: NDArray) -> float:
    return float(weights @ np.logaddexp(0, -(logits + offsets)) + 0.5 * dual @ logits)


def fit_gaps(data: LinearData, train: NDArray, test: NDArray, handling: Handling, rho: float) -> NDArray[np.float32]:
    """Adjusted gaps of the rows `test` by a proxy trained on the rows `train`, shape `(len(test),)`."""
    delta = data.delta_length
    offsets = -training_margin(rho, handling.correction) * delta[train]
    weights = balance_weights(delta[train], handling.temperature)
    dual = bradley_terry(data.gram[np.ix_(train, train)], offsets, weights, data.inverse_regularization)
    return adjusted_gap(data.gram[np.ix_(test, train)] @ dual, delta[test], rho, handling.correction)


def balanced_accuracy(gaps: NDArray, delta_length: NDArray) -> float:
    """Mean of the accuracies on the pairs whose chosen response is longer and on those whose it is shorter; ties count half."""
    right = (gaps > 0) + 0.5 * (gaps == 0)
    halves = [right[rows].mean() for rows in (delta_length > 0, delta_length < 0) if rows.any()]
    return float(np.mean(halves)) if halves else 0.5


def gain_in_errors(gaps: NDArray, delta_length: NDArray, rho: float) -> float:
    """Gain of [`balanced_accuracy`] by a penalty `rho` at scoring, in standard errors of the paired difference."""
    changed = (gaps - rho * delta_length > 0).astype(float) - (gaps > 0)
    halves = [changed[rows] for rows in (delta_length > 0, delta_length < 0) if rows.sum() > 1]
    error = np.sqrt(sum(half.var(ddof=1) / half.size for half in halves))
    return float(sum(half.mean() for half in halves) / error) if error > 0 else 0.0


def choose_rho(
    data: LinearData, train: NDArray, prompts: NDArray, handling: Handling
) -> tuple[float, dict[str, float]]:
    """
    The penalty per token with the best [`balanced_accuracy`] on held-out pairs of `train` (folds of prompts), the smallest of
    equals, and the accuracy of each one tried.
    """
    scale = length_scale(data.delta_length[train])
    found = {}
    for strength in AUTO_STRENGTHS:
        gaps = held_out_gaps(data, train, prompts, handling, strength / scale)
        found[strength] = balanced_accuracy(gaps, data.delta_length[train])
    best = max(found, key=lambda strength: (found[strength], -strength))
    return best / scale, {f"{strength:g}": accuracy for strength, accuracy in found.items()}


def held_out_gaps(
    data: LinearData, train: NDArray, prompts: NDArray, handling: Handling, rho: float
) -> NDArray[np.float32]:
    """Gaps of the rows `train`, each by a proxy trained on those of other prompts."""
    names, numbers = np.unique(prompts[train].astype(str), return_inverse=True)
    inner = prompt_folds(names, min(INNER_FOLDS, len(names)))[numbers]
    gaps = np.zeros(len(train), dtype=np.float32)
    for fold in np.unique(inner):
        held_out = inner == fold
        gaps[held_out] = fit_gaps(data, train[~held_out], train[held_out], handling, rho)
    return gaps


def proxy_gaps(
    data: LinearData, rows: NDArray, test: NDArray, prompts: NDArray, handling: Handling, fixed: float
) -> tuple[NDArray[np.float32], dict]:
    """Gaps of `test` by a proxy trained on `rows`, with a penalty of `fixed` or as `handling` chooses it, and the penalty."""
    delta = data.delta_length
    if handling.at_scoring:
        plain = Handling("", temperature=handling.temperature)
        held_out = held_out_gaps(data, rows, prompts, plain, 0.0)
        rho = PENALTY_RULES[handling.rule](held_out, delta[rows])
        if gain_in_errors(held_out, delta[rows], rho) < handling.min_gain:
            rho = 0.0
        raw = fit_gaps(data, rows, test, plain, 0.0)
        return adjusted_gap(raw, delta[test], rho, "penalty"), {"rho": rho}
    if handling.auto:
        rho, tried = choose_rho(data, rows, prompts, handling)
        return fit_gaps(data, rows, test, handling, rho), {"rho": rho, "auto_accuracy": tried}
    return fit_gaps(data, rows, test, handling, fixed), {"rho": fixed}


def linear_gaps(
    real: RealSet, data: LinearData, handling: Handling, unified: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[dict]]:
    """
    Held-out gaps of every pair by every aspect's proxy, `(num_pairs, num_aspects)`; by one unified proxy, where `unified`;
    and for each fold and aspect the number of training pairs and the penalty.
    """
    gaps = np.zeros((len(real), len(real.aspects)), dtype=np.float32)
    margin = np.zeros(len(real), dtype=np.float32) if unified else None
    notes = []
    for fold in np.unique(real.folds):
        test = np.flatnonzero(real.folds == fold)
        train, shared = real.training_rows(int(fold))
        for k, aspect in enumerate(real.aspects):
            rows = train[real.own[train] == k]
            fixed = handling.per_token(data.delta_length[train])
            gaps[test, k], used = proxy_gaps(data, rows, test, real.prompts, handling, fixed)
            notes.append(
                {"fold": int(fold), "aspect": aspect, "num_train": len(rows), "left_out_shared": shared, **used}
            )
        if margin is not None:
            margin[test] = fit_gaps(data, train, test, handling, handling.per_token(data.delta_length[train]))
    return gaps, margin, notes
