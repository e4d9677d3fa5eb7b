"""Formulas of other papers' selectors of preference pairs, in numpy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

# Ours, since the paper's bounds are not known: the quantile of the absolute margins that is sure.
BEES_QUANTILE = 0.99
DCRM_EPSILON = 1.0


def implicit_margins(
    policy_chosen: ArrayLike,
    policy_rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    beta: float,
) -> NDArray[np.float64]:
    r"""
    Implicit reward margin of DPO, $\Delta r = \beta[\log\frac{\pi_\theta(y_w|x)}{\pi_{ref}(y_w|x)} -
    \log\frac{\pi_\theta(y_l|x)}{\pi_{ref}(y_l|x)}]$. "Difficulty-Based Preference Data Selection by DPO Implicit Reward Gap"
    ([arXiv 2508.04149](https://huggingface.co/papers/2508.04149)) keeps the pairs with the smallest.

    Args:
        policy_chosen, policy_rejected, reference_chosen, reference_rejected (arrays of shape `(num_pairs,)`):
            Log-probabilities of the responses, summed over their tokens (nats).
        beta (`float`): Strength of the KL penalty.

    Returns:
        array of shape `(num_pairs,)`, in nats.
    """
    parts = (policy_chosen, reference_chosen, policy_rejected, reference_rejected)
    ours, theirs, ours_rejected, theirs_rejected = (np.asarray(part, dtype=np.float64) for part in parts)
    return beta * ((ours - theirs) - (ours_rejected - theirs_rejected))


def average_margins(
    policy_chosen: ArrayLike,
    policy_rejected: ArrayLike,
    tokens_chosen: ArrayLike,
    tokens_rejected: ArrayLike,
    beta: float,
) -> NDArray[np.float64]:
    r"""
    Implicit reward margin without a reference model, $\beta[\frac{\log\pi_\theta(y_w|x)}{|y_w|} -
    \frac{\log\pi_\theta(y_l|x)}{|y_l|}]$: that of SimPO ([arXiv 2405.14734](https://huggingface.co/papers/2405.14734)).

    Args:
        policy_chosen, policy_rejected (arrays of shape `(num_pairs,)`): Log-probabilities of the responses (nats).
        tokens_chosen, tokens_rejected (arrays of shape `(num_pairs,)`): Their tokens.
        beta (`float`): Factor of the reward.

    Returns:
        array of shape `(num_pairs,)`, in nats per token times `beta`.
    """
    parts = (policy_chosen, tokens_chosen, policy_rejected, tokens_rejected)
    chosen, size, rejected, size_rejected = (np.asarray(part, dtype=np.float64) for part in parts)
    return beta * (chosen / size - rejected / size_rejected)


def validation_loss(margins: ArrayLike) -> NDArray[np.float64]:
    r"""
    DPO loss of held-out pairs, $-\log\sigma(\Delta r)$. SelectiveDPO ("Principled Data Selection for Alignment: The Hidden Risks
    of Difficult Examples", [arXiv 2502.09650](https://huggingface.co/papers/2502.09650)) averages it over policies that have
    not seen the pair, and drops the pairs where it is high.

    Args:
        margins (array of shape `(num_pairs,)` or `(num_runs, num_pairs)`): Implicit margins by each run's policy.

    Returns:
        array of shape `(num_pairs,)`: The mean over the runs, in nats.
    """
    losses = np.logaddexp(0.0, -np.asarray(margins, dtype=np.float64))
    return losses.mean(axis=0) if losses.ndim == 2 else losses


def alignment_potential(explicit: ArrayLike, implicit: ArrayLike, weight: float = 1.0) -> NDArray[np.float64]:
    r"""
    Alignment potential, $M_{AP} = |\Delta r^*| - |\Delta\hat r_\theta|$: how far the policy's margin is from that of a reward
    model ("Larger or Smaller Reward Margins to Select Preferences for Alignment?", [arXiv
    2503.01864](https://huggingface.co/papers/2503.01864)). Pairs with the highest are kept. Both margins have mean 0 and
    standard deviation 1 first, as in the authors' code, whose implicit margin is [`average_margins`].

    Args:
        explicit (array of shape `(num_pairs,)`): Margin of a reward model. Only its size counts, as in the paper.
        implicit (array of shape `(num_pairs,)`): Implicit margin of the policy.
        weight (`float`, *optional*, defaults to `1.0`): Factor of the implicit margin.

    Returns:
        array of shape `(num_pairs,)`, in standard deviations.
    """
    return _standardized(np.abs(explicit), "explicit") - weight * _standardized(np.abs(implicit), "implicit")


def _standardized(values: NDArray, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    deviation = values.std() if values.size else 0.0
    if not deviation > 0 or not np.isfinite(deviation):
        raise InputError(
            f"The alignment potential scales the {name} margins by their standard deviation, which is {deviation:g} over "
            f"{values.size} pairs: they must be finite and differ."
        )
    return (values - values.mean()) / deviation


def distance_calibrated_margin(
    margins: ArrayLike, edit_distances: ArrayLike, logp_distances: ArrayLike, epsilon: float = DCRM_EPSILON
) -> NDArray[np.float64]:
    r"""
    Distance-calibrated reward margin, $\frac{\sigma(\Delta r) - 1/2}{e_\Delta + p_\Delta + \epsilon}$, with $e_\Delta$ the edit
    distance of the responses in tokens and $p_\Delta = |\log\pi(y_w|x) - \log\pi(y_l|x)|$ ("DCRM: A Heuristic to Measure
    Response Pair Quality in Preference Optimization", [arXiv 2506.14157](https://huggingface.co/papers/2506.14157)). Pairs
    with the highest are kept. Formula and epsilon are those that another implementation gives as the paper's; the paper's own text
    and code were not at hand.

    Args:
        margins (array of shape `(num_pairs,)`): Margin of a reward model (nats).
        edit_distances (array of shape `(num_pairs,)`): [`edit_distance`] of both responses, in tokens.
        logp_distances (array of shape `(num_pairs,)`): Absolute difference of their log-probabilities (nats), there by the reference
            model or the one that wrote the responses.
        epsilon (`float`, *optional*, defaults to `1.0`): Keeps the quotient finite where both distances are 0.

    Returns:
        array of shape `(num_pairs,)`.
    """
    # sigmoid(x) - 1/2 without overflow.
    gain = 0.5 * np.tanh(0.5 * np.asarray(margins, dtype=np.float64))
    return gain / (
        np.asarray(edit_distances, dtype=np.float64) + np.asarray(logp_distances, dtype=np.float64) + epsilon
    )


def edit_distance(first: ArrayLike, second: ArrayLike) -> int:
    """
    Levenshtein distance of two sequences of token ids: the fewest tokens to insert, delete or replace.

    Args:
        first, second (integer arrays of shape `(num_tokens,)`): Token ids.
    """
    a, b = np.asarray(first), np.asarray(second)
    places = np.arange(b.size + 1)
    row = places.copy()
    for i, token in enumerate(a, start=1):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != token))
        row = np.concatenate(([i], best))
        # An insertion adds 1 for each place: the least of (value - place) so far, plus the place.
        row = np.minimum.accumulate(row - places) + places
    return int(row[-1])


def bayesian_margin(margins: ArrayLike, quantile: float = BEES_QUANTILE) -> NDArray[np.float64]:
    r"""
    BeeS ("Less is More: Improving LLM Alignment via Preference Data Selection", [arXiv
    2502.14560](https://huggingface.co/papers/2502.14560)): the probability that the label is right, by several margins that are
    independent given the label,

    $$ P = \frac{\prod_i p_i}{\prod_i p_i + \prod_i (1 - p_i)}, \qquad p_i = \frac{\mathrm{clip}(m_i, L_i, U_i) - L_i}{U_i - L_i} $$

    Pairs with the highest are kept. The bounds are ours: `U` is the `quantile`-quantile of the absolute margins and `L = -U`, so
    that a margin of 0 says nothing. Where one margin is sure and another is sure of the contrary, P is 1/2.

    Args:
        margins (array of shape `(num_margins, num_pairs)`): Margins, such as that of a reward model and the implicit one.
        quantile (`float`, *optional*, defaults to `0.99`): Quantile of the absolute margins from which on they are sure.

    Returns:
        array of shape `(num_pairs,)`, in [0, 1].
    """
    values = np.atleast_2d(np.asarray(margins, dtype=np.float64))
    bound = np.quantile(np.abs(values), quantile, axis=1, keepdims=True)
    if not (bound > 0).all() or not np.isfinite(bound).all():
        raise InputError(
            f"BeeS scales margins by the {quantile:g}-quantile of their absolute values, which must be finite and above 0, got "
            f"{', '.join(f'{value:g}' for value in bound[:, 0])}."
        )
    right = (np.clip(values, -bound, bound) + bound) / (2 * bound)
    for_label, against = right.prod(axis=0), (1 - right).prod(axis=0)
    total = for_label + against
    return np.divide(for_label, total, out=np.full(total.shape, 0.5), where=total > 0)


def worst_gap(normalized_gaps: ArrayLike, aspects: ArrayLike, votes: ArrayLike | None = None) -> NDArray[np.float64]:
    r"""
    Smallest normalised gap of the other aspects, $\min_{k' \neq k} \Delta\tilde r_{k'}(z)$. Where it is not negative, the
    chosen response is at least as good in every aspect (it dominates weakly): "Reward Consistency: Improving Multi-Objective
    Alignment from a Data-Centric Perspective" ([arXiv 2504.11337](https://huggingface.co/papers/2504.11337)) keeps just
    these pairs. Ranking by it, the highest first, is ours: a budget then takes the consistent pairs before all others, those
    of the largest lead in the worst aspect first.

    Args:
        normalized_gaps (array of shape `(num_pairs, num_aspects)`): Gaps of Eq. 14 in [-1, 1], NaN where an aspect has no vote.
        aspects (integer array of shape `(num_pairs,)`): Index of each pair's own aspect, or -1.
        votes (boolean array of shape `(num_aspects,)`, *optional*): Aspects that have a vote. `None` is all.

    Returns:
        array of shape `(num_pairs,)`, in [-1, 1]; NaN where no other aspect votes.
    """
    gaps = np.array(normalized_gaps, dtype=np.float64)
    own = np.asarray(aspects)
    labelled = np.flatnonzero(own >= 0)
    gaps[labelled, own[labelled]] = np.nan
    if votes is not None:
        gaps[:, ~np.asarray(votes, dtype=bool)] = np.nan
    worst = np.where(np.isnan(gaps), np.inf, gaps).min(axis=1)
    return np.where(np.isinf(worst), np.nan, worst)
