"""Whole runs: the quickstart in small, real data, and a policy whose training is killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pd_trl.runs.artifacts import Manifest, read_json, read_rows
from pd_trl.runs.results import load_results
from tests.processes import ROOT

SMALL_WORLD = {
    "simulate.num_pairs": 240,
    "simulate.num_texts": 600,
    "simulate.num_prompts": 24,
    "reward.num_train_epochs": 1,
    "reward.heldout": 0.2,
}


def test_the_quickstart_in_small(command, tmp_path):
    overrides = [part for key, value in SMALL_WORLD.items() for part in (f"--{key}", value)]
    arguments = ["run", "--config", "quickstart", "--output_dir", tmp_path / "run", *overrides]
    first = command(*arguments)
    assert first.code == 0, first.err
    run = tmp_path / "run"
    selection = Manifest.load(run / "select").counts
    assert selection == {"total": 240, "kept": 72, "dropped": 168}
    kept, dropped = read_rows(run / "select" / "selected"), read_rows(run / "select" / "dropped")
    assert (len(kept), len(dropped)) == (72, 168) and max(kept["pd"]) <= min(dropped["pd"])
    assert set(kept["pair_id"]) | set(dropped["pair_id"]) == set(read_rows(run / "prepare" / "pairs")["pair_id"])
    assert Manifest.load(run / "dpo").counts == {"given": 72, "trained on": 72}
    assert "on **72 of 240** preference pairs. They are the pairs of lowest" in (run / "dpo" / "README.md").read_text()
    assert (
        "selected by the rule `random`, a baseline" in (run / "compare" / "random" / "dpo" / "README.md").read_text()
    )
    assert Manifest.load(run / "compare" / "all" / "dpo").counts["trained on"] == 240
    results = read_json(run / "judge" / "results.json")
    assert list(results) == ["SFT", "PD", "all", "random"]
    assert all(entry["num_outputs"] == 24 for entry in results.values())
    assert "win rate against SFT" in first.out and str(run / "select") in first.out
    pairwise = {record.baseline: record for record in load_results(run / "evaluate" / "pairwise")}
    assert list(pairwise) == ["SFT", "all", "random"]
    assert pairwise["SFT"].value == pytest.approx(results["PD"]["against"]["SFT"]["win_score"])
    assert f"Win score of PD against all: {pairwise['all'].value:.3f}" in first.out
    again = command(*arguments)
    assert again.code == 0 and again.out.count("already done") == 15
    assert f"Win score of PD against all: {pairwise['all'].value:.3f}" in again.out
    assert results == read_json(run / "judge" / "results.json")


LONG_TEXTS = pytest.param("hellobench_chat", 5, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "num_aspects"), [("summeval", 4), LONG_TEXTS])
def test_real_data(command, shared_data, tiny_models, tmp_path, name, num_aspects):
    outcome = command(
        "run", "--config", "real-data", "--dataset_name", shared_data / f"{name}.parquet",
        "--model_name_or_path", tiny_models["causal"], "--output_dir", tmp_path / "run",
        "--prepare.max_pairs", 150, "--reward.max_steps", 2, "--reward.max_length", 2000, "--score.max_length", 512,
        "--reward.per_device_train_batch_size", 2, "--reward.per_device_eval_batch_size", 2,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    prepared, scored, selected = (
        Manifest.load(tmp_path / "run" / stage).counts for stage in ("prepare", "score", "select")
    )
    assert prepared["pairs"] == 150 == prepared["kept"] + prepared["dropped"]
    assert prepared["rows"] == scored["scored"] == selected["total"] == selected["kept"] + selected["dropped"]
    report = read_json(tmp_path / "run" / "select" / "report.json")
    assert len(report["aspects"]) == num_aspects
    assert sum(entry["kept"] for entry in report["kept_by_aspect"].values()) == selected["kept"]
    assert sum(entry["total"] for entry in report["kept_by_votes"].values()) == selected["total"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_policy_whose_training_is_killed_ends_the_same(sources, tiny_models, tmp_path):
    def start(folder: Path) -> subprocess.Popen:
        arguments = {
            "dataset_name": sources["scored"], "model_name_or_path": tiny_models["causal"], "output_dir": folder,
            "pd_budget": 0.8, "num_train_epochs": 15, "per_device_train_batch_size": 4, "save_steps": 5, "save_total_limit": 2,
            "learning_rate": 1e-2,
        }  # fmt: skip
        flags = [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "pd_trl", "dpo", *flags]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    generator = random.Random(3)
    kills = 0
    for _ in range(6):
        process = start(tmp_path / "killed")
        newest = _newest_checkpoint(tmp_path / "killed")
        while process.poll() is None and kills < 2:
            if _newest_checkpoint(tmp_path / "killed") > newest + 5 * generator.randint(0, 2):
                time.sleep(generator.random() * 0.2)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        errors = process.communicate(timeout=120)[1].decode()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors[-2000:]
    assert kills == 2 and process.returncode == 0
    whole = start(tmp_path / "whole")
    assert whole.wait(timeout=120) == 0
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, atol=1e-5, err_msg=name)
    assert Manifest.load(tmp_path / "killed").counts == Manifest.load(tmp_path / "whole").counts


def _newest_checkpoint(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)
