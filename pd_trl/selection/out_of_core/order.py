"""Exact order statistics of values that are read block by block and never held in memory together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGIT = 16


@dataclass
class Bracket:
    """
    Counts the values below an interval and keeps those inside. Each rank that falls inside then has an exact value.

    Args:
        low, high (`float`): The interval, ends included.
        limit (`int`): Maximum number of values to keep. With more, the bracket gives up.
    """

    low: float
    high: float
    limit: int
    total: int = 0
    below: int = 0
    ends: dict[bool, dict[int, int]] = field(default_factory=lambda: {False: {}, True: {}})
    inside: list[tuple[int, NDArray]] = field(default_factory=list)
    given_up: bool = False
    _held: int = 0

    def fresh(self) -> "Bracket":
        """An empty bracket of the same interval."""
        return Bracket(self.low, self.high, self.limit)

    def add(self, values: NDArray, unit: int) -> None:
        """Adds a block of values from the unit `unit` of the data; NaN does not count."""
        self.total += int(np.count_nonzero(values == values))
        if self.given_up:
            return
        self.below += int(np.count_nonzero(values < self.low))
        found = values[(values >= self.low) & (values <= self.high)]
        if not found.size:
            return
        # Values equal to an end are only counted: there may be any number of them.
        middle = found
        for is_high, end in ((False, self.low), (True, self.high)):
            tied = middle == end
            count = int(np.count_nonzero(tied))
            if count:
                self.ends[is_high][unit] = self.ends[is_high].get(unit, 0) + count
                middle = middle[~tied]
        self._keep(unit, middle)

    def merge(self, other: "Bracket") -> None:
        """Adds what another bracket of the same interval has counted."""
        self.total += other.total
        self.below += other.below
        self.given_up |= other.given_up
        for is_high in (False, True):
            for unit, count in other.ends[is_high].items():
                self.ends[is_high][unit] = self.ends[is_high].get(unit, 0) + count
        for unit, values in other.inside:
            self._keep(unit, values)

    def _keep(self, unit: int, values: NDArray) -> None:
        self._held += values.size
        self.given_up |= self._held > self.limit
        if self.given_up:
            self.inside.clear()
        elif values.size:
            self.inside.append((unit, values))

    def find(self, rank: int) -> "Found | None":
        """The value of a rank, counted from 0; `None` if it lies outside the interval, or the bracket gave up."""
        if self.given_up:
            return None
        middle = np.sort(np.concatenate([values for _, values in self.inside])) if self.inside else np.empty(0)
        low, high = (sum(self.ends[is_high].values()) for is_high in (False, True))
        place = rank - self.below
        if not 0 <= place < low + middle.size + high:
            return None
        if place < low:
            return Found(self.low, self.below, low, sorted(self.ends[False]))
        if place >= low + middle.size:
            return Found(self.high, self.below + low + middle.size, high, sorted(self.ends[True]))
        value = middle[place - low]
        before, upto = (int(np.searchsorted(middle, value, side)) for side in ("left", "right"))
        units = sorted({unit for unit, values in self.inside if (values == value).any()})
        return Found(float(value), self.below + low + before, upto - before, units)


@dataclass
class Found:
    """
    The value of a rank.

    Args:
        value (`float`): The value.
        below (`int`): Number of smaller values.
        tied (`int`): Number of equal values.
        units (`list[int]`, *optional*): Units of the data that hold an equal value; `None` where that is not known.
    """

    value: float
    below: int
    tied: int
    units: list[int] | None = None


class Digits:
    """
    Finds the values of ranks where a [`Bracket`] missed: exact for any values, in constant memory. Each pass counts 16
    more bits of the values, from the highest.

    Args:
        ranks (sequence of `int`): Ranks, counted from 0.
        dtype: `float32` (2 passes) or `float64` (4 passes).
    """

    def __init__(self, ranks: Sequence[int], dtype: Any):
        self.bits = np.dtype(dtype).itemsize * 8
        self.dtype = np.dtype(dtype)
        self.known = 0
        self.prefixes = [0] * len(ranks)
        self.rest = list(ranks)
        self.ranks = list(ranks)
        self.tied = [0] * len(ranks)

    @property
    def done(self) -> bool:
        return self.known == self.bits

    def empty(self) -> dict[int, NDArray[np.int64]]:
        """Empty counts of the next digit, for each prefix."""
        return {prefix: np.zeros(1 << _DIGIT, dtype=np.int64) for prefix in self.prefixes}

    def count(self, values: NDArray, counts: dict[int, NDArray[np.int64]]) -> None:
        """Adds a block of values to the counts of a pass; NaN does not count."""
        keys = ordered_keys(values[values == values])
        digit = self.bits - self.known - _DIGIT
        for prefix, histogram in counts.items():
            found = keys if not self.known else keys[(keys >> keys.dtype.type(digit + _DIGIT)) == prefix]
            digits = ((found >> keys.dtype.type(digit)) & keys.dtype.type((1 << _DIGIT) - 1)).astype(np.int64)
            histogram += np.bincount(digits, minlength=1 << _DIGIT)

    def advance(self, counts: dict[int, NDArray[np.int64]]) -> None:
        """Sets the next digit of each rank by the counts of a whole pass."""
        for i, prefix in enumerate(self.prefixes):
            upto = np.cumsum(counts[prefix])
            digit = int(np.searchsorted(upto, self.rest[i], side="right"))
            self.tied[i] = int(counts[prefix][digit])
            self.rest[i] -= int(upto[digit]) - self.tied[i]
            self.prefixes[i] = (prefix << _DIGIT) | digit
        self.known += _DIGIT

    def found(self) -> list[Found]:
        """The values, once `done`."""
        return [
            Found(value_of_key(prefix, self.dtype), rank - rest, tied)
            for prefix, rank, rest, tied in zip(self.prefixes, self.ranks, self.rest, self.tied, strict=True)
        ]


def ordered_keys(values: NDArray) -> NDArray:
    """Unsigned integers in the order of the floats `values` (no NaN; -0 counts as 0)."""
    kind = np.dtype(f"u{values.dtype.itemsize}")
    bits = (values + values.dtype.type(0)).view(kind)
    top = kind.type(1 << (8 * kind.itemsize - 1))
    return np.where(bits & top, ~bits, bits | top)


def value_of_key(key: int, dtype: Any) -> float:
    """The float that has this key."""
    kind = np.dtype(f"u{np.dtype(dtype).itemsize}")
    top = 1 << (8 * kind.itemsize - 1)
    bits = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array([bits], dtype=kind).view(dtype)[0])


def sampled_bracket(sample: NDArray, share: float, limit: int) -> Bracket:
    """
    The interval that almost certainly holds the `share`-quantile of all values if `sample` was drawn at random: six
    standard errors and 0.2 % to either side. A misleading sample costs further passes, never exactness.
    """
    sample = sample[sample == sample]
    size = sample.size
    margin = 6 * np.sqrt(size * share * (1 - share)) + 0.002 * size + 2
    first, last = int(np.floor(share * size - margin)), int(np.ceil(share * size + margin))
    ranked = np.sort(sample)
    low = float(ranked[first]) if first >= 0 and size else -np.inf
    high = float(ranked[last]) if last < size else np.inf
    return Bracket(low, high, limit)


def quantile_ranks(count: int, share: float, dtype: Any) -> tuple[int, int, float]:
    """The two ranks between which `np.quantile` interpolates in `count` values of `dtype`, and the position between."""
    position = (count - 1) * np.asarray(share, dtype=_position_type(dtype))
    if position >= count - 1:
        return count - 1, count - 1, 0.0
    lower = np.floor(position)
    return int(lower), min(int(lower + 1), count - 1), float(position - lower)


def interpolated(lower: float, upper: float, along: float, dtype: Any) -> float:
    """The quantile between two neighbours, by numpy's own interpolation."""
    return float(np.quantile(np.array([lower, upper], dtype=dtype), along))


def _position_type(dtype: Any) -> Any:
    """
    The type in which this numpy computes the position of a quantile: double precision, or in older releases the type
    of the values, which rounds it. A case where the two differ shows which.
    """
    step = np.repeat(np.array([0, 1], dtype=dtype), [270, 30])
    return np.float64 if abs(np.quantile(step, 0.9) - 0.1) < 1e-6 else dtype
