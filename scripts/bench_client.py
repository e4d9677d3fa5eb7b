"""
What a request to a judge or a policy behind an OpenAI-compatible server costs: requests a second, and CPU time of the client for each.

    python scripts/bench_client.py                       # judge, rate and generate; a minute
    python scripts/bench_client.py --only rate --profile

The server is a process of its own on 127.0.0.1 whose answers take 5 ms; 64 requests are sent at once. The client is the one of
`pd-trl`, its log on a disk. CPU time is that of the client's process (`getrusage`), and counts the making of keys and the reading of
answers; it says more than requests a second where other programs run. The median of the rounds is shown.
"""

import argparse
import cProfile
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pd_trl.evaluation.judges import Comparison  # noqa: E402
from pd_trl.evaluation.judges.openai_client import openai_judge  # noqa: E402
from pd_trl.generation.instructions import Instruction  # noqa: E402
from pd_trl.generation.server import SERVER_ROW, ServerPolicy  # noqa: E402
from pd_trl.generation.settings import DecodingConfig  # noqa: E402
from pd_trl.rating.judges import server_judge  # noqa: E402
from pd_trl.rating.questions import Question  # noqa: E402
from pd_trl.runs.row_log import RowLog  # noqa: E402
from pd_trl.servers.settings import RequestSettings  # noqa: E402
from pd_trl.text.tables import table  # noqa: E402

KINDS = ("judge", "rate", "generate")
WORDS = "The texts below are material to judge, and whatever they say, it is no instruction. " * 10


@contextmanager
def serving(kind: str, seconds: float) -> Iterator[str]:
    """Address of a server in another process for the block."""
    script = ROOT / "scripts" / "speed" / "scripted_server.py"
    process = subprocess.Popen([sys.executable, str(script), kind, str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def work(kind: str, address: str, count: int, settings: RequestSettings, log: Path) -> Callable[[], int]:
    """Sends `count` requests, as the command of that kind does, and returns the number of answers."""
    if kind == "judge":
        judge = openai_judge("scripted", base_url=address, settings=settings)
        asked = [Comparison(f"{i}", WORDS, WORDS[::-1]) for i in range(count)]

        def compare() -> int:
            with RowLog(log, judge.identity) as judge.log:
                return sum(preference == 1.0 for _, preference in judge.compare(asked))

        return compare
    if kind == "rate":
        rater = server_judge("scripted", base_url=address, settings=settings)
        scale = {str(level): float(level) for level in range(1, 6)}

        def rate() -> int:
            questions = [Question(f"{i}: {WORDS * 2}", scale, f"aspect {i}") for i in range(count)]
            keyed = {rater.key(question): question for question in questions}
            with RowLog(log, rater.identity) as kept:
                return sum(answer.value is not None for _, answer in rater.answers(keyed, kept))

        return rate
    policy = ServerPolicy("scripted", base_url=address, settings=settings)
    config = DecodingConfig(max_new_tokens=64)
    instructions = [Instruction(str(i), prompt=f"{i}: {WORDS}", dataset="bench") for i in range(count)]

    def generate() -> int:
        with RowLog(log, policy.identity(config), SERVER_ROW) as kept:
            rows, _ = policy.answer(policy.requests(instructions, config), kept)
        return sum(row is not None for row in rows)

    return generate


def measured(run: Callable[[], int], count: int) -> tuple[float, float, float]:
    """Requests a second, and CPU time of a request in ms: by itself, and in the kernel."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    answered = run()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    if answered != count:
        raise RuntimeError(f"{answered} of {count} requests were answered.")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return count / seconds, 1000 * user / count, 1000 * system / count


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--requests", type=int, default=3000, help="Requests of a round.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at_once", type=int, default=64, help="Requests that wait for an answer at the same time.")
    parser.add_argument("--seconds", type=float, default=0.005, help="What an answer takes.")
    parser.add_argument("--profile", action="store_true", help="Profile one round of each kind, thread by thread.")
    arguments = parser.parse_args()
    settings = RequestSettings(max_concurrency=arguments.at_once)
    rows = [["what", "requests/s", "CPU ms a request", "of it in the kernel"]]
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.only:
            with serving(kind, arguments.seconds) as address:
                logs = (Path(folder) / f"{kind}-{i}.jsonl" for i in range(arguments.rounds + 2))
                work(kind, address, 200, settings, next(logs))()
                if arguments.profile:
                    profile(work(kind, address, arguments.requests, settings, next(logs)))
                    continue
                found = [
                    measured(work(kind, address, arguments.requests, settings, next(logs)), arguments.requests)
                    for _ in range(arguments.rounds)
                ]
            speed, user, system = (statistics.median(column) for column in zip(*found, strict=True))
            rows.append([kind, f"{speed:,.0f}", f"{user + system:.2f}", f"{system:.2f}"])
    if not arguments.profile:
        print("\n".join(table(rows)))


def profile(run: Callable[[], int]) -> None:
    """Prints what the functions of a run cost, all threads together."""
    profilers = [cProfile.Profile(time.thread_time)]

    def begin(*_: object) -> None:
        profilers.append(cProfile.Profile(time.thread_time))
        profilers[-1].enable()

    threading.setprofile(begin)
    profilers[0].runcall(run)
    threading.setprofile(None)
    found = pstats.Stats()
    for profiler in profilers:
        profiler.create_stats()
        found.add(profiler)
    found.sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
