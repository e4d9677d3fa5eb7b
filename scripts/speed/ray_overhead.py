"""
What Ray costs: one process of one core against one and two actors of one core each, without their start.

There is one node only: the processes of several would take their part of this machine's cores from the actors, which Ray starts at
the lowest priority.
"""

import contextlib
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from . import ray_cluster, scoring

ALONE, ONE, TWO = "one process", "1 actor", "2 actors"
MOST_OVERHEAD, LEAST_OF_TWO = 1.10, 1.8


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for this process, as Ray gives its actors, and for those that it starts."""
    wanted = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    threads, before = torch.get_num_threads(), {name: os.environ.get(name) for name in wanted}
    torch.set_num_threads(1)
    os.environ.update(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def rounds(folder: Path, quick: bool, count: int) -> list[dict[str, tuple[float, float, int]]]:
    """For each round, the seconds of each run, those of its models over all actors, and its number of processes."""
    width, words, pairs = (128, 60, 480) if quick else (256, 200, 1200)
    data, models, size = ray_cluster.make_data(folder, pairs, width, words)
    found = []
    with one_thread(), ray_cluster.nodes(1):
        for number in range(count):
            runs = {}
            for name, actors in ((ALONE, None), (ONE, 1), (TWO, 2)):
                output = folder / f"{name} {number}"
                ray_cluster.score(data, models, output, pairs_per_shard=size, num_actors=actors)
                runs[name] = (*steady(output), actors or 1)
            found.append(runs)
    return found


def steady(output: Path) -> tuple[float, float]:
    """Seconds from the first finished unit to the last, and those of the models in between."""
    found = sorted(
        (path.stat().st_mtime, json.loads(path.read_text())["microseconds"]) for path in ray_cluster.markers(output)
    )
    return found[-1][0] - found[0][0], sum(took for _, took in found[1:]) / 1e6


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """Two rows."""
    with tempfile.TemporaryDirectory() as name:
        found = rounds(Path(name), quick, 1 if quick else 5)
    seconds = {run: [one[run][0] for one in found] for run in (ALONE, ONE, TWO)}
    overhead = statistics.median(one / alone for one, alone in zip(seconds[ONE], seconds[ALONE], strict=True))
    return [
        {
            "what": "scoring on Ray, 1 actor of one core: time", "against": ALONE, "ratio": overhead,
            "bar": f"at most {MOST_OVERHEAD:g}", "met": overhead <= MOST_OVERHEAD, "details": seconds,
        },
        scoring.row(
            "scoring on Ray, 2 actors of one core", ALONE, scoring.ratio_of(seconds[ALONE], seconds[TWO]), LEAST_OF_TWO,
            seconds,
        ),
    ]  # fmt: skip
