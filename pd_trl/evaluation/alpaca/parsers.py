"""Reads preferences from judges' answers."""

import logging
import math
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

# Maximum characters of an answer. The time of some parsers grows with the square of the length.
_LONGEST = 50_000


class SafeParser:
    """
    A parser of alpaca_eval that returns only preferences or NaN. It never raises, and it counts the answers that it
    cannot read.

    Args:
        parser (`Callable`): Makes a list of values from a completion.
        batch_size (`int`): Number of values that a completion must have.
    """

    def __init__(self, parser: Callable[[Any], Any], batch_size: int):
        self.parser, self.batch_size = parser, batch_size
        self.num_unparsable = 0

    def __call__(self, completion: Any) -> list[float]:
        if completion is None:
            return [math.nan] * self.batch_size
        values = self._values(completion)
        self.num_unparsable += sum(map(math.isnan, values))
        return values

    def can_read(self, completion: Any) -> bool:
        """Whether at least one preference can be read."""
        return completion is not None and not all(map(math.isnan, self._values(completion)))

    def _values(self, completion: Any) -> list[float]:
        if isinstance(completion, str) and len(completion) > _LONGEST:
            return [math.nan] * self.batch_size
        try:
            values = list(self.parser(completion))
        except Exception:  # parsers may raise anything
            logger.debug("The judge's answer cannot be parsed: %.200s", completion)
            values = []
        if len(values) != self.batch_size:
            return [math.nan] * self.batch_size
        return [_preference(value) for value in values]


def _preference(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    # 0 is an old code of a tie.
    return 1.5 if number == 0 else number if 1 <= number <= 2 else math.nan


WHAT_PARSERS_WANT = (
    "An annotator's parser needs exactly the answer that its prompt asks for: 'm' or 'M' with log-probabilities for "
    "the weighted annotators. Use another annotator, or a model that follows this prompt and returns "
    "log-probabilities."
)


def nothing_to_read(name: str, count: int, sample: str | None) -> str:
    """Message if no answer of a judge is a preference."""
    if sample is None:
        return f"None of the {count} requests of the judge {name} was answered."
    return (
        f"None of the {count} answers of the judge {name} can be read as a preference (the first: {sample[:60]!r}). Answers are kept. "
        f"{WHAT_PARSERS_WANT}"
    )
