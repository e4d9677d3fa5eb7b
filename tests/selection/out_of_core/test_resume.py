"""A selection that is killed goes on; one that fails leaves what was there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pd_trl import PDFilter, select_out_of_core
from pd_trl.errors import InputError
from pd_trl.runs.artifacts import Manifest, read_rows
from pd_trl.selection import report_sums
from pd_trl.selection.out_of_core import run, run_out_of_core, writing
from tests.processes import ROOT
from tests.selection.out_of_core.data import same_selection, scored_rows, write_files

SLOWLY = """
import sys, time
from pd_trl import PDFilter
from pd_trl.selection import report_sums
from pd_trl.selection.out_of_core import run, run_out_of_core, writing

decided = writing._with_decision
def slow(*arguments):
    time.sleep(0.05)
    return decided(*arguments)
writing._with_decision = slow
run_out_of_core(PDFilter(0.3), sys.argv[1], sys.argv[2], rows_per_shard=40, batch_rows=10, num_threads=2)
"""


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*.parquet")}


@pytest.mark.multiprocess
def test_killed_it_goes_on_with_what_is_missing(tmp_path):
    data = scored_rows(1000, levels=2)
    folder, out = write_files(data, tmp_path / "in", 30), tmp_path / "out"
    partial = tmp_path / ".out.partial" / "out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(folder), str(out)], env=environment, cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(list((partial / "sums").glob("*.json"))) < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = {path.stem for path in (partial / "sums").glob("[0-9]*.json")}
    assert 5 <= len(done) < 20
    for path in partial.glob("*/train-*.parquet"):
        pq.read_table(path)  # what has its name is whole
    before = {p: s for p, s in state_of(partial).items() if p.name.split("-")[1] in done}
    found = PDFilter(0.3)
    result = run_out_of_core(found, folder, out, rows_per_shard=40, batch_rows=10)
    assert not result.skipped and not partial.exists()
    after = state_of(out)
    for path, seen in before.items():
        assert after[out / path.relative_to(partial)] == seen, "a finished shard was written again"
    same_selection(data, PDFilter(0.3), found, out)
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


def test_done_it_is_skipped_changed_it_is_refused_and_overwritten_when_told(tmp_path):
    folder, out = write_files(scored_rows(90), tmp_path / "in", 2), tmp_path / "out"
    first = select_out_of_core(folder, out, 0.3)
    created = state_of(out)
    assert select_out_of_core(folder, out, 0.3).created == first.created and state_of(out) == created
    with pytest.raises(InputError, match="another run .*budget"):
        select_out_of_core(folder, out, 0.5)
    assert state_of(out) == created
    assert select_out_of_core(folder, out, 0.5, overwrite=True).counts["kept"] == 45
    write_files(scored_rows(91), folder, 2)
    with pytest.raises(InputError, match="input 'scored'"):
        select_out_of_core(folder, out, 0.5)


def test_a_failure_leaves_the_earlier_result_and_another_selection_starts_anew(tmp_path, monkeypatch):
    folder, out = write_files(scored_rows(90), tmp_path / "in", 2), tmp_path / "out"
    select_out_of_core(folder, out, 0.3)
    before = state_of(out)
    decided, calls = writing._with_decision, []

    def full(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return decided(*arguments)

    monkeypatch.setattr(writing, "_with_decision", full)
    with pytest.raises(OSError, match="No space left"):
        run_out_of_core(PDFilter(0.5), folder, out, overwrite=True, rows_per_shard=20, batch_rows=10, num_threads=1)
    assert state_of(out) == before and Manifest.load(out).arguments["budget"] == 0.3
    partial = tmp_path / ".out.partial" / "out"
    assert not [p for p in partial.rglob("*") if p.name.startswith(".train")], "half a file was left"
    assert len(list((partial / "sums").glob("*.json"))) == 1
    monkeypatch.setattr(writing, "_with_decision", decided)
    # The shards that are there were made by another budget.
    run_out_of_core(PDFilter(0.7), folder, out, overwrite=True, rows_per_shard=20, batch_rows=10)
    assert len(read_rows(out / "selected")) == 63 and not partial.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.lock", "in", "out"]


def test_shards_of_a_version_that_summed_otherwise_are_written_again(tmp_path, monkeypatch):
    data = scored_rows(90)
    folder, out = write_files(data, tmp_path / "in", 2), tmp_path / "out"
    to_dict = report_sums.ReportSums.to_dict

    def without_decided(self):
        return {name: [v[0], v[2]] if name.startswith("agrees_") else v for name, v in to_dict(self).items()}

    with monkeypatch.context() as earlier:
        earlier.setattr(run, "FORM", report_sums.FORM - 1)
        earlier.setattr(report_sums.ReportSums, "to_dict", without_decided)
        earlier.setattr(run, "check_unique", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_out_of_core(PDFilter(0.3), folder, out, rows_per_shard=90)
    found = PDFilter(0.3)
    run_out_of_core(found, folder, out, rows_per_shard=90)
    same_selection(data, PDFilter(0.3), found, out)


def test_the_whole_budget_and_one_pair(tmp_path):
    folder = write_files(scored_rows(90), tmp_path / "in", 2)
    run_out_of_core(PDFilter(1.0), folder, tmp_path / "all", rows_per_shard=20)
    assert len(read_rows(tmp_path / "all" / "selected")) == 90 and len(read_rows(tmp_path / "all" / "dropped")) == 0
    run_out_of_core(PDFilter(1), folder, tmp_path / "one", rows_per_shard=20)
    assert len(read_rows(tmp_path / "one" / "selected")) == 1 and len(read_rows(tmp_path / "one" / "dropped")) == 89
    assert json.loads((tmp_path / "one" / "report.json").read_text())["kept"] == 1
