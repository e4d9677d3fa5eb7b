"""Two processes that share the shards of a run against one, each with one thread."""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from pd_trl import score_pairs

from . import scoring

ROOT = Path(__file__).resolve().parent.parent.parent


def worker(folder: Path, output: Path, rank: int, count: int) -> None:
    """Scores when all workers are ready, and notes when it began and ended."""
    torch.set_num_threads(1)
    # Loads what the first call would load.
    score_pairs(Dataset.from_parquet(str(folder / "pairs.parquet")).select(range(2)), {"a": str(folder / "a")})
    data = Dataset.from_parquet(str(folder / "pairs.parquet"))
    (output / f"ready{rank}").touch()
    while len(list(output.glob("ready*"))) < count:
        time.sleep(0.001)
    start = time.time()
    score_pairs(data, {"a": str(folder / "a")}, output_dir=output / "run", pairs_per_shard=24)
    (output / f"times{rank}").write_text(f"{start} {time.time()}")


def seconds_of(folder: Path, count: int) -> float:
    """Seconds of a run of `count` processes, from the first start to the last end."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        command = [sys.executable, "-m", "scripts.speed.processes", str(folder), str(output)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        workers = [
            subprocess.Popen([*command, str(rank), str(count)], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
            for rank in range(count)
        ]
        for process in workers:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(said.decode()[-2000:])
        times = [tuple(map(float, path.read_text().split())) for path in output.glob("times*")]
        return max(end for _, end in times) - min(start for start, _ in times)


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """One row."""
    hidden, prompts, repeats = (128, 60, 5) if quick else (256, 200, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scoring.save_models(folder, hidden)
        generator = random.Random(0)
        data = scoring.pairs_of(
            prompts, lambda: scoring.varied(generator, 200), lambda: scoring.varied(generator, 400), shared=True
        )
        data.to_parquet(folder / "pairs.parquet")
        one, two = [], []
        for _ in range(repeats):
            one.append(seconds_of(folder, 1))
            two.append(seconds_of(folder, 2))
    details = {
        "pairs": len(data), "hidden size": hidden, "repeats": repeats, "one, seconds": statistics.median(one),
        "two, seconds": statistics.median(two),
    }  # fmt: skip
    return [
        scoring.row("two processes, one core each", "one process, one core", scoring.ratio_of(one, two), 1.8, details)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("folder", "output"):
        parser.add_argument(name, type=Path)
    for name in ("rank", "count"):
        parser.add_argument(name, type=int)
    worker(**vars(parser.parse_args()))
