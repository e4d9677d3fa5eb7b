"""
All selectors in the simulated world: how often the kept labels agree with the overall label and with the hidden aspects, beside FLOPs.

    OMP_NUM_THREADS=1 python scripts/bench_rivals.py             # seeds 11 to 13, 3,000 pairs each; a quarter of an hour of one core (estimated)
    OMP_NUM_THREADS=1 python scripts/bench_rivals.py --seeds 11 --num_pairs 1000
    OMP_NUM_THREADS=1 python scripts/bench_rivals.py --real ../shared/data --seeds 1 2 3    # real pairs, the selectors that need no policy
    OMP_NUM_THREADS=1 python scripts/bench_rivals.py --real ../shared/data --seeds 1 2 3 --proxies lm   # with heads on a language model

Proxies, a unified reward model and the policy are trained as the recipe `quickstart` trains them. The policy whose margins are read
is a DPO on a fifth of the pairs, drawn at random. No setting was chosen by these numbers.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
from datasets import Dataset
from rival_costs import costs
from transformers import AutoConfig, AutoTokenizer

from pd_trl import PDDPOConfig, PDDPOTrainer, PDFilter, policy_margins, rival_scores, validation_losses
from pd_trl.cli.main import main as pd_trl
from pd_trl.errors import InputError
from pd_trl.method.ranking import SELECTORS, random_keys
from pd_trl.pipeline.cost.shape import model_shape
from pd_trl.runs.artifacts import read_rows, write_json, write_rows
from pd_trl.text.tables import table

BUDGET, SEED_SHARE, REPEATS = 0.3, 0.2, 1
TRAINING: dict[str, Any] = {
    "num_train_epochs": 1, "learning_rate": 2e-4, "beta": 1.0, "per_device_train_batch_size": 32, "gradient_checkpointing": False,
    "lr_scheduler_type": "cosine", "warmup_steps": 5, "max_length": 256, "logging_steps": 500, "use_cpu": True, "bf16": False,
}  # fmt: skip


def scored_rows(folder: Path, seed: int, num_pairs: int) -> tuple[Dataset, str]:
    """Scored pairs of a world with every column that a selector ranks by, and the folder of its model."""
    model, done = str(folder / "world" / "model"), folder / "rivals"
    if not (folder / "score").is_dir():
        arguments = ["run", "--config", "quickstart", "--output_dir", str(folder), "--seed", str(seed)]
        arguments += ["--simulate.num_pairs", str(num_pairs), "--reward.unified", "true"]
        if pd_trl([*arguments, "--stages", "simulate,prepare,reward,score"]):
            raise SystemExit("The run failed.")
    if done.is_dir():
        return read_rows(done), model
    rows = read_rows(folder / "score" / "scored")
    policy = folder / "policy"
    first = np.flatnonzero(random_keys(rows["pair_id"][:], seed) < SEED_SHARE)
    args = PDDPOConfig(str(policy), seed=seed, save_strategy="no", report_to="none", **TRAINING)
    trainer = PDDPOTrainer(model=model, args=args, train_dataset=rows.select(first))
    trainer.train()
    rows = policy_margins(
        rows, trainer.model, model, beta=TRAINING["beta"], batch_size=64, tokenizer=trainer.processing_class
    )
    rows = rival_scores(rows)
    rows = validation_losses(rows, model, repeats=REPEATS, seed=seed, training=TRAINING, batch_size=64)
    write_rows(rows, done)
    return rows, model


def agreements(rows: Dataset, share: float = BUDGET) -> dict[str, dict[str, float | None]]:
    """
    By selector whose columns are there, the share of the kept labels that agree with the overall label and with the hidden aspects,
    and of the longer ones.
    """
    found = {}
    for selector in ("all", *SELECTORS):
        if selector != "all" and _lacks(rows, selector):
            continue
        budget = 1.0 if selector == "all" else share
        pd_filter = PDFilter(budget, selector="random" if selector == "all" else selector).fit(rows)
        numbers = pd_filter.report_.to_dict()
        unseen = numbers["unseen_labels"]
        found[selector] = {
            "overall": unseen.get("overall", {}).get("kept"),
            "hidden": unseen["other aspects"]["kept"],
            "longer": numbers["lengths"]["kept"]["chosen_longer"],
        }
    return found


def _lacks(rows: Dataset, selector: str) -> bool:
    columns = {"margin": "reward_gap_overall", "pd": "aspect"}
    return any(columns.get(name, name) not in rows.column_names for name in SELECTORS[selector].inputs)


def real_rows(data: Path, folder: Path, lm: Path, proxies: str, seed: int) -> dict[str, Dataset]:
    """Real pairs with held-out proxies, as `advise_real.py` scores them."""
    from advise_real import SETS, CellStore, scored_rows

    store = CellStore(data, folder / "cells", folds=5, lm=lm)
    return {name: rival_scores(scored_rows(store, name, seed, proxies), ["pareto"]) for name in SETS}


def flops(rows: Dataset, model: str) -> dict[str, float]:
    """By selector, its FLOPs as a share of those of DPO on all pairs."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    sample = rows.select(range(min(500, len(rows))))
    tokens = np.mean(
        [len(tokenizer(row["prompt"] + row[side])["input_ids"]) for row in sample for side in ("chosen", "rejected")]
    )
    config = AutoConfig.from_pretrained(model)
    policy, proxy = model_shape(config), model_shape(config, task="reward")
    aspects = sum(name.startswith("reward_gap_") for name in rows.column_names) - 1
    listed = costs(
        policy, policy, proxy, len(rows), 2 * float(tokens), 1.0, aspects=aspects, repeats=REPEATS,
        seed_pairs=round(SEED_SHARE * len(rows)), checkpointing=False,
    )  # fmt: skip
    seed_training = SEED_SHARE * listed[0][2]
    shares = {"random": 0.0, "length": 0.0}
    for names, what, value in listed[2:]:
        for name in names.replace(" (RAF)", "").split(", "):
            # A policy has to be trained before its margins are read: here on the seed pairs.
            reads = name in ("dcrm", "alignment_potential", "difficulty") and "training on all" not in what
            if "training on all" not in what:
                shares[name] = (value + (seed_training if reads else 0.0)) / listed[0][2]
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_rivals"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[11, 12, 13])
    parser.add_argument("--num_pairs", type=int, default=3000)
    parser.add_argument("--real", type=Path, help="Folder of the real sets, in place of the simulated world.")
    parser.add_argument(
        "--proxies", default="ngrams", choices=("ngrams", "embedding", "head", "lm"), help="Of real pairs."
    )
    parser.add_argument("--lm", type=Path, default=Path("runs/smollm2"), help="Language model of the proxies lm.")
    arguments = parser.parse_args()
    start, found = time.perf_counter(), {}
    if arguments.real:
        where = (arguments.real, arguments.output, arguments.lm, arguments.proxies)
        try:
            sets = {seed: real_rows(*where, seed) for seed in arguments.seeds}
        except InputError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        for name in sets[arguments.seeds[0]]:
            print(f"\n{name}")
            print("\n".join(table(cells_of({seed: agreements(by_name[name]) for seed, by_name in sets.items()}, {}))))
        return
    for seed in arguments.seeds:
        rows, model = scored_rows(arguments.output.absolute() / f"seed-{seed}", seed, arguments.num_pairs)
        found[seed] = agreements(rows)
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    shares = flops(rows, model)
    print("\n".join(table(cells_of(found, shares))))
    write_json(
        arguments.output / "bench_rivals.json", {"seeds": {str(k): v for k, v in found.items()}, "flops": shares}
    )


def cells_of(found: dict[int, dict[str, dict[str, float | None]]], shares: dict[str, float]) -> list[list[str]]:
    """The cells of a table of selectors, mean and standard error over seeds."""
    header = ["selector", "overall", "hidden aspects", "longer chosen", *(["FLOPs of DPO on all"] if shares else [])]
    lines = [header]
    for selector in next(iter(found.values())):
        cells = []
        for name in ("overall", "hidden", "longer"):
            known = [by[selector][name] for by in found.values() if by[selector][name] is not None]
            values = 100 * np.array(known, dtype=float)
            error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.1f}{error}" if known else "-")
        share = [f"{100 * shares[selector]:.0f} %" if selector in shares else "-"] if shares else []
        lines.append([selector, *cells, *share])
    return lines


if __name__ == "__main__":
    main()
