#!/usr/bin/env python
"""
Scoring on Ray: the same rows and scores as one process, whatever dies; what Ray costs; how long a worker takes to start. What the
process that generates on Ray does and holds.

    python scripts/bench_ray.py --quick
    python scripts/bench_ray.py --trials 10 --num_pairs 200000 --num_rows 200000 2000000 20000000

The cluster has three nodes of four logical CPUs each on this machine (`ray.cluster_utils.Cluster`). Needs `pip install "pd_trl[ray]"`.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from pd_trl.text.tables import table  # noqa: E402
from scripts.speed import ray_cluster, ray_overhead, ray_rows, ray_texts  # noqa: E402

PARTS = ("equality", "failures", "overhead", "texts", "startup", "rows")
KINDS = ("an actor killed", "a node removed", "the driver killed with -9")
UNITS_IN_FLIGHT = 2


def equality(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """Rows and scores of 1, 2 and 3 actors against one process."""
    data, models, size = ray_cluster.make_data(folder, arguments.num_pairs, 64, 12)
    ray_cluster.score(data, models, folder / "one", pairs_per_shard=size)
    rows = [["run", "rows", "same rows", "largest difference", "units begun again"]]
    with ray_cluster.nodes():
        for count in (1, 2, 3):
            output = folder / f"{count} actors"
            ray_cluster.score(data, models, output, pairs_per_shard=size, num_actors=count)
            found = ray_cluster.compare(output, folder / "one")
            rows.append([f"{count} actors", *found.values()])
    return rows


def failures(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """What is lost, twice or done again when something dies at a random point."""
    data, models, size = ray_cluster.make_data(folder, arguments.num_pairs, 64, 12)
    ray_cluster.score(data, models, folder / "one", pairs_per_shard=size)
    total = len(ray_cluster.markers(folder / "one"))
    generator = random.Random(arguments.seed)
    rows = [["what", "trials", "all rows there once", "largest difference", "units begun again, most", "in flight"]]
    options = {"pairs_per_shard": size, "num_actors": 3}
    with ray_cluster.nodes() as nodes:
        for kind in KINDS:
            found = []
            for trial in range(arguments.trials):
                output, after = folder / f"{kind} {trial}", generator.randint(1, total * 3 // 4)
                if kind == KINDS[2]:
                    ray_cluster.killed_driver(
                        lambda output=output: ray_cluster.command(data, models, output, nodes.address, **options),
                        output, after,
                    )  # fmt: skip
                else:
                    disturb = nodes.kill_actor if kind == KINDS[0] else nodes.remove_node
                    ray_cluster.disturbed(
                        lambda output=output: ray_cluster.score(data, models, output, **options),
                        output, after, lambda disturb=disturb: disturb(generator),
                    )  # fmt: skip
                found.append(ray_cluster.compare(output, folder / "one"))
                print(f"{kind}, after {after} of {total} units: {found[-1]}", file=sys.stderr, flush=True)
            rows.append(
                [
                    kind, len(found), all(one["same rows"] for one in found), max(one["difference"] for one in found),
                    max(one["begun again"] for one in found), 3 * UNITS_IN_FLIGHT,
                ]
            )  # fmt: skip
    return rows


def overhead(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """Seconds of one process of one core, and of one and two actors of one core each, without their start."""
    rows: list[list[Any]] = [
        ["run", "round", "seconds", "seconds of the models", "all / models", "one process / this"]
    ]
    for number, found in enumerate(ray_overhead.rounds(folder, arguments.quick, arguments.rounds)):
        for name, (wall, model, count) in found.items():
            base = found[ray_overhead.ALONE][0]
            rows.append(
                [name, number, f"{wall:.2f}", f"{model:.2f}", f"{wall * count / model:.3f}", f"{base / wall:.2f}"]
            )
    return rows


def texts(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """Outputs and answers a second of one process, and of one and two actors of one core each, without their start."""
    folder.mkdir(parents=True)
    rows: list[list[Any]] = [["stage", "round", "run", "rows a second", "this / one process"]]
    for stage, found in ray_texts.rounds(folder, arguments.quick, arguments.rounds).items():
        for number, speeds in enumerate(found):
            for name, speed in speeds.items():
                rows.append([stage, number, name, f"{speed:.1f}", f"{speed / speeds[ray_overhead.ALONE]:.2f}"])
    return rows


_PLAN = """
import resource, sys, time
from pd_trl.scoring.units.plan import parquet_files, plan_units
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
plan = plan_units(parquet_files(sys.argv[1]), 2048)
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(len(plan.units), time.perf_counter() - start, cpu, after.ru_maxrss / 1e6, (after.ru_maxrss - before.ru_maxrss) / 1e6)
"""


def startup(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """What planning takes: all that a run does with the data before its first unit. An actor is given its units and plans nothing."""
    rows: list[list[Any]] = [
        ["rows", "GB of files", "units", "seconds", "CPU seconds", "peak GB", "of which the plan"]
    ]
    for total in arguments.num_rows:
        place = folder / f"{total}"
        size = write_rows(place, total)
        command = [sys.executable, "-c", _PLAN, str(place)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        units, *numbers = done.stdout.split()
        rows.append([f"{total:,}", f"{size / 1e9:.2f}", units, *(f"{float(value):.3f}" for value in numbers)])
        for path in place.glob("*.parquet"):
            path.unlink()
    return rows


def rows(folder: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """What the process of `pd-trl generate --engine ray` does and holds, without the work of the model."""
    found: list[list[Any]] = [["prompts", "seconds", "CPU seconds", "GB before the start", "peak GB"]]
    for count in arguments.num_prompts:
        numbers = ray_rows.measured(count)
        found.append([f"{count:,}", *(f"{value:.2f}" for value in numbers.values())])
    return found


def write_rows(place: Path, total: int, rows_per_file: int = 50_000) -> int:
    """Pairs in files of 50,000 rows and row groups of 1,000, as `pd-trl prepare` writes them: their bytes."""
    place.mkdir(parents=True)
    count, size = -(-total // rows_per_file), 0
    text = pa.array([f"{i} {'word ' * (i % 40)}" for i in range(rows_per_file)])
    for index in range(count):
        ids = pa.array([f"{index}-{i}" for i in range(rows_per_file)])
        columns = {
            "pair_id": ids,
            "prompt": text,
            "chosen": text,
            "rejected": text,
            "aspect": pa.array(["a"] * rows_per_file),
        }
        path = place / f"train-{index:05d}-of-{count:05d}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=1000)
        size += path.stat().st_size
    return size


def main() -> None:
    """Runs the parts and prints a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="Small data, one trial of each failure, one round.")
    parser.add_argument("--trials", type=int, default=10, help="Times that each failure is tried.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of the runs whose times are compared.")
    parser.add_argument("--num_pairs", type=int, default=200_000, help="Pairs of equality and failures.")
    parser.add_argument("--num_rows", type=int, nargs="+", default=[200_000, 2_000_000], help="Rows that are planned.")
    parser.add_argument("--num_prompts", type=int, nargs="+", default=[20_000, 100_000], help="Prompts of rows.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.trials, arguments.rounds, arguments.num_pairs = 1, 1, 2_400
    with tempfile.TemporaryDirectory() as name:
        for part in arguments.only:
            start, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            lines = globals()[part](Path(name) / part, arguments)
            took = resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu.ru_utime
            print(f"\n{part} ({time.perf_counter() - start:.0f} s, {took:.0f} s of this process's CPU)\n")
            print("\n".join(table([[str(cell) for cell in row] for row in lines])), flush=True)


if __name__ == "__main__":
    main()
