"""Stage `bench`: the paper's table, its ablations and their pictures, in a simulated world with known truth."""

import logging
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import read_json, write_json
from ...runs.stage_folders import StageResult, held_folder, owned_folder
from ...text.tables import printable
from .arguments import argument, listed

logger = logging.getLogger(__name__)


@dataclass
class BenchArguments:
    """Arguments of `pd-trl bench`."""

    output_dir: str = argument("bench", "Folder of the result. Finished parts are not computed again.")
    quick: bool = argument(False, "A small table: one seed, one level of conflict, half the pairs, the main rows.")
    rows: str | None = argument(None, "Rows of the table, separated by semicolons. All where unset.")
    ablations: str = argument("none", "none, all, or names of ablations separated by semicolons.")
    ablations_only: bool = argument(False, "Run the ablations only.")
    seeds: list[str] | str = argument(["11", "12", "13"], "Seeds.")
    conflicts: list[str] | str = argument(["0.1", "0.2", "0.3"], "Levels of conflict.")
    num_pairs: int = argument(6000, "Pairs of a cell of the table; ablations have half as many.")
    jobs: int = argument(2, "Number of processes, of one thread each.")
    dry_run: bool = argument(False, "Show the plan and compute nothing.")


# Ablations vary one thing at a time, at the level of conflict where selection matters most.
_ABLATION_CONFLICT = 0.3


@held_folder
def run_bench(arguments: BenchArguments) -> StageResult:
    """Writes `results.json`, `tables.md` and `figures/`: every row of the paper's table in a world whose truth is known."""
    from ...lab.bench.run import ablation_units, gather, run_units, table_units

    table, small, rows, ablations = _plan(arguments)
    tables = [] if arguments.ablations_only else table_units(table, rows)
    by_name = ablation_units(small, ablations, _ABLATION_CONFLICT)
    units = [(unit, table) for unit in tables] + [(unit, small) for part in by_name.values() for unit in part]
    counts = {"cells": len(tables), "ablation runs": len(units) - len(tables)}
    if arguments.dry_run:
        lines = [f"rows: {'; '.join(rows)}", *(unit.name for unit, _ in units)]
        return StageResult("bench (dry run)", arguments.output_dir, counts, lines)
    root = Path(arguments.output_dir)
    start = time.perf_counter()
    with owned_folder("bench", root, overwrite=False):
        results: dict[str, dict[str, Any]] = {}
        for settings, part in ((table, tables), (small, [unit for units in by_name.values() for unit in units])):
            unique = list({unit.key(settings): unit for unit in part}.values())
            results |= run_units(unique, settings, root, arguments.jobs, _say)
        seconds = _total_seconds(root, time.perf_counter() - start)
        everything = {
            "command": shlex.join([_program(), *sys.argv[1:]]),
            "seconds": seconds,
            **gather(table, tables, {}, results),
            "ablation_settings": gather(small, [], {}, results)["settings"],
            "ablations": gather(small, [], by_name, results)["ablations"],
        }
        write_json(root / "results.json", everything)
        lines = _tables(everything, table, root)
        _pictures(everything, table, root)
    return StageResult("bench", arguments.output_dir, counts, lines)


def _program() -> str:
    """`pd-trl`, or the script that was started."""
    started = Path(sys.argv[0]).name
    return f"scripts/{started}" if started.startswith("bench_") else "pd-trl"


def _plan(arguments: BenchArguments) -> tuple[Any, Any, list[str], list[str]]:
    """Settings of the table and of the ablations, and the names of their rows and ablations."""
    from ...lab.bench.ablations import ABLATIONS
    from ...lab.bench.rows import QUICK_ROWS, ROWS
    from ...lab.bench.settings import FULL, QUICK

    seeds = tuple(_as_seed(text) for text in listed(arguments.seeds))
    conflicts = tuple(_as_number(text, "conflicts") for text in listed(arguments.conflicts))
    if arguments.jobs < 1 or arguments.num_pairs < 300:
        raise InputError(
            f"`jobs` must be at least 1 and `num_pairs` at least 300, got {arguments.jobs} and {arguments.num_pairs}."
        )
    half = {**QUICK.world, "num_pairs": arguments.num_pairs // 2}
    full = replace(FULL, seeds=seeds, conflicts=conflicts, world={"num_pairs": arguments.num_pairs})
    rows = _names(arguments.rows, QUICK_ROWS if arguments.quick else tuple(ROWS), ROWS, "rows")
    if not {"PD (ours)", "ALL"} <= set(rows):
        raise InputError("`rows` must hold 'PD (ours)' and 'ALL', which the others are compared with.")
    wanted = None if arguments.ablations == "all" else "" if arguments.ablations == "none" else arguments.ablations
    ablations = [] if wanted == "" else _names(wanted, tuple(ABLATIONS), ABLATIONS, "ablations")
    table = replace(QUICK, world=half) if arguments.quick else full
    return table, replace(full, world=half), rows, ablations


def _names(text: str | None, default: tuple[str, ...], known: Any, what: str) -> list[str]:
    names = list(default) if text is None else [part.strip() for part in text.split(";") if part.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"Unknown {what}: {', '.join(unknown) or text!r}. Choose from: {'; '.join(known)}.")
    return names


def _as_seed(text: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"`seeds` must be whole numbers of at least 0, got {text!r}.")
    return int(text)


def _as_number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"`{what}` must be numbers, got {text!r}.") from None


def _say(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()


def _total_seconds(root: Path, seconds: float) -> float:
    """Seconds of all runs that went on with this folder."""
    path = root / "seconds.json"
    before = read_json(path)["seconds"] if path.is_file() else 0.0
    write_json(path, {"seconds": round(before + seconds, 1)})
    return float(round(before + seconds, 1))


def _tables(results: dict[str, Any], bench: Any, root: Path) -> list[str]:
    from ...lab.bench import ablation_tables, tables

    parts = []
    if results["table"]:
        parts += [
            "## Gold score",
            tables.gold_table(results["table"]),
            "## Orderings",
            tables.ordering_table(results["table"]),
        ]
        parts += ["## Detection of conflicts", tables.detection_table(results["table"])]
        for level in bench.conflicts:
            parts += [f"## All columns at {100 * level:g} % conflict", tables.full_table(results["table"], level)]
    for name, entries in results["ablations"].items():
        parts += [f"## Ablation: {name}", ablation_tables.ablation_table(entries)]
        if differences := ablation_tables.difference_table(entries):
            parts += ["Differences within a seed:", differences]
    text = "\n\n".join([f"`{results['command']}`", *parts]) + "\n"
    (root / "tables.md").write_text(text, encoding="utf-8")
    return "\n\n".join(parts[:6]).splitlines()


def _pictures(results: dict[str, Any], bench: Any, root: Path) -> None:
    from ...lab.bench.figures import draw

    try:
        drawn = draw(results, bench, root, root / "figures")
    except InputError as error:
        # The numbers are complete; pictures need a library that may be missing.
        logger.warning("No pictures: %s", error)
        return
    _say("Pictures: " + ", ".join(str(path) for path in drawn))
