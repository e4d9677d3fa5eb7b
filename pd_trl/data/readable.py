"""Rows of a source that can be read: those without broken text, and without what no form can read whole."""

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .checks import first_reasons
from .encoding import broken_text, describe_broken
from .json_columns import Problems
from .sources import Source


def readable_rows(table: pa.Table, source: Source, on_invalid: str) -> tuple[pa.Table, np.ndarray, dict[str, int]]:
    """
    The table without the rows that hold bytes which are not UTF-8, which rows these are, and their count by reason; or an error.
    """
    broken = broken_text(table)
    if broken and on_invalid == "error":
        source.check_text()
    found = {f"rows with bytes that are not UTF-8 in {name!r}": mask for name, mask in broken.items()}
    invalid, counts = first_reasons(found, len(table))
    if broken and invalid.all():
        raise InputError(describe_broken(source.name, source.files, broken))
    return (table.filter(pa.array(~invalid)) if broken else table), invalid, counts


def without_odd(
    table: pa.Table, odd: Problems, invalid: np.ndarray, source: Source, by_two: bool
) -> tuple[pa.Table, dict[str, int]]:
    """
    The table, which has no `invalid` rows any more, without those that a form could not read (and, where rows 2i and 2i+1 are a pair,
    the other of the two), and their count by reason.
    """
    known = np.flatnonzero(~invalid)
    unread, counts = first_reasons({f"rows whose {reason}": mask for reason, mask in odd.items()}, len(table))
    invalid = invalid.copy()
    invalid[known[unread]] = True
    if by_two:
        partner = np.minimum(np.arange(len(invalid)) ^ 1, len(invalid) - 1)
        alone = invalid[partner] & ~invalid
        counts |= {"rows whose partner cannot be read": int(alone.sum())} if alone.any() else {}
        invalid |= alone
    if invalid.all():
        raise InputError(f"No row of {source.name} can be read: {counts}.")
    return (table.filter(pa.array(~invalid[known])) if invalid[known].any() else table), counts
