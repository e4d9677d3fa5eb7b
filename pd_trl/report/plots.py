"""Pictures of a selection as PNG files, from plain arrays and mappings. They need matplotlib (`pip install pd_trl[report]`)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..text.names import MAX_MATRIX
from ..text.tables import percent
from .drawing import INK, PLAIN, names_on, percent_axis, picture

# Blue and orange can be told apart with any colour vision; the lightness differs too.
KEPT_COLOR, DROPPED_COLOR = "#0072B2", "#E08A00"
_CONFLICT = "#000000"
_MAX_BARS = 40


def divergence_histogram(
    pd: ArrayLike,
    kept: ArrayLike,
    path: str | os.PathLike,
    conflict: ArrayLike | None = None,
    *,
    title: str = "Preference Divergence of the pairs",
    bins: int = 60,
    voters: str = "the other aspects",
) -> Path:
    """
    Histogram of PD (Eq. 15), kept and dropped pairs stacked.

    Args:
        pd (array of shape `(num_pairs,)`): PD of each pair.
        kept (boolean array of shape `(num_pairs,)`): Whether the pair is kept.
        path (`str`): PNG file to write.
        conflict (boolean array of shape `(num_pairs,)`, *optional*): Whether the pair's label contradicts the overall one;
            drawn as an outline.
        title (`str`, *optional*): Title.
        bins (`int`, *optional*, defaults to `60`): Number of bars.
        voters (`str`, *optional*): Who votes on a pair.

    Raises:
        InputError: When matplotlib is missing, or the arrays are empty, differ in length or hold no finite PD.
    """
    values, mask = np.asarray(pd, dtype=np.float64), np.asarray(kept, dtype=bool)
    against = None if conflict is None else np.asarray(conflict, dtype=bool)
    _check_lengths(values, {"kept": mask, "conflict": against})
    edges = np.linspace(*_padded(values), bins + 1)
    with picture(path, (7.0, 3.8)) as (figure, axes):
        counts = [np.histogram(values[rows], edges)[0] for rows in (mask, ~mask)]
        width = edges[1] - edges[0]
        style: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.4}
        axes.bar(
            edges[:-1], counts[0], color=KEPT_COLOR, label=f"kept ({mask.sum():,} of {mask.size:,} pairs)", **style
        )
        axes.bar(edges[:-1], counts[1], bottom=counts[0], color=DROPPED_COLOR, label="dropped", **style)
        if against is not None:
            outline = np.histogram(values[against], edges)[0]
            axes.stairs(outline, edges, color=_CONFLICT, linewidth=1.4, label="label contradicts the overall label")
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(f"PD   (negative: {voters} agree with the label; positive: they contradict it)")
        axes.set_ylabel("pairs")
        axes.grid(axis="y")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=3)
    return Path(path)


def length_shares(
    shares: Mapping[str, float | None],
    path: str | os.PathLike,
    *,
    title: str = "Pairs whose chosen response is the longer one",
) -> Path:
    """
    Share of pairs whose chosen response is the longer one, by group.

    Args:
        shares (`dict`): Group to share in [0, 1], such as `{"all": 0.53, "kept": 0.43, "dropped": 0.57}`; `None` where there
            is no pair.
        path (`str`): PNG file to write.
        title (`str`, *optional*): Title.

    Raises:
        InputError: When matplotlib is missing, or there is no share.
    """
    known = {name: float(share) for name, share in shares.items() if share is not None}
    if not known:
        raise InputError("There is no share of longer responses to draw.")
    with picture(path, (7.0, 1.3 + 0.45 * len(known))) as (_, axes):
        rows = np.arange(len(known))
        values = np.array(list(known.values()))
        colors = [{"kept": KEPT_COLOR, "dropped": DROPPED_COLOR}.get(name, "#8C8C8C") for name in known]
        axes.barh(rows, values, color=colors, height=0.62)
        for row, value in enumerate(values):
            axes.text(value + 0.012, row, percent(value), va="center", bbox=PLAIN)
        axes.axvline(0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        names_on(axes, "y", known)
        axes.invert_yaxis()
        axes.set_xlim(0, max(1.0, values.max() * 1.12))
        percent_axis(axes, "x", "share of pairs (dashed: no preference for length)")
        axes.set_title(title)
    return Path(path)


def aspect_correlations(
    values: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str = "Correlation of the aspects' reward gaps",
) -> Path:
    """
    Matrix of correlations of the aspects' gaps.

    Args:
        values (array of shape `(num_aspects, num_aspects)`): Correlations in [-1, 1], NaN where there is none.
        names (sequence of `str`): Aspects.
        path (`str`): PNG file to write.
        title (`str`, *optional*): Title.

    Raises:
        InputError: When matplotlib is missing, or the shape does not fit the names.
    """
    return _matrix(values, names, path, title, "RdBu", (-1.0, 1.0), lambda v: f"{v:.2f}".replace("-", "−"))


def conflict_matrix(
    values: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike,
    *,
    title: str = "Pairs on which two aspects prefer different responses",
) -> Path:
    """
    Matrix of how often two aspects contradict each other.

    Args:
        values (array of shape `(num_aspects, num_aspects)`): Shares in [0, 1], NaN where there is none (the diagonal).
        names (sequence of `str`): Aspects.
        path (`str`): PNG file to write.
        title (`str`, *optional*): Title.

    Raises:
        InputError: When matplotlib is missing, or the shape does not fit the names.
    """
    top = float(np.nanmax(np.append(np.asarray(values, dtype=np.float64).ravel(), 0.5)))
    return _matrix(values, names, path, title, "Oranges", (0.0, top), percent)


def vote_patterns(
    groups: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike,
    *,
    title: str = "Kept and dropped by votes of the other aspects",
) -> Path:
    """
    Kept and dropped pairs of each group, as stacked bars: by number of agreeing aspects, or by aspect.

    Args:
        groups (`dict`): Group to `{"total": …, "kept": …}`, as `kept_by_votes` and `kept_by_aspect` of [`SelectionReport`].
        path (`str`): PNG file to write.
        title (`str`, *optional*): Title.

    Raises:
        InputError: When matplotlib is missing, or there is no group.
    """
    if not groups:
        raise InputError("There are no groups to draw.")
    groups = _most_groups(groups)
    total = np.array([float(entry["total"]) for entry in groups.values()])
    kept = np.array([float(entry["kept"]) for entry in groups.values()])
    with picture(path, (7.0, 1.6 + 0.42 * len(groups))) as (figure, axes):
        rows = np.arange(len(groups))
        axes.barh(rows, kept, color=KEPT_COLOR, height=0.68, label="kept")
        axes.barh(rows, total - kept, left=kept, color=DROPPED_COLOR, height=0.68, label="dropped")
        for row, (count, share) in enumerate(zip(total, kept / np.maximum(total, 1), strict=True)):
            axes.text(count + total.max() * 0.01, row, f"{percent(share)} kept", va="center", bbox=PLAIN)
        names_on(axes, "y", groups)
        axes.invert_yaxis()
        axes.set_xlim(0, max(total.max(), 1) * 1.18)
        axes.set_xlabel("pairs")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x")
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=2)
    return Path(path)


def _matrix(
    values: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike,
    title: str,
    colors: str,
    limits: tuple[float, float],
    form: Any,
) -> Path:
    matrix = np.asarray(values, dtype=np.float64)
    if not names or matrix.shape != (len(names), len(names)):
        raise InputError(
            f"A matrix of {len(names)} aspects must have shape ({len(names)}, {len(names)}), got {matrix.shape}."
        )
    if len(names) > MAX_MATRIX:
        title = f"{title} (the first {MAX_MATRIX} of {len(names)})"
        matrix, names = matrix[:MAX_MATRIX, :MAX_MATRIX], names[:MAX_MATRIX]
    size = 2.2 + 0.78 * len(names)
    with picture(path, (max(size + 1.2, 6.0), max(size, 3.4))) as (figure, axes):
        image = axes.imshow(matrix, cmap=colors, vmin=limits[0], vmax=limits[1])
        # Texts inside cells are left out of the layout, which would measure each of them several times.
        inside: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45
                axes.text(column, row, form(value), color="white" if dark else INK, **inside)
            else:
                axes.text(column, row, "–", color="#767676", **inside)
        names_on(axes, "x", names, most=22, rotation=35, ha="right", rotation_mode="anchor")
        names_on(axes, "y", names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(lambda value, _: form(value))
    return Path(path)


def _check_lengths(values: NDArray, others: Mapping[str, NDArray | None]) -> None:
    if values.ndim != 1 or not values.size:
        raise InputError(f"`pd` must be a non-empty vector, got shape {values.shape}.")
    for name, other in others.items():
        if other is not None and other.shape != values.shape:
            raise InputError(f"`{name}` must have one value per pair, shape {values.shape}, got {other.shape}.")
    if not np.isfinite(values).all():
        raise InputError(f"`pd` must be finite, got {values[~np.isfinite(values)][0]}.")


def _padded(values: NDArray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _most_groups(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The first groups, and all others as one group, so that the picture stays readable."""
    names = list(groups)
    first = {name: groups[name] for name in names[: _MAX_BARS - 1]}
    rest = [groups[name] for name in names[_MAX_BARS - 1 :]]
    if len(rest) < 2:
        return dict(groups)
    sums = {key: sum(entry[key] for entry in rest) for key in ("total", "kept")}
    return {**first, f"{len(rest)} others": sums}
