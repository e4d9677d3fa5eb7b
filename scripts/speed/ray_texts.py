"""What Ray gives to `generate` and `rate`: one process of one core against one and two actors of one core each, without their start."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pd_trl import load_pairs
from pd_trl.pipeline.stages.generate import GenerateArguments, run_generate
from pd_trl.pipeline.stages.rate import RateArguments, run_rate

from . import ray_cluster
from .ray_overhead import ALONE, ONE, TWO, one_thread


def rounds(folder: Path, quick: bool, count: int) -> dict[str, list[dict[str, float]]]:
    """For each stage and round, rows a second of each run."""
    model, size = folder / "model", ("64", "2") if quick else ("256", "4")
    maker = [sys.executable, str(ray_cluster.ROOT / "scripts" / "tiny_model.py"), "sample", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(ray_cluster.ROOT)}
    subprocess.run([*maker, "--hidden_size", size[0], "--num_layers", size[1]], check=True, env=environment)
    pairs = load_pairs("sample", on_invalid="drop")
    prompts = folder / "prompts.json"
    prompts.write_text(json.dumps([f"{i} {pairs[i % len(pairs)]['prompt']}" for i in range(64 if quick else 512)]))
    pairs.select(range(min(len(pairs), 16 if quick else 160))).to_parquet(folder / "pairs.parquet")
    work: dict[str, tuple[str, Callable[..., Any]]] = {
        "generate": ("generated.jsonl", lambda **more: run_generate(
            GenerateArguments(model_name_or_path=str(model), instructions=str(prompts), max_new_tokens=64, temperature=1.0,
                              batch_size=8, **more))),
        "rate": ("answers.jsonl", lambda **more: run_rate(
            RateArguments(str(folder / "pairs.parquet"), judge=str(model), **more))),
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {stage: [] for stage in work}
    with one_thread(), ray_cluster.nodes(1):
        for stage, (log, run) in work.items():
            for number in range(count):
                speeds = {}
                for name, actors in ((ALONE, None), (ONE, 1), (TWO, 2)):
                    output = folder / f"{stage}, {name}, {number}"
                    more = {"engine": "ray", "num_actors": actors} if actors else {}
                    speeds[name] = steady(output / log, lambda run=run, more=more, output=output: run(
                        output_dir=str(output), **more))  # fmt: skip
                found[stage].append(speeds)
    return found


def steady(log: Path, run: Callable[[], Any]) -> float:
    """Rows a second from the first that a log has to its last."""
    seen, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            count = log.read_bytes().count(b"\n") - 1 if log.is_file() else 0
            if count > 0 and (not seen or seen[-1][1] != count):
                seen.append((time.perf_counter(), count))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run()
    finally:
        done.set()
        thread.join()
    (start, first), (end, last) = seen[0], seen[-1]
    return (last - first) / (end - start)
