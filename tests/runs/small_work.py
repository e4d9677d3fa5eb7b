"""Work for Ray's actors that needs no model."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("pd_trl.tests")


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers, and finds the disk full at one of them."""

    full_at: int | None = None

    def worker(self) -> "Doubling":
        return self

    def each(self, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        for item in items:
            if item == self.full_at:
                raise OSError(28, "No space left on device")
            logger.warning("Numbers are doubled.")
            yield {"item": item, "double": 2 * item}
