"""Prints how long `import pd_trl` and `pd-trl --help` take, medians of 7 fresh processes, against their bars."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

NUM_RUNS = 7
IMPORT = "import time; start = time.perf_counter(); import pd_trl; print(time.perf_counter() - start)"


def seconds_of_import() -> float:
    """Seconds of the import alone, taken inside a fresh process (the interpreter's own start not counted)."""
    result = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    return float(result.stdout)


def seconds_of_help() -> float:
    """Seconds of the whole command, from its start to its end."""
    script = Path(sys.executable).with_name("pd-trl")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "pd_trl"]
    start = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> int:
    over = False
    for name, measure, bar in (("import pd_trl", seconds_of_import, 0.3), ("pd-trl --help", seconds_of_help, 0.5)):
        seconds = statistics.median(measure() for _ in range(NUM_RUNS))
        over = over or seconds >= bar
        print(f"{name:<14} {seconds:.3f} s  (bar {bar} s: {'met' if seconds < bar else 'MISSED'})")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
