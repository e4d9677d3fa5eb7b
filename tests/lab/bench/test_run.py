import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from pd_trl.errors import InputError
from pd_trl.lab.bench.cell import Cell
from pd_trl.lab.bench.changes import CHANGES, _slope
from pd_trl.lab.bench.rows import PD, ROWS, Selection, decide, training_rows
from pd_trl.lab.bench.run import gather, run_units, table_units
from pd_trl.lab.bench.settings import QUICK, CellSettings
from pd_trl.lab.bench.tables import gold_table
from pd_trl.pipeline.stages.bench import BenchArguments, run_bench

SMALL = {"num_pairs": 1500, "num_texts": 8000, "num_prompts": 150, "noise": 0.2}


@pytest.fixture(scope="module")
def bench():
    return replace(QUICK, world=SMALL, dpo={**QUICK.dpo, "learning_rate": 1e-3})


@pytest.fixture(scope="module")
def results(bench, tmp_path_factory):
    """The table in the size of a test, through the same workers as the real one."""
    root = tmp_path_factory.mktemp("bench")
    units = table_units(bench, ["ALL", "PD (ours)", "PD (high)"])
    said = []
    found = run_units(units, bench, root, jobs=1, say=said.append)
    return root, units, found, said


@pytest.mark.slow
def test_the_claims_that_are_safe_at_any_size(bench, results):
    _, units, found, _ = results
    (numbers,) = found.values()
    gold = {name: row["gold"] for name, row in numbers["rows"].items()}
    assert min(gold, key=gold.get) == "PD (high)"
    assert gold["PD (high)"] < gold["SFT"]
    assert numbers["detection"]["PD (ours)"]["auc"] > 0.7
    assert numbers["detection"]["PD (ours)"]["conflict"] < numbers["conflict"] / 2
    assert "PD (high)" in gold_table(gather(bench, units, {}, found)["table"])


@pytest.mark.slow
def test_second_run_reads_what_the_first_left(bench, results):
    root, units, found, _ = results
    said = []
    assert json.dumps(run_units(units, bench, root, 1, said.append)) == json.dumps(found)
    assert said == ["1 of 1 units are done already."]


@pytest.mark.slow
def test_every_row_has_its_pairs_and_every_change_keeps_rows_and_order(bench, results):
    root, units, _, _ = results
    cell = Cell(units[0].settings, bench, root)
    preferences = cell.preferences
    for name in ("OVA", "AVG", "OVA, no error", "RAND", "PD (rati.)", "PD (ours)", "OVA on PD"):
        rows, _ = training_rows(cell, ROWS[name])
        assert set(rows["pair_id"]) <= set(preferences["pair_id"]), name
    truth, _ = training_rows(cell, ROWS["OVA, no error"])
    gold = {row["pair_id"]: row for row in preferences}
    for row in truth.select(range(50)):
        own = gold[row["pair_id"]]
        better = own["gold_overall_chosen"] > own["gold_overall_rejected"]
        assert row["chosen"] == (own["chosen"] if better else own["rejected"])
    assert set(training_rows(cell, ROWS["OVA on PD"])[0]["pair_id"]) == set(
        training_rows(cell, ROWS["PD (ours)"])[0]["pair_id"]
    )
    scored, _ = cell.scored(PD.proxy)
    for name in set(CHANGES) - {"ensemble"}:
        changed, _ = CHANGES[name](cell, scored)
        assert changed["pair_id"] == scored["pair_id"], name
        settings = {"pd_column": "pd_changed"} if "pd_changed" in changed.column_names else {}
        selection = Selection(source="column" if settings else "rewards", change=name, settings=settings)
        decided, _ = decide(cell, selection)
        assert sum(decided["pd_kept"]) == int(np.ceil(0.3 * len(scored))), name


@pytest.mark.slow
def test_covering_prompts_keeps_the_best_pair_of_every_prompt(bench, results):
    root, units, _, _ = results
    cell = Cell(units[0].settings, bench, root)
    selection = Selection(source="column", change="covers prompts", settings={"pd_column": "pd_changed"})
    decided, _ = decide(cell, selection)
    kept = decided.select(np.flatnonzero(decided["pd_kept"]))
    assert set(kept["prompt_id"]) == set(decided["prompt_id"])


def test_adversarial_annotator_answers_the_opposite(bench, tmp_path):
    plain, adverse = (
        Cell(CellSettings(5, None, num_pairs=300, adversarial=name), bench, tmp_path).pairs
        for name in (None, "honesty")
    )
    assert [1 - v for v in plain["pref_honesty"]] == adverse["pref_honesty"]
    assert plain["pref_helpfulness"] == adverse["pref_helpfulness"]


def test_slope_of_a_coin_is_zero_and_of_a_good_proxy_is_not():
    rng = np.random.default_rng(0)
    gaps = rng.normal(size=2000)
    labels = np.where(rng.random(2000) < 1 / (1 + np.exp(-1.5 * gaps)), 1, -1)
    assert _slope(gaps * labels) == pytest.approx(1.5, abs=0.2)
    assert _slope(-np.abs(gaps)) == 0.0


def test_unit_that_cannot_run_is_reported_and_the_others_go_on(bench, tmp_path):
    settings = CellSettings(3, num_aspects=9)
    unit = replace(table_units(bench, ["ALL"])[0], settings=settings)
    found = run_units([unit], bench, tmp_path, 1, lambda line: None)
    assert "must be between 2 and 8" in found[unit.key(bench)]["error"]


def test_settings_that_make_no_benchmark():
    with pytest.raises(InputError, match="seeds"):
        replace(QUICK, seeds=())
    with pytest.raises(InputError, match="conflicts"):
        replace(QUICK, conflicts=(0.0,))


@pytest.mark.parametrize("seeds", ["1.5", "-1", "1,x", "", ["1", "x"]])
def test_seeds_are_whole_numbers(seeds, tmp_path):
    with pytest.raises(InputError, match="`seeds` must be (whole numbers of )?at least"):
        run_bench(BenchArguments(str(tmp_path / "bench"), seeds=seeds, dry_run=True))
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_run_that_is_stopped(tmp_path, number):
    arguments = [
        "bench",
        "--quick",
        "true",
        "--num_pairs",
        "600",
        "--jobs",
        "1",
        "--output_dir",
        str(tmp_path / "bench"),
    ]
    # A group of its own, all of which Ctrl-C reaches.
    process = subprocess.Popen(
        [sys.executable, "-m", "pd_trl", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # The unit is at work once it makes the world's model.
    models = tmp_path / "bench" / "models"
    deadline = time.monotonic() + 180
    workers = []
    try:
        while not models.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert models.exists() and workers
        time.sleep(3)
        if number == signal.SIGINT:
            # People press Ctrl-C more than once, at any moment of its ending.
            for _ in range(20):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                time.sleep(0.02)
        else:
            process.kill()
        _, said = process.communicate(timeout=60)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert alive == []
        if number == signal.SIGINT:
            assert process.returncode == 130 and "the same command goes on" in said
    finally:
        for one in [*workers, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
