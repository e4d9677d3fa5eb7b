"""
Selection out of core: scales, threshold and ties of 100 million pairs of four aspects in parquet files, against a DuckDB scan
that sums the same columns (each gap column summed, the aspects counted). Both read from the page cache where it has room. Each
measurement is a process of its own, whose peak of resident memory is that of the whole process, libraries included.

    python -m scripts.speed.select_out_of_core            # 100 million pairs, 4 GB of files in a temporary folder
    python -m scripts.speed.select_out_of_core --quick    # 5 million
    python -m scripts.speed.select_out_of_core --engines  # 20 million: what other engines need for the parts
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")
GAPS = tuple(f"reward_gap_{aspect}" for aspect in ASPECTS)
REPEATS = 5
RATIO, MEGABYTES = 4.0, 2000.0
ROWS_PER_FILE, ROWS_PER_CHUNK, ROWS_PER_GROUP = 10_000_000, 1_000_000, 250_000


def write_data(folder: Path, num_pairs: int) -> None:
    """Scored pairs, the same ones in every run: random ids of 16 hex digits, an aspect, and normal gaps."""
    needed = 45 * num_pairs
    if shutil.disk_usage(folder).free < needed:
        raise OSError(28, f"No space left on device: {needed / 1e9:.1f} GB are needed", str(folder))
    count = -(-num_pairs // ROWS_PER_FILE)
    for file in range(count):
        rows = min(ROWS_PER_FILE, num_pairs - file * ROWS_PER_FILE)
        with pq.ParquetWriter(folder / f"train-{file:05d}-of-{count:05d}.parquet", _table(0, 0, 0).schema) as writer:
            for start in range(0, rows, ROWS_PER_CHUNK):
                table = _table(file, start, min(ROWS_PER_CHUNK, rows - start))
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)


def _table(file: int, start: int, rows: int) -> pa.Table:
    generator = np.random.default_rng([file, start])
    ids = generator.bytes(8 * rows).hex().encode()
    offsets = pa.py_buffer((16 * np.arange(rows + 1)).astype(np.int32))
    own = pa.array(generator.integers(0, len(ASPECTS), rows, dtype=np.int8))
    columns = {
        "pair_id": pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(ids)]),
        "aspect": pa.DictionaryArray.from_arrays(own, pa.array(ASPECTS)).cast(pa.string()),
    }
    columns |= {gap: pa.array(generator.standard_normal(rows, dtype=np.float32)) for gap in GAPS}
    return pa.table(columns)


def scan_with_duckdb(folder: str) -> None:
    """The baseline: every value of the columns is read and added up."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads = {os.cpu_count()}")
    sums = ", ".join(f"sum({gap})" for gap in GAPS)
    connection.execute(f"select count(aspect), {sums} from read_parquet('{folder}/*.parquet')").fetchall()


def select(folder: str) -> None:
    """Scales, threshold and ties, as `select_out_of_core` finds them before it writes."""
    from pd_trl.selection.filter import PDFilter
    from pd_trl.selection.out_of_core.parquet import ParquetSource
    from pd_trl.selection.out_of_core.passes import Selection

    source = ParquetSource(folder, num_threads=os.cpu_count())
    decision = Selection(PDFilter(0.3), source).decide()
    if decision.passes != 2:
        raise RuntimeError(f"{decision.passes} passes were needed instead of 2.")


def select_and_write(folder: str) -> None:
    """The whole of it: both parts as parquet, the ids checked for duplicates, the report."""
    from pd_trl.selection.out_of_core import select_out_of_core

    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as output:
        select_out_of_core(folder, Path(output) / "selected", 0.3)


WORK: dict[str, Callable[[str], None]] = {"scan": scan_with_duckdb, "select": select, "write": select_and_write}


def in_a_process(work: str, folder: Path) -> dict[str, float]:
    """Seconds, seconds of CPU and peak of memory of `WORK[work]`."""
    command = [sys.executable, "-m", "scripts.speed.select_out_of_core", "--worker", work, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def worker(work: str, folder: str) -> dict[str, float]:
    """What [`in_a_process`] runs there."""
    import pd_trl.selection.filter  # noqa: F401  (libraries are not what is timed)

    start, cpu = time.perf_counter(), time.process_time()
    WORK[work](folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
    return {"seconds": seconds, "cpu_seconds": cpu, "megabytes": peak}


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """The measurements."""
    num_pairs = 5_000_000 if quick else 100_000_000
    with tempfile.TemporaryDirectory(prefix="pd_trl-") as place:
        folder = Path(place) / "scored"
        folder.mkdir()
        write_data(folder, num_pairs)
        found: dict[str, list[dict[str, float]]] = {"scan": [], "select": []}
        for _ in range(REPEATS):
            for work, results in found.items():
                results.append(in_a_process(work, folder))
        written = in_a_process("write", folder)
    pairs = list(zip(found["scan"], found["select"], strict=True))
    ratio = statistics.median(ours["seconds"] / scan["seconds"] for scan, ours in pairs)
    megabytes = max(written["megabytes"], *(ours["megabytes"] for ours in found["select"]))
    details = {
        "pairs": num_pairs, "repeats": REPEATS, "cpus": os.cpu_count(),
        "scan_seconds": statistics.median(scan["seconds"] for scan, _ in pairs),
        "select_seconds": statistics.median(ours["seconds"] for _, ours in pairs),
        "ratio_cpu_seconds": statistics.median(ours["cpu_seconds"] / scan["cpu_seconds"] for scan, ours in pairs),
        "write_seconds": written["seconds"], "write_cpu_seconds": written["cpu_seconds"],
        "select_megabytes": max(ours["megabytes"] for _, ours in pairs), "write_megabytes": written["megabytes"],
    }  # fmt: skip
    what = f"selection from {num_pairs // 1_000_000} M pairs, 4 aspects, out of core"
    return [
        {"what": what, "against": "a DuckDB scan of the same columns", "ratio": ratio, "bar": f"at most {RATIO:g}",
         "met": ratio <= RATIO, "details": details},
        {"what": f"{what}: peak of memory, written too", "against": "-", "value": megabytes, "unit": "MB",
         "bar": f"at most {MEGABYTES:g} MB", "met": megabytes <= MEGABYTES, "details": details},
    ]  # fmt: skip


def engines(num_pairs: int = 20_000_000) -> list[dict[str, Any]]:
    """Medians of three: a scan, the PD of each row, and exact quantiles, by the engines that are installed."""
    with tempfile.TemporaryDirectory(prefix="pd_trl-") as place:
        folder = Path(place)
        write_data(folder, num_pairs)
        ways = {**_duckdb_ways(folder), **_polars_ways(folder), **_arrow_ways(folder)}
        ways["pd_trl: both passes"] = lambda: select(str(folder))
        results = []
        for what, way in ways.items():
            seconds = []
            for _ in range(3):
                start = time.perf_counter()
                way()
                seconds.append(time.perf_counter() - start)
            results.append({"what": what, "seconds": statistics.median(seconds), "pairs": num_pairs})
    return results


def _duckdb_ways(folder: Path) -> dict[str, Callable[[], Any]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads = {os.cpu_count()}")
    rows = f"from read_parquet('{folder}/*.parquet')"
    votes = " + ".join(
        f"case when aspect = '{a}' then 0 else least(1.0, greatest(-1.0, {g}::double / 1.64)) end"
        for a, g in zip(ASPECTS, GAPS, strict=True)
    )
    quantiles = ", ".join(
        f"quantile_cont(abs({g}), 0.9) filter (aspect <> '{a}')" for a, g in zip(ASPECTS, GAPS, strict=True)
    )
    queries = {
        "duckdb: scan": f"select count(aspect), {', '.join(f'sum({g})' for g in GAPS)} {rows}",
        "duckdb: exact quantiles": f"select {quantiles} {rows}",
        "duckdb: PD, counted": f"select count(*) filter (p < -1), count(*) filter (p <= -0.9) from (select (-({votes}))::float p {rows})",
    }
    return {what: lambda query=query: connection.execute(query).fetchall() for what, query in queries.items()}


def _polars_ways(folder: Path) -> dict[str, Callable[[], Any]]:
    try:
        import polars as pl
    except ImportError:
        return {}
    rows = pl.scan_parquet(f"{folder}/*.parquet")
    votes = pl.sum_horizontal(
        pl.when(pl.col("aspect") == a).then(0.0).otherwise((pl.col(g).cast(pl.Float64) / 1.64).clip(-1, 1))
        for a, g in zip(ASPECTS, GAPS, strict=True)
    )
    queries = {
        "polars: scan": rows.select([pl.col("aspect").count(), *(pl.col(g).sum() for g in GAPS)]),
        "polars: exact quantiles": rows.select(
            [pl.col(g).abs().filter(pl.col("aspect") != a).quantile(0.9, "linear") for a, g in zip(ASPECTS, GAPS, strict=True)]
        ),
        "polars: PD, counted": rows.select((-votes).cast(pl.Float32).alias("p")).select(
            (pl.col("p") < -1).sum().alias("a"), (pl.col("p") <= -0.9).sum().alias("b")
        ),
    }  # fmt: skip
    return {what: lambda query=query: query.collect(engine="streaming") for what, query in queries.items()}


def _arrow_ways(folder: Path) -> dict[str, Callable[[], Any]]:
    files = sorted(folder.glob("*.parquet"))
    groups = [(file, group) for file in files for group in range(pq.read_metadata(file).num_row_groups)]

    def read(place: tuple[Path, int]) -> int:
        with pq.ParquetFile(place[0], read_dictionary=["aspect"]) as file:
            return file.read_row_group(place[1], columns=["aspect", *GAPS], use_threads=False).num_rows

    def scan() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(read, groups))

    return {"pyarrow: read into arrays": scan}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if "--worker" in sys.argv:
        print(json.dumps(worker(*sys.argv[-2:])))
    elif "--engines" in sys.argv:
        print(json.dumps(engines(), indent=2))
    else:
        print(json.dumps(measure("--quick" in sys.argv), indent=2))
