"""The main plots of a selection as PNG files, for cards and papers."""

import os
from pathlib import Path

import numpy as np

from ..selection.wording import wording_of
from . import plots
from .facts import GROUPS
from .writing import Selection


def write_pictures(selection: Selection, folder: str | os.PathLike) -> list[Path]:
    """
    Writes the pictures that the data allows: `pd.png`, `length.png`, `aspects.png`, `votes.png`, `conflict.png`,
    `correlation.png`.

    Args:
        selection ([`Selection`]): What to draw.
        folder (`str`): Folder of the files.

    Raises:
        InputError: When matplotlib is missing.
    """
    folder, ranked, numbers = Path(folder), selection.ranked, selection.numbers
    columns, written = ranked.columns, []
    if "pd" in columns:
        kept = np.arange(len(ranked.rows)) < ranked.kept
        against = columns["overall"] < 0 if "overall" in columns else None
        written.append(
            plots.divergence_histogram(
                columns["pd"], kept, folder / "pd.png", against, voters=wording_of(numbers).voters
            )
        )
    if "longer" in columns:
        shares = {group: numbers["lengths"][group]["chosen_longer"] for group in GROUPS}
        written.append(plots.length_shares(shares, folder / "length.png"))
    words = wording_of(numbers)
    for key, name, title in (
        ("kept_by_aspect", "aspects.png", "Kept and dropped by aspect"),
        ("kept_by_votes", "votes.png", f"Kept and dropped by votes of {words.voters}"),
    ):
        if numbers.get(key) and not (words.label and key == "kept_by_aspect"):
            written.append(plots.vote_patterns(numbers[key], folder / name, title=title))
    if ranked.matrix is not None and len(ranked.matrix.names) > 1:
        names = ranked.matrix.names
        conflict = np.array(ranked.conflicts["all"], dtype=np.float64)
        written.append(plots.conflict_matrix(conflict, names, folder / "conflict.png"))
        correlation = numbers["gap_correlation"]
        values = np.array([[correlation[a][b] for b in names] for a in names], dtype=np.float64)
        written.append(plots.aspect_correlations(values, names, folder / "correlation.png"))
    return written
