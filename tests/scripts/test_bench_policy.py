"""bench_policy: what its arms train on is what PDFilter keeps, and a benchmark that was stopped ends as one that was not."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pd_trl import PDFilter, policy_margins
from pd_trl.method.ranking import SELECTORS
from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
pytest.importorskip("peft", reason="peft is not installed: pip install peft")

import bench_policy  # noqa: E402
from real_data.cells import CellStore  # noqa: E402
from real_data.settings import LM  # noqa: E402
from real_policy import generation, rivals  # noqa: E402
from real_policy.cells import PolicyBench  # noqa: E402
from real_policy.costs import dry_run  # noqa: E402
from real_policy.intervals import counts, difference, interval_lines  # noqa: E402
from real_policy.measures import mean_and_error, measures  # noqa: E402
from real_policy.pairs import ARMS, conversations  # noqa: E402
from real_policy.rivals import Rivals, rivals_table  # noqa: E402
from real_policy.settings import PolicySettings  # noqa: E402
from real_policy.tables import report  # noqa: E402
from real_policy.training import Reference, read  # noqa: E402

SETTINGS = PolicySettings(
    layers=1, lora_rank=2, pairs=24, proxy_pairs=60, held_out=12, max_tokens=60, learning_rate=1e-2
)
OASST = "oasst1_en_validation"


@pytest.fixture
def make(shared_data, tiny_models, monkeypatch):
    monkeypatch.setitem(LM, "layers", (2,))

    def bench(output: Path) -> PolicyBench:
        store = CellStore(shared_data, output / "proxies", 3, None, Path(tiny_models["causal"]), (2,))
        return PolicyBench(store, Reference(Path(tiny_models["causal"]), output), output)

    return bench


def without_times(record: dict) -> dict:
    training = {k: v for k, v in record["training"].items() if "seconds" not in k}
    return {k: v for k, v in record.items() if "seconds" not in k} | {"training": training}


def test_arms_train_on_what_the_filter_keeps_and_nothing_held_out(make, tmp_path):
    pairs = make(tmp_path).pairs(OASST, 1, SETTINGS)
    scored, count = pairs.scored(), round(0.3 * len(pairs.pool))
    for name, selector in (("PD (ours)", "pd"), ("PD (high)", "pd_high"), ("RAF", "margin"), ("RAND", "random")):
        kept = PDFilter(count, selector=selector, seed=1)(scored)
        rows, turned = pairs.rows_of(ARMS[name])
        assert sorted(pairs.labelled.pair_ids[rows]) == sorted(kept["pair_id"]) and not turned.any()
    ratings = PDFilter(count, source="ratings", on_no_votes="drop")(scored)
    assert set(pairs.labelled.pair_ids[pairs.rows_of(ARMS["PD (rati.)"])[0]]) == set(ratings["pair_id"])
    # With the overall label, each pair's better response is the chosen one.
    rows, turned = pairs.rows_of(ARMS["OVA"])
    assert np.array_equal(np.where(turned, -1, 1), pairs.labelled.overall[rows]) and turned.any()
    given, real = conversations(pairs.labelled, rows, turned), pairs.labelled
    first = int(np.flatnonzero(turned)[0])
    assert given[first]["chosen"][0]["content"] == real.texts[real.rejected[rows[first]]][1]
    # No prompt and no response of a held-out pair has a part in training or selection.
    held_out = pairs.held_out
    assert not set(held_out.rows["prompt_id"]) & set(real.rows["prompt_id"])
    assert not {text for _, text in held_out.texts} & {text for _, text in real.texts}
    assert len(held_out) == 12 and len(pairs.pool) == 24 and len(real) == 60


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_as_if_it_had_not(make, tmp_path):
    arms = [ARMS[name] for name in ("RAND", "ALL, one epoch")]
    whole = make(tmp_path / "whole")
    expected = [without_times(whole.cell(OASST, 1, arm, SETTINGS)) for arm in arms]
    make(tmp_path / "parts").cell(OASST, 1, arms[1], SETTINGS)
    again = make(tmp_path / "parts")
    assert [without_times(again.cell(OASST, 1, arm, SETTINGS)) for arm in arms] == expected
    # Cells on disk are read, not trained again, and other settings are other cells.
    path = again.path(OASST, 1, arms[0], SETTINGS)
    written = path.stat().st_mtime_ns
    assert without_times(make(tmp_path / "parts").cell(OASST, 1, arms[0], SETTINGS)) == expected[0]
    assert path.stat().st_mtime_ns == written and path.with_suffix("").is_dir()
    assert again.path(OASST, 1, arms[0], SETTINGS.changed(beta=0.5)) != path
    # The reference is the model itself: before the first step no response is preferred.
    assert [record["training"]["first_loss"] for record in expected] == pytest.approx([math.log(2)] * 2, abs=1e-5)
    assert [record["training"]["steps"] for record in expected] == [1, 6]
    assert min(record["measures"]["margin"] for record in expected) > 0
    found = {
        "command": "c",
        "model": "m",
        "settings": SETTINGS.as_dict(),
        "left_out": ["x"],
        "missing": [],
        "records": expected,
    }
    assert "| RAND | 1 | 7 × 1 |" in report(found)
    left = "\n".join(dry_run(again, [OASST], [1, 2], [arm.name for arm in arms], SETTINGS))
    assert left.count("| there |") == 2 and "CPU hours are left" in left


def test_only_the_top_layers_are_trained(make, tmp_path):
    bench = make(tmp_path)
    pairs = bench.pairs(OASST, 1, SETTINGS)
    rows, turned = pairs.rows_of(ARMS["RAND"])
    from real_policy.training import trained

    before = dict(bench.reference.model().named_parameters())
    for rank in (0, 2):
        model, _ = trained(bench.reference, pairs.labelled, rows, turned, 1, SETTINGS.changed(lora_rank=rank), 1)
        after = dict((model.merge_and_unload() if rank else model).named_parameters())
        changed = {name for name in before if not before[name].equal(after[name])}
        assert changed and all(name.startswith("model.layers.1.") for name in changed)


def test_a_pairs_numbers_do_not_depend_on_its_neighbours_or_its_label(make, tmp_path):
    bench = make(tmp_path)
    real = bench.pairs(OASST, 1, SETTINGS).held_out
    rows = np.arange(len(real))
    whole = read(bench.reference.model(), bench.reference.tokenizer, conversations(real, rows))
    ours = bench.reference.log_probs(real, rows[::-1])
    np.testing.assert_allclose(ours[0][::-1], whole[0], atol=1e-4)
    np.testing.assert_allclose(ours[1][::-1], whole[1], atol=1e-4)
    real.chosen, real.rejected = real.rejected, real.chosen
    turned = Reference(bench.reference.folder, tmp_path / "other").log_probs(real, rows)
    assert np.array_equal(turned[0][::-1], ours[1]) and np.array_equal(turned[1][::-1], ours[0])


def test_measures_by_hand(make, tmp_path):
    real = make(tmp_path).pairs(OASST, 1, SETTINGS).held_out
    real.aspects, real.own = ["a", "b"], np.array([0, 1, 0])
    real.votes, real.overall = np.array([[1, -1], [1, 1], [1, 0]], dtype=np.int8), np.array([1, -1, 0], dtype=np.int8)
    found = measures(real, np.array([2.0, -1.0, 0.0]), np.array([4, 2, -6]))
    # Hidden: -1 against +, +1 against -, and none.
    assert (found["own"], found["hidden"], found["overall"]) == (0.5, 0.0, 1.0)
    assert found["by_aspect"] == {"a": 0.5, "b": 0.0} and found["aspects"] == 0.25
    assert (found["longer"], found["margin"]) == (0.5, 1.0)
    assert found["length_correlation"] == pytest.approx(np.corrcoef([2, -1, 0], [4, 2, -6])[0, 1])
    assert measures(real, np.zeros(3), np.array([4, 2, -6]))["length_correlation"] is None
    assert mean_and_error([1.0, 3.0, None]) == (2.0, 1.0) and mean_and_error([1.0]) == (1.0, None)


@pytest.mark.slow
def test_answers_are_compared_with_those_of_the_base(make, shared_data, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "MAX_NEW_TOKENS", 4)
    bench = make(tmp_path)
    prompts = generation.prompts_of(shared_data / "prompts.parquet", 3, bench)
    assert len(set(prompts)) == 3 and max(bench.reference.lengths(prompts)) <= generation.MAX_PROMPT_TOKENS
    # A policy that did not move answers as the base does.
    still, arm = SETTINGS.changed(learning_rate=1e-12), ARMS["ALL"]
    bench.cell(OASST, 1, arm, still)
    lines, (entry,) = generation.generation_table(bench, [(OASST, 1, arm)], still, prompts)
    assert set(entry["wins"]) == set(bench.pairs(OASST, 1, still).labelled.aspects)
    assert set(entry["wins"].values()) == {0.5} and any("| ALL | 1 | 50.0 |" in line for line in lines)
    # The heads learn which side each label prefers.
    judge = generation.HeldOutJudge(bench, OASST, 1, still)
    real = bench.pairs(OASST, 1, still).held_out
    texts = [list(zip(*(real.texts[i] for i in side), strict=True)) for side in (real.chosen, real.rejected)]
    chosen, rejected = (judge.rewards(*side) for side in texts)
    right = [
        np.sign(chosen[a] - rejected[a])[real.votes[:, k] != 0] == real.votes[real.votes[:, k] != 0, k]
        for k, a in enumerate(real.aspects)
    ]
    assert np.concatenate(right).mean() > 0.55


@pytest.mark.slow
def test_selectors_of_other_papers_rank_the_same_pairs(make, tmp_path, monkeypatch):
    bench, seed = make(tmp_path), 1
    found = Rivals(bench, OASST, seed, SETTINGS)
    rows = found.rows()
    pairs, real = found.pairs, found.pairs.labelled
    assert rows["pair_id"][:] == real.pair_ids[pairs.pool].tolist()
    # The margins are those that the library reads from the policy's folder and the model before training.
    adapter = bench.path(OASST, seed, ARMS["RAND"], SETTINGS).with_suffix("")
    expected = policy_margins(
        conversations(real, pairs.pool), str(adapter), str(bench.reference.folder), beta=SETTINGS.beta
    )
    base = policy_margins(conversations(real, pairs.pool), str(bench.reference.folder))
    for name, numbers in (("implicit_margin", expected), ("logp_distance", base), ("edit_distance", base)):
        np.testing.assert_allclose(rows[name][:], numbers[name][:], atol=2e-4)
    assert np.median(np.abs(rows["implicit_margin"][:])) > 1e-3
    # No policy reads a prompt that it trained on, and before the first step a loss would be log 2.
    losses = np.array(rows["validation_loss"][:])
    assert np.isfinite(losses).all() and losses.std() > 1e-3 and abs(losses.mean() - math.log(2)) < 0.3
    parts = [set(np.array(rows["prompt_id"][:])[found._kept(f"part-{i}", None)["rows"]]) for i in range(2)]
    assert parts[0] and parts[1] and not parts[0] & parts[1]
    # Started again, nothing is read and nothing trained.
    monkeypatch.setattr(rivals, "trained", None)
    monkeypatch.setattr(rivals, "policy_margins", None)
    again = make(tmp_path)
    lines, (entry,) = rivals_table(again, [OASST], [seed], SETTINGS)
    assert set(entry["selectors"]) == {"all", *SELECTORS} and entry["pool"] == 24
    kept = PDFilter(0.3, selector="bees")(rows)
    assert entry["selectors"]["bees"]["longer"] == pytest.approx(np.mean(np.array(kept["delta_length"][:]) > 0))
    assert any(line.startswith("| selective_dpo |") for line in lines) and "CPU minutes a seed: policy" in lines[-1]


def test_differences_from_all_over_prompts(make, tmp_path):
    bench = make(tmp_path)
    real = bench.pairs(OASST, 1, SETTINGS).held_out
    rng = np.random.default_rng(0)
    base, ours = rng.normal(size=len(real)), rng.normal(size=len(real))
    deltas = np.ones(len(real), dtype=int)
    for measure in ("hidden", "overall"):
        expected = [measures(real, margins, deltas)[measure] for margins in (ours, base)]
        found = [counts(real, margins, measure) for margins in (ours, base)]
        assert [part.sum(0)[0] / part.sum(0)[1] for part in found] == pytest.approx(expected)
        mean, low, high = difference([tuple(found)])
        assert mean == pytest.approx(expected[0] - expected[1]) and low < mean < high
        # Twice as many seeds of the same pairs: the same mean, a narrower interval.
        again, narrow, wide = difference([tuple(found), tuple(found)])
        assert again == pytest.approx(mean) and wide - narrow < 0.9 * (high - low)
    # By hand: of one prompt's two labels both are won, of the other's one none. Drawn twice or not at all: 1 to -1.
    hand = difference([(np.array([[2.0, 2.0], [0.0, 1.0]]), np.array([[0.0, 2.0], [1.0, 1.0]]))])
    assert hand == pytest.approx((1 / 3, -1.0, 1.0))
    records = [
        {"set": OASST, "seed": 1, "arm": arm, "margins": margins.tolist()}
        for arm, margins in (("ALL", base), ("RAND", base), ("OVA", ours))
    ]
    lines = interval_lines(bench, records, SETTINGS)
    assert "| RAND | 1 | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] |" in lines and len(lines) == 7
    assert interval_lines(bench, records[1:], SETTINGS) == []


def test_arms_that_a_set_does_not_have_are_said(make, tmp_path):
    bench = make(tmp_path)
    cells, left_out = bench.grid(["hh_rlhf_test"], [1], ["ALL", "OVA", "PD (rati.)"], SETTINGS)
    assert [arm.name for _, _, arm in cells] == ["ALL"] and len(left_out) == 2
    assert "no overall label" in left_out[0] and "ratings of a second aspect" in left_out[1]
    # Nearly all ratings of an aspect are ties: γ has nothing to scale by.
    cells, left_out = bench.grid(
        ["truthfulqa_pairs"], [1], ["ALL", "PD (rati.)"], replace(SETTINGS, pairs=320, proxy_pairs=320)
    )
    assert [arm.name for _, _, arm in cells] == ["ALL"] and len(left_out) == 1
    assert "0.9-quantile" in left_out[0] and "informative" in left_out[0]


@pytest.mark.parametrize(
    "arguments,said", [(["--seeds", "0"], "seed 0"), (["--budget", "2"], "--budget"), (["--data", "x"], "--data")]
)
def test_bad_input_is_one_line(arguments, said, shared_data, monkeypatch, capsys, tmp_path):
    given = ["--data", str(shared_data), "--output", str(tmp_path), *arguments]
    monkeypatch.setattr(sys, "argv", ["bench_policy.py", *given])
    with pytest.raises(SystemExit) as stopped:
        bench_policy.main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1
