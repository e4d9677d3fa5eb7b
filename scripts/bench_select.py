"""
CPU seconds and peak memory of `pd-trl select`, of `PDFilter` on a data set, of `pd-trl report`, `publish` (a dry run) and `prepare`, and
of what `pd-trl score` does before the first unit, each in a process of its own, by the number of rows. Another checkout gives the
figures to compare with; the two take turns.

    python scripts/bench_select.py                                   # 0.1 and 1 million rows
    python scripts/bench_select.py --rows 10000000 --short --parts select report publish score   # needs 2 GB of disk
    python scripts/bench_select.py --against ../other-checkout
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
ROWS_PER_FILE = 250_000
# These read what `select` left.
OF_A_SELECTION = ("report", "publish")
# What each process runs after it imported what the commands import.
PARTS = {
    "select": "from pd_trl.cli.main import main; main(['select', '--dataset_name', DATA, '--output_dir', OUT])",
    "select --out_of_core": "from pd_trl.cli.main import main; "
    "main(['select', '--dataset_name', DATA, '--output_dir', OUT, '--out_of_core', 'true'])",
    "PDFilter": "import datasets; from pd_trl import PDFilter; f = PDFilter(0.3)\n"
    "d = datasets.load_dataset('parquet', data_files=DATA + '/scored/*.parquet', split='train')\nBEGIN = cpu(); f(d)",
    "PDFilter, report read": "import datasets; from pd_trl import PDFilter; f = PDFilter(0.3)\n"
    "d = datasets.load_dataset('parquet', data_files=DATA + '/scored/*.parquet', split='train')\nBEGIN = cpu(); f(d); str(f.report_)",
    "report": "from pd_trl.cli.main import main; main(['report', '--dataset_name', SELECTED, '--output_dir', OUT])",
    "publish": "from pd_trl.cli.main import main; "
    "main(['publish', 'dataset', '--dataset_name', SELECTED, '--repo_id', 'me/pairs', '--dry_run', 'true'])",
    "score": "from pd_trl.pipeline.stages.scored_rows import what_to_score; import pd_trl.pipeline.stages.score\nBEGIN = cpu()\n"
    "what_to_score(DATA + '/scored', None, 'process', 2048).files.plan.sample(['aspect'])",
    "prepare": "from pd_trl.cli.main import main; main(['prepare', '--dataset_name', DATA + '/source', '--output_dir', OUT])",
}
PROGRAM = """
import json, resource, sys
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def peak():
    # Linux counts what the process was a copy of before it became this program into ru_maxrss.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
BEGIN, DATA, OUT, SELECTED = cpu(), *sys.argv[1:4]
try:
    {run}
except SystemExit as end:
    if end.code:
        raise
print(json.dumps([cpu() - BEGIN, peak()]))
"""


def write_data(folder: Path, rows: int, short: bool = False) -> None:
    """Scored pairs with texts, or with short ones, in `scored/`, and pairs with ratings in `source/`, the same in every run."""
    count = -(-rows // ROWS_PER_FILE)
    for part in ("scored", "source"):
        (folder / part).mkdir()
    filling = "" if short else "lorem ipsum dolor sit amet "
    words = pa.array([f"Reply {i} " + filling * (1 + i % 10) for i in range(5000)])
    for file in range(count):
        size = min(ROWS_PER_FILE, rows - file * ROWS_PER_FILE)
        generator = np.random.default_rng(file)

        def texts(generator: np.random.Generator = generator, size: int = size) -> pa.Array:
            return words.take(pa.array(generator.integers(0, len(words), size)))

        numbers = file * ROWS_PER_FILE + generator.permutation(size)
        columns = {"pair_id": pa.array([f"{7919 * i:016x}" for i in numbers.tolist()])}
        columns |= {name: texts() for name in ("prompt", "chosen", "rejected")}
        columns["aspect"] = pa.array(ASPECTS).take(pa.array(generator.integers(0, len(ASPECTS), size)))
        columns |= {f"reward_gap_{name}": pa.array(generator.standard_normal(size, np.float32)) for name in ASPECTS}
        columns["delta_length"] = pa.array(generator.integers(-100, 100, size, dtype=np.int32))
        pq.write_table(pa.table(columns), folder / "scored" / f"train-{file:05d}-of-{count:05d}.parquet")
        source = {
            "prompt": pa.array([f"Question {i}" for i in numbers.tolist()]),
            "response_a": texts(),
            "response_b": texts(),
        }
        for name in ASPECTS:
            source |= {f"rating_{name}_{side}": pa.array(generator.integers(1, 6, size) * 1.0) for side in "ab"}
        pq.write_table(pa.table(source), folder / "source" / f"part-{file:05d}.parquet")


def measured(part: str, checkout: Path, data: Path, out: Path, selected: Path) -> tuple[float, float]:
    """CPU seconds and peak MB of a part, by the code of a checkout."""
    run = PARTS[part].replace("\n", "\n    ")
    environment = {
        **os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1",
        "HF_HOME": str(out.parent / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-c", PROGRAM.replace("{run}", run), str(data), str(out), str(selected)]
    done = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"some of {', '.join(PARTS)}"
    )
    parser.add_argument("--against", type=Path, help="another checkout, whose figures stand beside")
    parser.add_argument("--short", action="store_true", help="texts of one or two words")
    options = parser.parse_args()
    checkouts = [options.against.resolve()] if options.against else []
    print("| what | rows |" + " CPU s, before | peak MB, before |" * len(checkouts) + " CPU s | peak MB |")
    print("|---|--:|" + "--:|--:|" * (1 + len(checkouts)))
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_data(folder, rows, options.short)
            selected = folder / "selected"
            if set(OF_A_SELECTION) & set(options.parts):
                measured("select", ROOT, folder, selected, selected)
            for part in options.parts:
                cells = []
                for place, checkout in enumerate((*checkouts, ROOT)):
                    out = folder / f"{part.split()[0]}-{place}-{len(part)}"
                    seconds, megabytes = measured(part, checkout, folder, out, selected)
                    cells += [f"{seconds:.1f}", f"{megabytes:,.0f}"]
                print(f"| `{part}` | {rows:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
