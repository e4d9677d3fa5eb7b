"""What the process that starts `pd-trl generate --engine ray` does and holds: a stand-in of the policy writes at once."""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PROMPT_TOKENS, OUTPUT_WORDS, BATCH = 150, 300, 32


@dataclass(frozen=True)
class StandIn:
    """Answers each prompt by as many words as a long answer has."""

    def worker(self) -> "StandIn":
        """Itself."""
        return self

    def each(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Rows of each part."""
        for part in items:
            row = {"output": "words " * OUTPUT_WORDS, "num_tokens": OUTPUT_WORDS, "finished": True}
            yield {"rows": [(number, row) for number, _, _ in part]}


def measured(count: int) -> dict[str, float]:
    """CPU seconds and peak of memory for so many prompts, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "scripts.speed.ray_rows", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def _usage() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def _run(count: int) -> dict[str, float]:
    from pd_trl.generation.decoder import Prompt
    from pd_trl.runs.on_ray import import_ray, on_ray, parts_of
    from pd_trl.runs.row_log import RowLog

    import_ray()
    generator = random.Random(0)
    prompts = [
        Prompt(i, [generator.randrange(50_000) for _ in range(PROMPT_TOKENS)], f"{i} {'word ' * (PROMPT_TOKENS - 1)}")
        for i in range(count)
    ]
    start, (cpu, held) = time.perf_counter(), _usage()
    with tempfile.TemporaryDirectory() as folder, RowLog(Path(folder) / "log.jsonl", {}) as log:
        for result in on_ray(StandIn(), parts_of(prompts, BATCH, 4 * BATCH), 1):
            for number, row in result["rows"]:
                log.add(str(number), row)
        if len(log.rows) != count:
            raise RuntimeError(f"{len(log.rows)} of {count} prompts have a row.")
    seconds, (after, peak) = time.perf_counter() - start, _usage()
    return {"seconds": seconds, "cpu": after - cpu, "prompts": held, "peak": peak}


if __name__ == "__main__":
    print(json.dumps(_run(int(sys.argv[1]))))
