"""
Selection in memory: seconds and extra memory of PD, threshold and ties on 10 million pairs of four aspects.

    python -m scripts.speed.select_in_memory            # 10 million pairs
    python -m scripts.speed.select_in_memory --quick    # 1 million
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 5
SECONDS, MEGABYTES = 3.0, 1000.0


def data(num_pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaps of four aspects, each pair's own aspect, and ids."""
    generator = np.random.default_rng(0)
    gaps = generator.standard_normal((num_pairs, 4), dtype=np.float32)
    aspects = generator.integers(0, 4, num_pairs, dtype=np.int8)
    ids = np.frombuffer(generator.bytes(8 * num_pairs).hex().encode(), dtype="S16")
    return gaps, aspects, ids


def run(num_pairs: int, repeats: int) -> dict[str, Any]:
    """Seconds of each repeat, and the peak of memory beyond what holds the data, in this process."""
    sys.path.insert(0, str(ROOT))
    from pd_trl.method.divergence import preference_divergence
    from pd_trl.method.ranking import select_lowest

    gaps, aspects, ids = data(num_pairs)
    count = int(0.3 * num_pairs)
    before = peak_megabytes(reset=True)
    seconds, maths = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        divergence = preference_divergence(gaps, aspects)
        maths.append(time.perf_counter() - start)
        kept, _ = select_lowest(divergence.values, ids, count)
        seconds.append(time.perf_counter() - start)
        if kept.sum() != count:
            raise RuntimeError(f"{kept.sum()} pairs were kept instead of {count}.")
        del divergence, kept
    return {"seconds": seconds, "seconds_pd": maths, "megabytes": peak_megabytes() - before}


def peak_megabytes(reset: bool = False) -> float:
    """Peak resident memory of this process; `reset` starts the count anew (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """The measurements, in a process of their own."""
    num_pairs = 1_000_000 if quick else 10_000_000
    command = [sys.executable, __file__, "--worker", str(num_pairs), str(REPEATS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    seconds = statistics.median(found["seconds"])
    details = {
        "pairs": num_pairs, "aspects": 4, "repeats": REPEATS, "seconds": found["seconds"],
        "seconds_pd": statistics.median(found["seconds_pd"]), "data_megabytes": num_pairs * (16 + 1 + 16) / 1e6,
    }  # fmt: skip
    what = f"PD, threshold and ties of {num_pairs // 1_000_000} M pairs, 4 aspects, in memory"
    return [
        {"what": what, "against": "-", "value": seconds, "unit": "s", "bar": f"at most {SECONDS:g} s at 10 M",
         "met": seconds <= SECONDS, "details": details},
        {"what": f"{what}: memory beyond the data", "against": "-", "value": found["megabytes"], "unit": "MB",
         "bar": f"at most {MEGABYTES:g} MB at 10 M", "met": found["megabytes"] <= MEGABYTES, "details": details},
    ]  # fmt: skip


if __name__ == "__main__":
    if "--worker" in sys.argv:
        print(json.dumps(run(*map(int, sys.argv[-2:]))))
    else:
        print(json.dumps(measure("--quick" in sys.argv), indent=2))
