"""What a request to a judge costs: the client of `evaluate` and `rate` against the package openai alone, 64 at once."""

import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pd_trl.servers.settings import RequestSettings

from .. import bench_client
from . import scoring

AT_ONCE = 64
SECONDS = 0.005
LEAST = 3.0


def alone(address: str, count: int) -> Callable[[], int]:
    """Sends `count` requests of a judge by the package openai, one client for all threads."""
    import openai

    client = openai.OpenAI(api_key="none", base_url=address, max_retries=0, timeout=60.0)
    messages: Any = [{"role": "user", "content": bench_client.WORDS * 2}]

    def ask(_: int) -> bool:
        answer = client.chat.completions.create(model="scripted", messages=messages, max_tokens=1, temperature=0.0)
        return bool(answer.choices)

    def run() -> int:
        with ThreadPoolExecutor(AT_ONCE) as executor:
            return sum(executor.map(ask, range(count)))

    return run


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """One row."""
    count, rounds = (300, 1) if quick else (2000, 5)
    settings = RequestSettings(max_concurrency=AT_ONCE)
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder, bench_client.serving("judge", SECONDS) as address:
        for number in range(rounds + 1):
            log = Path(folder) / f"{number}.jsonl"
            pair = alone(address, count), bench_client.work("judge", address, count, settings, log)
            cost = [sum(bench_client.measured(run, count)[1:]) for run in pair]
            if number:  # the first round warms up
                theirs.append(cost[0])
                ours.append(cost[1])
    details = {
        "requests": count, "rounds": rounds, "openai, CPU ms a request": statistics.median(theirs),
        "ours, CPU ms a request": statistics.median(ours),
    }  # fmt: skip
    return [
        scoring.row(
            "a judge's request, with its key, checks and log: CPU time", "the package openai alone",
            scoring.ratio_of(theirs, ours), LEAST, details,
        )
    ]  # fmt: skip
