"""`pd-trl rivals`: the columns of other papers' selectors from a command, and selections by them."""

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import policy_margins, rival_scores
from pd_trl.runs.artifacts import Manifest, read_rows, write_rows
from tests.cli.conftest import make_scored


@pytest.fixture
def scored(write):
    rows = make_scored(12)
    for i, row in enumerate(rows):
        row["reward_gap_overall"] = 0.3 * ((i * 5) % 7 - 2)
    return write(rows)


def test_columns_are_the_functions_and_select_ranks_by_them(command, scored, tiny_models, tmp_path):
    policy, base = tiny_models["causal"], tiny_models["causal"]
    arguments = [
        "rivals",
        "--dataset_name",
        scored,
        "--policy",
        policy,
        "--beta",
        0.5,
        "--batch_size",
        4,
        "--output_dir",
        tmp_path / "rivals",
    ]
    cross_fit = [
        "--cross_fit",
        base,
        "--repeats",
        1,
        "--training",
        "{max_steps: 1, per_device_train_batch_size: 4, use_cpu: true}",
    ]
    dry = command(*arguments, *cross_fit, "--dry_run")
    assert dry.code == 0 and "12 pairs" in dry.out and not (tmp_path / "rivals").exists()
    done = command(*arguments, *cross_fit)
    assert done.code == 0, done.err
    assert "Selectors that can rank: pd, pd_high, random, margin, length, pareto, difficulty, alignment_potential, dcrm, bees, selective_dpo." in done.out  # fmt: skip
    rows = read_rows(tmp_path / "rivals" / "scored")
    expected = rival_scores(policy_margins(read_rows(tmp_path / "rivals" / "scored"), policy, beta=0.5, batch_size=4))
    for name in ("implicit_margin", "edit_distance", "worst_gap", "bees", "alignment_potential"):
        np.testing.assert_allclose(rows[name][:], expected[name][:], rtol=1e-5, atol=1e-6, err_msg=name)
    assert np.isfinite(rows["validation_loss"][:]).all()
    assert "already done" in command(*arguments, *cross_fit).out
    for out_of_core in ("false", "true"):
        folder = tmp_path / f"bees-{out_of_core}"
        kept = command("select", "--dataset_name", tmp_path / "rivals", "--selector", "bees", "--budget", 4, "--output_dir", folder,
                       "--out_of_core", out_of_core)  # fmt: skip
        assert kept.code == 0, kept.err
        best = np.argsort(-np.asarray(rows["bees"][:]))[:4]
        assert set(read_rows(folder / "selected")["pair_id"]) == {rows["pair_id"][int(i)] for i in best}


def test_without_a_policy_pareto_and_the_proxies_record_are_left(command, scored, tmp_path):
    source = tmp_path / "score"
    manifest = Manifest("score", results={"proxy_metrics": {"honesty": {"pair_accuracy": 0.7}}})
    source.mkdir()
    write_rows(Dataset.from_list(make_scored(12)), source / "scored")
    manifest.save(source)
    done = command("rivals", "--dataset_name", source, "--output_dir", tmp_path / "rivals")
    assert done.code == 0 and "New columns: worst_gap." in done.out, done
    assert Manifest.load(tmp_path / "rivals").results["proxy_metrics"] == {"honesty": {"pair_accuracy": 0.7}}
    none = command("rivals", "--dataset_name", source, "--output_dir", tmp_path / "none", "--selectors", "none")
    assert none.code == 0 and "New columns: none." in none.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "x"], ["`reference` needs `policy`"]),
        (["--training", "{beta: 1}"], ["`training` needs `cross_fit`"]),
        (["--folds", 1], ["`folds` must be at least 2"]),
        (["--selectors", "bees"], ["implicit_margin", "policy_margins"]),
        (["--selectors", "nonsense"], ["pareto, alignment_potential, bees"]),
        (["--policy", "no/such/model/here"], ["no/such/model/here"]),
    ],
)
def test_refusals(command, scored, tmp_path, arguments, words):
    outcome = command("rivals", "--dataset_name", scored, "--output_dir", tmp_path / "rivals", *arguments)
    outcome.refused(*words)
    assert not (tmp_path / "rivals").exists()
