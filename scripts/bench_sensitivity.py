"""
How much PD's gain on real pairs depends on its settings: budget, γ, number of aspects, training pairs of the proxies, length handling.

    python scripts/bench_sensitivity.py                    # summeval and oasst1 with heads on the model of scripts/smollm2.py
    python scripts/bench_sensitivity.py --seeds 1 --handlings none --train_shares none     # without training anything but the proxies
    python scripts/bench_sensitivity.py --proxies ngrams --handlings none --max_prompts 50 # a quick look

The protocol is bench_real.py's, and so are the cells in OUTPUT/cells, which both share. Budget, γ and the number of aspects need no
training; each share and each length handling trains proxies anew. Writes sensitivity.json and sensitivity.md.
"""

import argparse
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from bench_real import DATA, MORE_SETS, SETS, check_options, versions
from real_data.cells import PROXIES, CellStore
from real_data.handling import HANDLINGS as KNOWN_HANDLINGS
from real_data.sensitivity import HANDLINGS, TRAIN_SHARES, set_sensitivity
from real_data.tables import difference, markdown, share

from pd_trl.errors import InputError
from pd_trl.runs.artifacts import write_json

MEASURES = ("hidden", "hidden_by_length", "overall")
NAMES = {"hidden": "hidden", "hidden_by_length": "equal lengths", "overall": "overall"}


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench_real"), help="folder (default runs/bench_real)"
    )
    parser.add_argument("--sets", nargs="+", default=["summeval", "oasst1_en_validation"], choices=(*SETS, *MORE_SETS),
                        help="sets (default summeval oasst1_en_validation)")  # fmt: skip
    parser.add_argument("--proxies", default="lm", choices=PROXIES, help="kind of the proxies (default lm)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], help="assignments of aspects (default 1 2 3)"
    )
    parser.add_argument("--handlings", nargs="+", default=list(HANDLINGS), choices=KNOWN_HANDLINGS, metavar="NAME",
                        help=f"length handlings (default {', '.join(HANDLINGS)}); `none` for none of them")  # fmt: skip
    parser.add_argument("--train_shares", nargs="+", default=[f"{s:g}" for s in TRAIN_SHARES], metavar="SHARE",
                        help="shares of the labels that proxies train on (default 0.1 0.25 0.5); `none` for none")  # fmt: skip
    parser.add_argument("--folds", type=int, default=5, help="folds of prompts (default 5)")
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples (default 2000)")
    parser.add_argument("--max_prompts", type=int, help="use the first prompts of each set only")
    parser.add_argument(
        "--lm", type=Path, default=Path("runs/smollm2"), help="folder of the language model (default runs/smollm2)"
    )
    return parser


def shares_of(words: list[str]) -> list[float]:
    """The shares that `--train_shares` names."""
    if words == ["none"]:
        return []
    try:
        shares = [float(word) for word in words]
    except ValueError:
        shares = [0.0]
    if not all(0 < value < 1 for value in shares):
        raise InputError(f"--train_shares takes numbers between 0 and 1, or none, got {' '.join(words)}.")
    return shares


def table_of(found: dict[str, Any]) -> list[str]:
    """The settings of one set, in points with 95 % intervals."""
    measures = [m for m in MEASURES if m in found["rows"][0]]
    header = ["", "setting", *(f"{NAMES[m]}: kept - all" for m in measures)]
    rows = [[*header, "hidden: minus the reference", "chosen longer, % of the kept"]]
    for entry in found["rows"]:
        cells = [entry["part"], entry["setting"], *(difference(entry[m]["gain"]) for m in measures)]
        change = entry["hidden"].get("from reference")
        rows.append(
            [
                *cells,
                "" if change is None else difference(change),
                share(entry["chosen_longer"]) if "chosen_longer" in entry else "",
            ]
        )
    return markdown(rows)


def main() -> None:
    options = make_parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("real_data").setLevel(logging.INFO)
    start, command = time.perf_counter(), shlex.join(["python", *sys.argv])
    try:
        check_options(options)
        shares = shares_of(options.train_shares)
        store = CellStore(options.data, options.output / "cells", options.folds, options.max_prompts, options.lm)
        handlings = [handling for handling in options.handlings if handling != "none"]
        found = [
            set_sensitivity(store, name, options.proxies, options.seeds, handlings, shares, options.resamples)
            for name in options.sets
        ]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    write_json(options.output / "sensitivity.json", {"command": command, "versions": versions(), "results": found})
    lines = [f"`{command}`"]
    for result in found:
        lines += ["", f"## {result['set']}, proxies: {result['proxy']}", "", *table_of(result)]
    (options.output / "sensitivity.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    print(f"{options.output / 'sensitivity.md'} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
