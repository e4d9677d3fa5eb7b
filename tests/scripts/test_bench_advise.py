"""The worlds of the calibration, and its tables."""

import importlib.util

import numpy as np
import pytest

from tests.processes import ROOT


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_advise", ROOT / "scripts" / "bench_advise.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_worlds_differ_and_stay_the_same(bench):
    pairs = [bench.World(number).pairs(50, np.random.default_rng(0)) for number in (3, 3, 4)]
    assert np.array_equal(pairs[0].gaps, pairs[1].gaps) and np.array_equal(pairs[0].agrees, pairs[1].agrees)
    assert pairs[0].gaps.shape != pairs[2].gaps.shape or not np.array_equal(pairs[0].gaps, pairs[2].gaps)
    aspects = {bench.World(number).aspects for number in range(40)}
    assert aspects == {2, 3, 4, 5, 6}


def test_true_effects_are_those_of_the_filter(bench):
    from pd_trl import PDFilter

    pairs = bench.World(1).pairs(300, np.random.default_rng(0))
    truth = bench.true_effects(pairs, [0.3])
    rows = pairs.rows()
    share = {
        name: np.mean(np.array(PDFilter(0.3, selector=name)(rows)["vote_overall"]) > 0) for name in ("pd", "margin")
    }
    assert truth[0.3, "random"] == pytest.approx(share["pd"] - pairs.agrees.mean())
    assert truth[0.3, "raf"] == pytest.approx(share["pd"] - share["margin"])


def test_the_tables(bench, monkeypatch):
    monkeypatch.setattr(bench, "TRUE_PROMPTS", 2000)
    results = [bench.advised(number, labelled=100, prompts=200) for number in range(4)]
    lines = bench.calibration_lines(results)
    assert sum(line.startswith(("random", "raf", "same length")) for line in lines) == 18
    assert any(line.startswith("answer") for line in lines)
    widths = [entry.effects["random"].high - entry.effects["random"].low for _, a in results for entry in a.budgets]
    assert 0.02 < np.mean(widths) < 0.6
