"""A Ray cluster of several nodes on this machine, the runs on it, and what is done to them while they work."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pd_trl.pipeline.stages.score import ScoreArguments, run_score
from pd_trl.runs.stage_folders import StageResult

from . import scoring

ROOT = Path(__file__).resolve().parent.parent.parent
_STORE = 100 << 20


def make_data(folder: Path, num_pairs: int, hidden: int, words: int) -> tuple[Path, dict[str, str], int]:
    """Pairs in 40 row groups, models of a width, and the pairs of a unit."""
    folder.mkdir(parents=True, exist_ok=True)
    _, models = scoring.save_models(folder, hidden)
    generator = random.Random(0)
    texts = lambda longest: lambda: scoring.varied(generator, longest)  # noqa: E731
    data = scoring.pairs_of(num_pairs // 6, texts(words), texts(2 * words))
    size = max(1, len(data) // 40)
    data.to_parquet(folder / "pairs.parquet", batch_size=size)
    return folder / "pairs.parquet", models, size


class Nodes:
    """
    Nodes that this process started, each a raylet with logical CPUs.

    Args:
        count (`int`): How many, the head among them.
        num_cpus (`int`, *optional*, defaults to `4`): Logical CPUs of each.
    """

    def __init__(self, count: int = 3, num_cpus: int = 4):
        from ray.cluster_utils import Cluster

        self._options = {"num_cpus": num_cpus, "object_store_memory": _STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args={**self._options, "include_dashboard": False})
        self.added = [self.cluster.add_node(**self._options) for _ in range(count - 1)]

    @property
    def address(self) -> str:
        """For `RAY_ADDRESS`."""
        return str(self.cluster.address)

    def actors(self) -> list[int]:
        """Process ids of the scoring actors on these nodes."""
        raylets = {
            process.process.pid
            for node in (self.cluster.head_node, *self.added)
            for process in node.all_processes.get("raylet", [])
        }
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets and b"_Actor" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return sorted(found)

    def kill_actor(self, generator: random.Random) -> None:
        """Kills an actor, if there is one."""
        if found := self.actors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(generator.choice(found), signal.SIGKILL)

    def remove_node(self, generator: random.Random) -> None:
        """Takes a node away at once, and puts a new one in its place."""
        node = self.added.pop(generator.randrange(len(self.added)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.added.append(self.cluster.add_node(**self._options))

    def close(self) -> None:
        """Ends all nodes."""
        self.cluster.shutdown()


def _started(count: int, num_cpus: int, attempts: int = 3) -> Nodes:
    """Nodes. Ray waits 30 seconds for each and then raises an error of no class of its own: too little on a busy machine."""
    for _ in range(attempts - 1):
        with contextlib.suppress(Exception):
            return Nodes(count, num_cpus)
    return Nodes(count, num_cpus)


@contextlib.contextmanager
def nodes(count: int = 3, num_cpus: int = 4) -> Iterator[Nodes]:
    """Nodes to which this process is connected."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray kills workers where the memory of the machine is nearly full, whoever fills it: not what is tried here.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # A node that is gone is found out in seconds. One that only answers late keeps its time.
    os.environ.setdefault("RAY_health_check_period_ms", "500")
    started = _started(count, num_cpus)
    try:
        ray.init(started.address, logging_level="ERROR", log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.close()


def score(data: Path, models: dict[str, str], output: Path, **options: Any) -> StageResult:
    """The stage `score` in this process; `num_actors` is for Ray."""
    if options.get("num_actors"):
        options["engine"] = "ray"
    return run_score(ScoreArguments(str(data), reward_models=models, output_dir=str(output), **options))


def command(data: Path, models: dict[str, str], output: Path, address: str, **options: Any) -> subprocess.Popen:
    """`pd-trl score --engine ray` in a process of its own."""
    flags = {"dataset_name": data, "output_dir": output, "reward_models": json.dumps(models), **options}
    return stage_command("score", address, flags)


def stage_command(stage: str, address: str, flags: Mapping[str, Any]) -> subprocess.Popen:
    """A stage on the Ray cluster of an address, in a process of its own."""
    arguments = [stage, "--engine=ray", *(f"--{name}={value}" for name, value in flags.items())]
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "pd_trl", *arguments],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def markers(output: Path) -> list[Path]:
    """Markers of the finished units."""
    return sorted((output / "shards" / "units").glob("*.done"))


def finished(output: Path) -> int:
    """Finished units, or outputs and answers in a log."""
    logs = [output / name for name in ("generated.jsonl", "answers.jsonl")]
    return len(markers(output)) + sum(max(0, log.read_bytes().count(b"\n") - 1) for log in logs if log.is_file())


def wait_for(output: Path, count: int, running: Callable[[], bool]) -> None:
    """Waits until so many units are finished, or the run has ended."""
    while running() and finished(output) < count:
        time.sleep(0.02)


def disturbed(run: Callable[[], StageResult], output: Path, after: int, disturb: Callable[[], None]) -> StageResult:
    """The result of a run, which is disturbed when `after` units are finished."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(run())
        except BaseException as error:  # to be raised by the caller's thread
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(output, after, thread.is_alive)
    disturb()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def killed_driver(start: Callable[[], subprocess.Popen], output: Path, after: int) -> str:
    """Kills a command with -9 when `after` units are finished, and starts it again: what the second said."""
    first = start()
    wait_for(output, after, lambda: first.poll() is None)
    first.kill()
    first.communicate()
    second = start()
    said, _ = second.communicate()
    if second.returncode:
        raise RuntimeError(f"The second driver ended with {second.returncode}: {said[-2000:]}")
    return str(said)


def compare(output: Path, expected: Path) -> dict[str, Any]:
    """How the rows of two runs differ, and how many units were begun again."""
    ours, theirs = (pq.read_table(sorted((folder / "scored").glob("*.parquet"))) for folder in (output, expected))
    differences = [0.0]
    for name in theirs.column_names:
        if name.startswith("reward_gap_"):
            pair = [table.column(name).to_numpy() for table in (ours, theirs)]
            if len(pair[0]) == len(pair[1]):
                differences.append(float(abs(pair[0] - pair[1]).max()))
    again = sum(json.loads(path.read_text())["attempts"] - 1 for path in markers(output))
    same = ours.column("pair_id").to_pylist() == theirs.column("pair_id").to_pylist()
    return {"rows": len(ours), "same rows": same, "difference": max(differences), "begun again": again}
