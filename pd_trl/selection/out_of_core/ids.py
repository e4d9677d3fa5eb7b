"""Checks that `pair_id`s are unique, with eight bytes per row on the disk and few in memory."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...data.hash_files import repeated_hashes
from ...data.id_columns import id_hashes, text_ids
from ...errors import InputError
from .source import RowSource, Unit

_SHOWN = 1000


def check_unique(source: RowSource, paths: Sequence[Path], total: int) -> None:
    """
    Raises `InputError` if an id occurs more than once.

    Args:
        source ([`RowSource`]): The rows, whose ids are looked up where hashes are equal.
        paths (sequence of `Path`): What [`write_hashes`] wrote.
        total (`int`): Number of rows.
    """
    suspects = repeated_hashes(paths, total)
    if not suspects.size:
        return
    counts: Counter[str] = Counter()

    def named(unit: Unit) -> list[str]:
        found: list[str] = []
        for _, batch in source.batches(unit, ["pair_id"]):
            ids = text_ids(batch.column("pair_id"))
            found += ids.filter(pa.array(np.isin(id_hashes(ids), suspects[:_SHOWN]))).to_pylist()
        return found

    for part in source.each(named):
        counts.update(part)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        number = f"{len(repeated)}" if suspects.size <= _SHOWN else f"about {suspects.size}"
        raise InputError(
            f"`pair_id` must be unique, but {number} ids occur more than once, such as {repeated[0]!r:.80}. Give each "
            "row its own id."
        )
