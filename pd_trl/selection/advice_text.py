"""An advice as text."""

from collections.abc import Mapping
from typing import Any

from ..text.names import display_names
from ..text.tables import percent, table

_COLUMNS = {"random": "PD - random", "raf": "PD - RAF", "same length": "PD - same length"}


def render(advice: Mapping[str, Any]) -> str:
    """The advice of [`Advice.to_dict`] as text."""
    label = "the overall label" if advice["reference"] == "overall" else "the mean of the ratings"
    lines = [_answer(advice), *advice["reasons"], ""]
    lines += [
        f"{advice['labelled']} labelled pairs of {advice['prompts']} prompts, of {advice['total']} scored pairs; "
        f"{percent(advice['agreement'])} of their labels agree with {label}"
        + (f" ({advice['ties']} more pairs are tied there)." if advice["ties"] else ".")
    ]
    names = [name for name in _COLUMNS if any(name in entry["effects"] for entry in advice["budgets"])]
    if advice["budgets"]:
        rows = [["budget", "kept", "labelled", "agree", *(_COLUMNS[name] for name in names)]]
        rows += [
            [
                f"{entry['budget']:g}", str(entry["kept"]), str(entry["labelled"]), percent(entry["agreement"]),
                *(_interval(entry["effects"].get(name)) for name in names),
            ]
            for entry in advice["budgets"]
        ]  # fmt: skip
        lines += ["", *table(rows)]
    if advice["aspects"]:
        shown = display_names(advice["aspects"])
        rows = [["gap agrees with the reference", "pairs", "share", "standard error"]]
        rows += [
            [shown[name], str(entry["pairs"]), percent(entry["share"]), percent(entry["se"])]
            for name, entry in advice["aspects"].items()
        ]
        lines += ["", *table(rows)]
    return "\n".join(lines)


def _answer(advice: Mapping[str, Any]) -> str:
    if advice["select"]:
        return f"SELECT: try a budget of {advice['budget']:g}."
    return "DO NOT SELECT BY PD." if "raf" in advice["codes"] else "DO NOT SELECT."


def _interval(effect: Mapping[str, float] | None) -> str:
    if effect is None:
        return "-"
    return f"{100 * effect['estimate']:+.1f} [{100 * effect['low']:+.1f}, {100 * effect['high']:+.1f}]"
