"""How a budget is divided among strata of which only the sizes are known."""

from collections.abc import Mapping


def stratum_counts(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """
    The number of pairs that [`select_per_stratum`] keeps of each stratum: the `count` lowest of `(rank + 1/2) / size`
    over all strata, ties by name.
    """
    names = sorted(sizes)

    def upto(limit: float) -> dict[str, int]:
        result = {}
        for name in names:
            rank = max(0, min(sizes[name], int(limit * sizes[name] + 0.5)))
            while rank < sizes[name] and (rank + 0.5) / sizes[name] <= limit:
                rank += 1
            while rank > 0 and (rank - 0.5) / sizes[name] > limit:
                rank -= 1
            result[name] = rank
        return result

    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if sum(upto(middle).values()) >= count:
            high = middle
        else:
            low = middle
    below, result = upto(low), upto(high)
    # All pairs that `high` adds have the same position. The first by name are kept.
    excess = sum(result.values()) - count
    for name in reversed(names):
        removed = min(excess, result[name] - below[name])
        result[name] -= removed
        excess -= removed
    return result
