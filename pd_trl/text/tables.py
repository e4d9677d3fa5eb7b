"""Text for people: tables, numbers, and what a terminal may show."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` without control characters: names and texts of data must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first row is the header, the first column is left-aligned, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for n, row in enumerate(rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
        if n == 0:
            lines.append("  ".join("-" * width for width in widths))
    return lines


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash for a missing one."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage, or a dash for a missing one."""
    return "-" if value is None else f"{100 * value:.1f} %"
