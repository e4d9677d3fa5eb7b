"""Intervals of an arm's difference from ALL: a bootstrap of held-out prompts, all pairs of a prompt together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_data.sets import RealSet
from real_data.tables import markdown

from .cells import PolicyBench
from .settings import PolicySettings
from .tables import BASE

RESAMPLES, SEED = 2000, 0


def counts(real: RealSet, margins: Sequence[float], measure: str) -> NDArray[np.float64]:
    """
    Of each held-out prompt, how many decided labels the sign of the margin agrees with, and how many there are.

    Args:
        real ([`RealSet`]): Held-out pairs.
        margins (sequence of `float`): Margin of each, in nats.
        measure (`str`): `"hidden"` or `"overall"`, see [`~real_policy.measures.measures`].

    Returns:
        array of shape `(num_prompts, 2)`.
    """
    sign = np.sign(np.asarray(margins))[:, None]
    if measure == "overall":
        assert real.overall is not None
        votes = real.overall[:, None]
    else:
        votes = np.where(real.own[:, None] == np.arange(len(real.aspects)), 0, real.votes)
    agree = np.where(votes == 0, 0.0, np.where(sign == 0, 0.5, sign == votes)).sum(1)
    found = np.zeros((real.prompts.max() + 1, 2))
    np.add.at(found, real.prompts, np.stack([agree, (votes != 0).sum(1)], axis=1))
    return found


def difference(pairs: Sequence[tuple[NDArray, NDArray]], resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """
    Mean over seeds of the difference of two shares, and its 95 % interval over prompts.

    Args:
        pairs (sequence of pairs of arrays of shape `(num_prompts, 2)`): [`counts`] of an arm and of ALL, by seed.
        resamples (`int`): Draws of the prompts of each seed, with replacement.
    """
    rng = np.random.default_rng(SEED)
    sums = np.zeros(resamples)
    estimate = 0.0
    for ours, base in pairs:
        both = np.stack([ours, base])
        estimate += float(np.subtract(*_shares(both.sum(1))))
        drawn = both[:, rng.integers(len(ours), size=(resamples, len(ours)))].sum(2)
        sums += _shares(drawn[0]) - _shares(drawn[1])
    low, high = np.nanquantile(sums / len(pairs), (0.025, 0.975))
    return estimate / len(pairs), float(low), float(high)


def _shares(found: NDArray) -> NDArray:
    """Shares that agree, NaN where no label is decided."""
    return np.divide(found[..., 0], found[..., 1], out=np.full(found.shape[:-1], np.nan), where=found[..., 1] > 0)


def interval_lines(bench: PolicyBench, records: Sequence[dict[str, Any]], settings: PolicySettings) -> list[str]:
    """For each set a table of the arms' differences from ALL, over the seeds that both have."""
    lines = []
    for name in dict.fromkeys(record["set"] for record in records):
        of_set = [record for record in records if record["set"] == name]
        held_out = {r["seed"]: bench.pairs(name, r["seed"], settings).held_out for r in of_set}
        rows = _rows(of_set, held_out)
        if len(rows) > 1:
            lines += ["", f"## {name}: differences from {BASE}, 95 % over prompts", "", *markdown(rows)]
    return lines


def _rows(records: Sequence[dict[str, Any]], held_out: dict[int, RealSet]) -> list[list[str]]:
    overall = all(real.overall is not None for real in held_out.values())
    measures = ["hidden", *(["overall"] if overall else [])]
    margins = {(record["arm"], record["seed"]): record["margins"] for record in records}
    rows = [["arm", "seeds", *measures]]
    for arm in dict.fromkeys(record["arm"] for record in records):
        seeds = [seed for name, seed in margins if name == arm and (BASE, seed) in margins]
        if arm == BASE or not seeds:
            continue
        cells = [arm, str(len(seeds))]
        for measure in measures:
            pairs = []
            for seed in seeds:
                ours, base = (counts(held_out[seed], margins[name, seed], measure) for name in (arm, BASE))
                pairs.append((ours, base))
            mean, low, high = (100 * value for value in difference(pairs))
            cells.append(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append(cells)
    return rows
