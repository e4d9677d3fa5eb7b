"""Runs a benchmark over cells and ablations, in several processes, going on where an earlier run stopped."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...runs.artifacts import digest_of, library_versions, read_json, write_json
from .ablations import ABLATIONS, Variant
from .agreement import agreement
from .cell import Cell
from .measures import detection_auc, measure
from .policies import answers_of_model, describe_pairs, run_row
from .rows import PD, ROWS, Row, Selection, decide
from .settings import NO_LENGTH, QUOTED, BenchSettings, CellSettings

# What a policy is compared with; OVA's win rate against itself is a half.
_BASELINES = ("SFT", "OVA")


@dataclass(frozen=True)
class Unit:
    """
    What one process does at a time.

    Args:
        name (`str`): Name shown to the user.
        settings ([`CellSettings`]): The cell.
        rows (`tuple` of [`Row`]): Policies to train.
        detectors (`tuple` of `str`): Selections whose PD is measured as a detector of conflicts.
    """

    name: str
    settings: CellSettings
    rows: tuple[Row, ...]
    detectors: tuple[str, ...] = ()

    def key(self, bench: BenchSettings) -> str:
        """Digest of what decides the unit's numbers."""
        rows = [(row.name, row.key(bench.budget)) for row in self.rows]
        return digest_of([asdict(self.settings), rows, self.detectors, bench.budget, bench.reward, bench.dpo])


DETECTORS = {
    "PD (ours)": PD,
    "PD (quoted)": Selection(proxy=QUOTED),
    "PD (nl)": Selection(proxy=NO_LENGTH),
    "PD (rati.)": Selection(source="ratings"),
}


def table_units(bench: BenchSettings, rows: Iterable[str]) -> list[Unit]:
    """A unit for each cell of the table."""
    chosen = tuple(ROWS[name] for name in rows)
    return [Unit(f"seed {c.seed}, conflict {c.conflict:g}", c, chosen, tuple(DETECTORS)) for c in bench.cells()]


def ablation_units(bench: BenchSettings, names: Iterable[str], conflict: float) -> dict[str, list[Unit]]:
    """The units of each ablation, all seeds of a variant next to each other."""
    return {
        name: [
            _ablation_unit(bench, name, variant, conflict, seed) for seed in bench.seeds for variant in ABLATIONS[name]
        ]
        for name in names
    }


def _ablation_unit(bench: BenchSettings, name: str, variant: Variant, conflict: float, seed: int) -> Unit:
    settings = CellSettings(seed, **{"conflict": conflict, **bench.world, **variant.world})
    return Unit(f"{name}: {variant.label}, seed {seed}", settings, variant.rows, ("PD (ours)",))


def run_unit(unit: Unit, bench: BenchSettings, root: Path) -> dict[str, Any]:
    """The numbers of a unit: those of each row by its name, and the AUC of PD as a detector of conflicts."""
    cell = Cell(unit.settings, bench, root)
    records = {"SFT": answers_of_model(cell)}
    records |= {row.name: run_row(cell, row) for row in unit.rows}
    baselines = {name: records[name] for name in _BASELINES if name in records}
    numbers: dict[str, Any] = {
        "settings": asdict(unit.settings),
        "conflict": float(cell.conflicts.mean()),
        "rows": {name: measure(record, baselines) for name, record in records.items()},
        "detection": {},
    }
    by_name = {row.name: row.selection for row in unit.rows if row.selection is not None}
    for name in unit.detectors:
        numbers["detection"][name] = _detection(cell, by_name.get(name) or DETECTORS[name])
    return numbers


def _detection(cell: Cell, selection: Selection) -> dict[str, Any]:
    decided, _ = decide(cell, selection)
    kept = decided.select(np.flatnonzero(decided["pd_kept"]))
    column = selection.settings.get("pd_column", "pd")
    longer = describe_pairs(cell, cell.preferences)["chosen_longer"]
    return {
        "auc": detection_auc(decided[column], cell.conflicts),
        "chosen_longer_before": longer,
        **describe_pairs(cell, kept),
        **(agreement(cell, selection) if selection.proxy.heads else {}),
    }


def run_units(
    units: list[Unit], bench: BenchSettings, root: Path, jobs: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """
    Runs units in `jobs` processes; those that an earlier run finished are read.

    Returns:
        `dict`: numbers by [`Unit.key`]; `{"error": …}` for a unit that cannot be run.
    """
    results: dict[str, dict[str, Any]] = {}
    waiting: list[Unit] = []
    for unit in units:
        path = _path_of(unit, bench, root)
        if path.is_file():
            results[unit.key(bench)] = read_json(path)
        else:
            waiting.append(unit)
    if results:
        say(f"{len(results)} of {len(units)} units are done already.")
    with _workers(jobs, root) as pool:
        futures: dict[Future, Unit] = {pool.submit(run_unit, unit, bench, root): unit for unit in waiting}
        for count, future in enumerate(as_completed(futures), start=len(results) + 1):
            unit = futures[future]
            try:
                numbers = future.result()
                write_json(_path_of(unit, bench, root), numbers)
            except InputError as error:
                numbers = {"error": str(error)}
            results[unit.key(bench)] = numbers
            say(f"[{count}/{len(units)}] {unit.name}: {numbers.get('error', 'done')}")
    return results


def _path_of(unit: Unit, bench: BenchSettings, root: Path) -> Path:
    return root / "units" / f"{unit.key(bench)}.json"


@contextlib.contextmanager
def _workers(jobs: int, root: Path) -> Iterator[ProcessPoolExecutor]:
    """Processes with one thread each: models this small are slower with more."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    root.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_quiet,
        initargs=(str(root / "workers.log"),),
    )
    try:
        yield pool
    except BaseException:
        # After `shutdown` the pool no longer knows its processes, and Python waits for them when it ends.
        processes = list((pool._processes or {}).values())
        for process in processes:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _quiet(log: str) -> None:
    """Sends what the libraries of a worker say to a file, and ends the worker when the process that started it is gone."""
    # Ctrl-C reaches the whole group; the process that started the workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.disable(logging.INFO)
    import datasets
    import torch

    datasets.disable_progress_bars()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # A killed run is started again, and the files of a worker that goes on would be in its way.
        os._exit(1)


def gather(
    bench: BenchSettings, tables: list[Unit], ablations: dict[str, list[Unit]], results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """All numbers of a benchmark in one json: each seed's, by cell and row; versions; settings."""
    return {
        "settings": asdict(bench),
        "versions": library_versions(),
        "table": [results[unit.key(bench)] for unit in tables],
        "ablations": {
            name: [
                {
                    "label": variant.label,
                    "seed": unit.settings.seed,
                    "against": variant.against,
                    "aspect": variant.aspect,
                    **results[unit.key(bench)],
                }
                for unit, variant in zip(units, _variants(name, bench), strict=True)
            ]
            for name, units in ablations.items()
        },
    }


def _variants(name: str, bench: BenchSettings) -> list[Variant]:
    return [variant for _ in bench.seeds for variant in ABLATIONS[name]]
