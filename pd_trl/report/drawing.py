"""What all pictures share: their style, the figure that is written, and labels of axes. They need matplotlib."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..text.names import display_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#222222", "#D9D9D9"
_DPI = 150
# Background of a label that a line would cross.
PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    # A dollar sign in a name from data is no formula.
    "text.parse_math": False,
}


def require_matplotlib() -> None:
    """Raises `InputError` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError(
            "Pictures need matplotlib, which is not installed: `pip install 'pd_trl[report]'` (or `pip install matplotlib`)."
        )


@contextmanager
def picture(path: str | os.PathLike, size: tuple[float, float]) -> "Iterator[tuple[Figure, Axes]]":
    """A figure with one set of axes, written to `path` if the block succeeds. matplotlib's state is not changed."""
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Names may be in a script that the font lacks. They are then shown as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.add_subplot()
        # Without the library's version in the file, the same numbers give the same file.
        figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def percent_axis(axes: "Axes", which: Literal["x", "y"], label: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axis.set_label_text(label)
    axes.grid(axis=which)


def names_on(
    axes: "Axes", which: str, names: Sequence[str] | Mapping[str, Any], *, most: int = 32, **style: Any
) -> None:
    texts = list(display_names(names, most).values())
    (axes.set_xticks if which == "x" else axes.set_yticks)(range(len(texts)), texts, **style)
