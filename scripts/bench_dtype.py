"""
bfloat16 against float32 on this machine: seconds of scoring and of greedy outputs, and what rounding does to PD and to what is kept.

    python scripts/smollm2.py --output_dir runs/smollm2
    python scripts/bench_dtype.py                    # heads on SmolLM2, trained on other prompts; summeval

A CPU that does not compute in bfloat16 (`--dtype auto` says float32 there) is several times slower in it: its rounding is the same.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
from bench_real import DATA, MORE_SETS, SETS
from bench_speed import cpu_name
from datasets import Dataset
from real_data.cells import CellStore
from real_data.handling import NONE
from real_data.lm_heads import LanguageModelProxies
from real_data.settings import CHOSEN_ON_SEED, LM
from scipy.stats import spearmanr

from pd_trl import PDFilter, generate_outputs, score_pairs
from pd_trl.errors import InputError
from pd_trl.generation.settings import DecodingConfig
from pd_trl.models.loading import has_native_bfloat16
from pd_trl.text.tables import table

BUDGETS = (0.1, 0.3, 0.5)
TYPES = ("float32", "bfloat16")


def heads_of(store: CellStore, name: str, pairs: int, folder: Path) -> Dataset:
    """Saves heads that are trained outside the first fold of prompts, and returns pairs of that fold, whole prompts."""
    real = store.real(name, CHOSEN_ON_SEED)
    proxies = LanguageModelProxies(real, store.lm, *store.lm_states(real), LM)
    train = real.training_rows(0)[0]
    model, _ = proxies.train(train, [real.aspects[k] for k in real.own[train]], NONE, 0.0)
    model.save_pretrained(folder)
    store.lm.tokenizer.save_pretrained(folder)
    held_out = np.flatnonzero(real.folds == 0)
    return real.rows.select(held_out[np.argsort(real.prompts[held_out], kind="stable")][:pairs])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `work`, and the seconds of the CPU that it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def kept(rows: Dataset, budget: float) -> set[str]:
    """Ids of the pairs that PD keeps."""
    return set(PDFilter(budget)(rows)["pair_id"])


def divergences(rows: Dataset) -> dict[str, float]:
    """PD of each pair."""
    every = PDFilter(1.0)(rows)
    return dict(zip(every["pair_id"], every["pd"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument("--set", default="summeval", choices=(*SETS, *MORE_SETS), help="set (default summeval)")
    parser.add_argument("--lm", type=Path, default=Path("runs/smollm2"), help="folder of the language model")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench_real"), help="folder of bench_real.py's states"
    )
    parser.add_argument("--pairs", type=int, default=300, help="pairs to score (default 300)")
    parser.add_argument("--prompts", type=int, default=8, help="prompts to answer (default 8)")
    options = parser.parse_args()
    try:
        if min(options.pairs, options.prompts) < 1:
            raise InputError("--pairs and --prompts must be 1 at least.")
        measure(options)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def measure(options: argparse.Namespace) -> None:
    """Prints both tables, and the numbers as json."""
    store = CellStore(options.data, options.output / "cells", 5, None, options.lm)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "heads"
        rows = heads_of(store, options.set, options.pairs, folder)
        prompts = [f"Name {n} things that are round." for n in range(2, 2 + options.prompts)]
        scored, outputs, lines = {}, {}, [["what", *TYPES, "float32 / bfloat16"]]
        seconds: dict[str, list[float]] = {"scoring, CPU seconds": [], "outputs, CPU seconds": []}
        for kind in TYPES:
            scored[kind], took = timed(lambda kind=kind: score_pairs(rows, str(folder), dtype=kind, chat=True))
            seconds["scoring, CPU seconds"].append(took)
            outputs[kind], took = timed(
                lambda kind=kind: generate_outputs(
                    str(options.lm),
                    prompts,
                    output_dir=Path(place) / kind,
                    config=DecodingConfig(max_new_tokens=24),
                    dtype=kind,
                )
            )
            seconds["outputs, CPU seconds"].append(took)
    lines += [[what, *(f"{v:.1f}" for v in both), f"{both[0] / both[1]:.2f}×"] for what, both in seconds.items()]
    print(f"{cpu_name()}, {platform.machine()}, bfloat16 of its own: {'yes' if has_native_bfloat16() else 'no'}\n")
    print("\n".join(table(lines)))
    one, other = (divergences(scored[kind]) for kind in TYPES)
    ids = sorted(one)
    found = {f"Spearman of PD, {len(ids)} pairs": spearmanr([one[i] for i in ids], [other[i] for i in ids]).statistic}
    for aspect in (name for name in scored["float32"].column_names if name.startswith("reward_gap_")):
        found[f"Spearman of {aspect}"] = spearmanr(*(scored[kind][aspect][:] for kind in TYPES)).statistic
    for budget in BUDGETS:
        sets = [kept(scored[kind], budget) for kind in TYPES]
        found[f"overlap of what {budget:.0%} keep"] = len(sets[0] & sets[1]) / len(sets[0])
    same = [a["output"] == b["output"] for a, b in zip(*(outputs[kind] for kind in TYPES), strict=True)]
    found["greedy outputs of 24 tokens that are equal"] = float(np.mean(same))
    print("\n" + "\n".join(table([["what", "value"], *([name, f"{value:.3f}"] for name, value in found.items())])))
    print(json.dumps({"seconds": seconds, **{name: float(value) for name, value in found.items()}}))


if __name__ == "__main__":
    main()
