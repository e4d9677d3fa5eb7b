"""
Speed: every ratio of the table of docs/speed.md in one run on one machine, each against its baseline, whose code stands beside it in
scripts/speed. Medians of five rounds or more in which the two sides take turns.

    python scripts/bench_speed.py                    # all, about 26 minutes on 2 quiet cores, 4 GB of disk
    python scripts/bench_speed.py --only scoring processes
    python scripts/bench_speed.py --quick            # small sizes, to see that it runs: not for the table
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PARTS = (
    "scoring",
    "processes",
    "ray_overhead",
    "client",
    "rows",
    "select_in_memory",
    "select_out_of_core",
    "train_steps",
)
# Parts that need more than the package itself, and the extra that brings it.
NEEDED = {"ray_overhead": ("ray", "ray"), "client": ("openai", "alpaca")}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else cpu_name(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "python": platform.python_version(), "system": platform.platform(),
    }  # fmt: skip


def cpu_name() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | against | measured | bar | met |", "|---|---|---|---|---|"]
    for row in rows:
        value = f"{row['ratio']:.2f}×" if "ratio" in row else f"{row['value']:.3g} {row['unit']}"
        lines.append(
            f"| {row['what']} | {row['against']} | {value} | {row['bar']} | {'yes' if row['met'] else 'no'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes the json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--output", default="bench_speed.json", help="where the numbers go (default bench_speed.json)")
    options = parser.parse_args()

    import datasets
    import transformers

    from pd_trl.runs.artifacts import library_versions

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    rows: list[dict[str, Any]] = []
    for part in options.only:
        module, extra = NEEDED.get(part, ("pd_trl", ""))
        if importlib.util.find_spec(module) is None:
            print(f'{part}: left out, it needs `pip install "pd_trl[{extra}]"`', file=sys.stderr)
            continue
        start = time.perf_counter()
        found = importlib.import_module(f"scripts.speed.{part}").measure(options.quick)
        print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        rows += [{"part": part, **row} for row in found]
        # What a part found is kept when a later one fails.
        content = {"quick": options.quick, "machine": machine(), "versions": library_versions(), "rows": rows}
        Path(options.output).write_text(json.dumps(content, indent=1) + "\n")
    print(as_table(rows))
    print(f"\nWritten to {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
