"""
Policies on real pairs: DPO of a language model on all pairs, random ones, and those that selections keep, measured by the implicit
reward on held-out prompts. Each pair carries the label of one aspect; proxies, assignments and folds are those of bench_real.py.

    python scripts/smollm2.py --output_dir runs/smollm2
    python scripts/bench_policy.py --quick               # one set, one seed, few steps: shows that everything runs
    python scripts/bench_policy.py --dry_run             # cells that are left, and hours from a measured speed
    python scripts/bench_policy.py --choose              # learning rate and beta, under an assignment that is not reported
    python scripts/bench_policy.py --sets truthfulqa_pairs --seeds 1 2 3

A policy that is finished is a json in OUTPUT/cells; started again, the same command goes on. Writes bench_policy.json and .md.
"""

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from real_data.cells import CellStore
from real_data.settings import LM
from real_data.tables import markdown
from real_policy.cells import PolicyBench
from real_policy.costs import dry_run
from real_policy.generation import generation_table, prompts_of
from real_policy.intervals import interval_lines
from real_policy.pairs import ARMS
from real_policy.rivals import rivals_table
from real_policy.settings import BETAS, CHOSEN_ON_SEED, LEARNING_RATES, QUICK, PolicySettings
from real_policy.tables import points, report
from real_policy.training import Reference

from pd_trl.errors import InputError
from pd_trl.runs.artifacts import library_versions, write_json

SETS = ("truthfulqa_pairs", "hh_rlhf_test", "oasst1_en_validation", "summeval", "haluquestqa", "hellobench_chat")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench_policy"), help="folder (default runs/bench_policy)"
    )
    parser.add_argument("--lm", type=Path, default=Path("runs/smollm2"),
                        help="folder of the language model: policies start from it, proxies are heads on it (default runs/smollm2)")  # fmt: skip
    parser.add_argument("--sets", nargs="+", default=[SETS[0]], choices=SETS, help=f"sets (default {SETS[0]})")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="assignments (default 1 2 3)")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=list(ARMS),
        choices=ARMS,
        metavar="ARM",
        help=f"rows (default all): {', '.join(ARMS)}",
    )
    parser.add_argument("--folds", type=int, default=5, help="folds of prompts (default 5)")
    defaults = PolicySettings()
    for name, value in defaults.as_dict().items():
        parser.add_argument(
            f"--{name}",
            type=type(value),
            help=f"see PolicySettings (default {value:g}; {getattr(QUICK, name):g} when quick)",
        )
    parser.add_argument(
        "--generate", type=int, default=0, metavar="N",
        help="let policies answer this many prompts of prompts.parquet too, rated by heads trained on the held-out prompts (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--rivals", action="store_true",
        help="compare what selectors of other papers keep of the pairs, too, with the margins of RAND's policy",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one seed and small sizes")
    parser.add_argument(
        "--dry_run", action="store_true", help="only show the cells that are left and the hours they take"
    )
    parser.add_argument("--choose", action="store_true", help="only show how learning rate and beta were chosen")
    return parser


def settings_of(options: argparse.Namespace) -> PolicySettings:
    """The settings that the command line asks for."""
    base = QUICK if options.quick else PolicySettings()
    given = {name: getattr(options, name) for name in base.as_dict() if getattr(options, name) is not None}
    found = base.changed(**given)
    if (
        not 0 < found.budget < 1
        or min(found.pairs, found.held_out, found.batch_size, found.layers, found.per_prompt) < 1
    ):
        raise InputError(
            "--budget must be between 0 and 1, and the numbers of pairs, layers and the batch at least 1."
        )
    for flag in ("generate", "rivals"):
        if getattr(options, flag) and not found.lora_rank:
            raise InputError(f"--{flag} needs the adapters of the policies, which --lora_rank 0 does not have.")
    return found


def bench_of(options: argparse.Namespace) -> PolicyBench:
    """The benchmark of a run."""
    store = CellStore(options.data, options.output / "proxies", options.folds, None, options.lm, LM["layers"])
    reference_folder = store.lm.folder  # says how to make the model where it is missing
    return PolicyBench(store, Reference(reference_folder, options.output), options.output)


def choose(bench: PolicyBench, options: argparse.Namespace, settings: PolicySettings) -> None:
    """Prints and writes how ALL does with each learning rate and beta, on the labels that held-out pairs carry."""
    tried = []
    rows = [["set", "learning rate", "beta", "steps", "carried labels", "first loss", "last loss", "margin, nats"]]
    for name in options.sets:
        for beta in BETAS:
            for rate in LEARNING_RATES:
                record = bench.cell(
                    name, CHOSEN_ON_SEED, ARMS["ALL, one epoch"], settings.changed(learning_rate=rate, beta=beta)
                )
                training, measured = record["training"], record["measures"]
                tried.append({"set": name, "learning_rate": rate, "beta": beta, **training, "own": measured["own"]})
                rows.append([name, f"{rate:g}", f"{beta:g}", str(training["steps"]), points([measured["own"]])]
                            + [f"{v:.3f}" for v in (training["first_loss"], training["last_loss"], measured["margin"])])  # fmt: skip
                content = {"seed": CHOSEN_ON_SEED, "versions": library_versions(), "tried": tried}
                write_json(options.output / "choice.json", content)
    print("\n".join(markdown(rows)))


def run(bench: PolicyBench, options: argparse.Namespace, settings: PolicySettings) -> None:
    """Runs what is left and writes the tables after each cell, so that a stopped run leaves what it has."""
    cells, left_out = bench.grid(options.sets, options.seeds, options.arms, settings)
    records: list[dict[str, Any]] = []
    for done, (name, seed, arm) in enumerate(cells, 1):
        records.append(bench.cell(name, seed, arm, settings))
        missing = [f"{len(cells) - done} of {len(cells)} cells are still to run."] if done < len(cells) else []
        found = {
            "command": shlex.join(["python", *sys.argv]), "model": options.lm.name, "settings": settings.as_dict(),
            "versions": library_versions(), "left_out": left_out, "missing": missing, "records": records,
        }  # fmt: skip
        write_json(options.output / "bench_policy.json", found)
        (options.output / "bench_policy.md").write_text(report(found), encoding="utf-8")
    lines = interval_lines(bench, records, settings)
    if options.generate:
        more, found["answers"] = generation_table(
            bench, cells, settings, prompts_of(options.data / "prompts.parquet", options.generate, bench)
        )
        lines += more
    if options.rivals:
        more, found["rivals"] = rivals_table(bench, options.sets, options.seeds, settings)
        lines += more
    write_json(options.output / "bench_policy.json", found)
    (options.output / "bench_policy.md").write_text("\n".join([report(found).rstrip(), *lines, ""]), encoding="utf-8")
    print(options.output / "bench_policy.md")


def main() -> None:
    options = make_parser().parse_args()
    if options.quick:
        options.seeds = options.seeds[:1]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("real_policy").setLevel(logging.INFO)
    logging.getLogger("trl").setLevel(logging.ERROR)  # warns at each model in memory
    try:
        missing = [name for name in options.sets if not (options.data / f"{name}.parquet").is_file()]
        if missing:
            raise InputError(f"{options.data} has no {', '.join(missing)} (parquet): pass the folder as --data.")
        if CHOSEN_ON_SEED in options.seeds:
            raise InputError(f"Learning rate and beta were chosen on seed {CHOSEN_ON_SEED}: report others.")
        settings = settings_of(options)
        bench = bench_of(options)
        if options.choose:
            return choose(bench, options, settings)
        if options.dry_run:
            return print("\n".join(dry_run(bench, options.sets, options.seeds, options.arms, settings)))
        run(bench, options, settings)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
