"""bench_sensitivity: its reference is bench_real's row, fewer aspects mean fewer votes, and a share of the labels trains other proxies."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pd_trl import preference_divergence
from pd_trl.runs.artifacts import read_rows
from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from real_data.agreement import divergence, keep  # noqa: E402
from real_data.cells import CellStore  # noqa: E402
from real_data.results import set_results  # noqa: E402
from real_data.sensitivity import set_sensitivity  # noqa: E402
from real_data.sets import load_set  # noqa: E402


def gains(found: dict, part: str) -> dict[str, dict]:
    return {row["setting"]: row["hidden"] for row in found["rows"] if row["part"] == part}


def test_the_reference_is_bench_reals_row(shared_data, tmp_path):
    store = CellStore(shared_data, tmp_path, folds=3, max_prompts=20)
    found = set_sensitivity(store, "summeval", "ngrams", [1, 2], ["decorrelate"], [0.25], 100)
    expected = set_results(store, "summeval", "ngrams", ["none", "decorrelate"], [1, 2], [0.3], 100)
    row = next(entry for entry in expected["rows"] if entry["row"] == "PD [none]")
    settings = len(found["aspects"])
    for part, setting in (("budget", "0.3"), ("gamma", "0.9"), ("aspects", f"{settings} of {settings}")):
        gain = gains(found, part)[setting]["gain"]
        wanted = row["hidden"]["kept - all"]
        np.testing.assert_allclose(
            [gain["mean"], *gain["interval"]], [wanted["mean"], *wanted["interval"]], err_msg=part
        )
    handled = next(entry for entry in expected["rows"] if entry["row"] == "PD [decorrelate]")
    assert gains(found, "length handling")["decorrelate"]["gain"] == handled["hidden"]["kept - all"]
    assert gains(found, "gamma")["0.9"]["from reference"]["mean"] == 0
    # Proxies of a quarter of the labels have folders of their own.
    whole, part = (
        read_rows(tmp_path / "summeval" / "seed-1" / "ngrams" / name) for name in ("none", "none-share-0.25")
    )
    assert not np.allclose(whole["reward_gap_coherence"][:], part["reward_gap_coherence"][:])


def test_fewer_voters_are_zero_weights_and_fewer_pairs(shared_data):
    real = load_set(shared_data / "summeval.parquet", seed=1, folds=2, max_prompts=20)
    gaps = np.random.default_rng(0).normal(size=(len(real), 4)).astype(np.float32)
    values = divergence(real, gaps, voters=(0, 2))
    rows = (real.folds == 1) & np.isin(real.own, (0, 2))
    expected = preference_divergence(
        gaps[real.folds == 1], real.own[real.folds == 1], 0.9, np.array([1.0, 0, 1, 0]), aspect_names=real.aspects,
        allow_missing=True, allow_no_votes=True,
    ).values  # fmt: skip
    np.testing.assert_allclose(values[rows], expected[np.isin(real.own[real.folds == 1], (0, 2))])
    pool = np.isin(real.own, (0, 2))
    kept = keep(real, values, 0.5, pool)
    assert not kept[~pool].any()
    assert [kept[real.folds == f].sum() for f in (0, 1)] == [round(pool[real.folds == f].sum() * 0.5) for f in (0, 1)]


def test_a_share_of_the_training_rows_is_nested(shared_data):
    real = load_set(shared_data / "summeval.parquet", seed=1, folds=2, max_prompts=20)
    rows = {}
    for share in (0.25, 0.5, 1.0):
        real.train_share = share
        rows[share] = set(real.training_rows(0)[0].tolist())
    assert rows[0.25] < rows[0.5] < rows[1.0]
    assert abs(len(rows[0.25]) / len(rows[1.0]) - 0.25) < 0.1


@pytest.mark.slow
def test_the_command_and_its_refusals(shared_data, tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "bench_sensitivity.py"), "--data", str(shared_data)]
    script += ["--output", str(tmp_path), "--proxies", "ngrams", "--handlings", "none", "--sets", "summeval"]
    script += ["--max_prompts", "10", "--resamples", "20", "--seeds", "1"]
    refused = subprocess.run([*script, "--train_shares", "2"], capture_output=True, text=True)
    assert refused.returncode == 2 and "between 0 and 1" in refused.stderr and "Traceback" not in refused.stderr
    result = subprocess.run([*script, "--train_shares", "none"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "| aspects | 2 of 4 |" in result.stdout
    assert json.loads((tmp_path / "sensitivity.json").read_text())["results"][0]["set"] == "summeval"
