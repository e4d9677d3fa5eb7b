"""Work for Ray's actors that needs no model."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger("pd_trl.tests")


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers, leaves a file of each with a byte for each attempt, and finds the disk full at one of them."""

    folder: str
    full_at: int | None = None

    def worker(self) -> "Doubling":
        return self

    def each(self, items: Iterable[int]) -> Iterator[dict[str, Any]]:
        for item in items:
            with (Path(self.folder) / str(item)).open("ab") as file:
                file.write(b"x")
            if item == self.full_at:
                raise OSError(28, "No space left on device")
            time.sleep(0.05)
            logger.warning("Numbers are doubled.")
            yield {"item": item, "double": 2 * item}
