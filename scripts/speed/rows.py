"""CPU seconds and peak memory of commands by the number of rows, as `scripts/bench_select.py` measures them."""

import tempfile
from pathlib import Path
from typing import Any

from .. import bench_select

# Most CPU seconds and most MB of a million rows.
BARS = {"PDFilter, report read": (1.0, None), "select": (15.0, 1000), "report": (10.0, None), "prepare": (30.0, 1000)}


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """One row for each command and bar."""
    count = 50_000 if quick else 1_000_000
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_select.write_data(folder, count)
        selected = folder / "selected"
        bench_select.measured("select", bench_select.ROOT, folder, selected, selected)
        for number, (part, (seconds, megabytes)) in enumerate(BARS.items()):
            took, peak = bench_select.measured(part, bench_select.ROOT, folder, folder / f"out-{number}", selected)
            bars = [("CPU time", took, "s", seconds), ("peak memory", peak, "MB", megabytes)]
            found += [
                {"what": f"`{part}`, {count:,} rows: {what}", "against": "-", "value": value, "unit": unit,
                 "bar": f"at most {bar:g} {unit} at 1 M", "met": value <= bar, "details": {}}
                for what, value, unit, bar in bars if bar is not None
            ]  # fmt: skip
    return found
