"""
`advise` on real pairs: 300 labelled pairs against all labels of the set.

    python scripts/advise_real.py                        # summeval and oasst1, n-gram proxies; half a minute of one core
    python scripts/advise_real.py --proxy embedding      # proxies on a frozen encoder

The scored rows are those of `bench_real.py`: each pair carries one aspect's label, and proxies trained on other prompts score it.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from datasets import Dataset
from real_data.cells import PROXIES, CellStore

from pd_trl import advise

SETS = ("summeval", "oasst1_en_validation")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def scored_rows(store: CellStore, name: str, seed: int, proxy: str) -> Dataset:
    """The preferences of a set with held-out gaps, the margin of a unified proxy and the ratings."""
    real, cell = store.real(name, seed), store.cell(name, seed, proxy, "none")
    rows = real.rows
    columns = {f"reward_gap_{aspect}": cell.gaps[:, k] for k, aspect in enumerate(real.aspects)}
    columns["delta_length"] = cell.delta_length
    if cell.margin is not None:
        columns["reward_gap_overall"] = cell.margin
    for column, values in columns.items():
        rows = rows.add_column(column, values)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=Path("runs/advise_real"), help="folder of the scored cells")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--proxy", choices=PROXIES, default="ngrams")
    parser.add_argument("--seed", type=int, default=1, help="assignment of aspects to pairs")
    arguments = parser.parse_args()
    for name in arguments.sets:
        rows = scored_rows(
            CellStore(arguments.data, arguments.output / "cells", folds=5), name, arguments.seed, arguments.proxy
        )
        print(f"## {name}, {arguments.proxy}\n\n{advise(rows, seed=arguments.seed)}\n")
        every = advise(rows, max_pairs=len(rows), seed=arguments.seed)
        print(f"By all {every.labelled} labels: {', '.join(every.codes)}.")
        for rival in every.budgets[0].effects:
            gains = [f"{entry.budget:g}: {100 * entry.effects[rival].estimate:+.1f}" for entry in every.budgets]
            print(f"PD - {rival}: {', '.join(gains)}")
        print()


if __name__ == "__main__":
    main()
