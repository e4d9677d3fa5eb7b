"""Work for Ray's actors that needs no model."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pd_trl.errors import InputError

logger = logging.getLogger("pd_trl.tests")


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers, and fails at `refused` by an error of the input, or by one of the system."""

    refused: int | None = None
    system: bool = False

    def worker(self) -> "Doubling":
        return self

    def each(self, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        for item in items:
            if item == self.refused:
                raise OSError(28, "No space left on device") if self.system else InputError(f"{item} is refused.")
            logger.warning("Numbers are doubled.")
            yield {"item": item, "double": 2 * item}
