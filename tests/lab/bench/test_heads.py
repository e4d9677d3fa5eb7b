"""One backbone with heads as a kind of proxy of the benchmark."""

from dataclasses import replace

import numpy as np
import pytest

from pd_trl.lab.bench.ablation_tables import ablation_table
from pd_trl.lab.bench.ablations import ABLATIONS
from pd_trl.lab.bench.agreement import agreement, spearman
from pd_trl.lab.bench.cell import Cell
from pd_trl.lab.bench.rows import PD, Row
from pd_trl.lab.bench.settings import HEADS, QUICK, CellSettings, ProxySettings


@pytest.mark.parametrize(
    "first, second, expected",
    [([1, 2, 3], [10, 40, 90], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 1, 2, 2], [1, 2, 1, 2], 0.0)],
)
def test_rank_correlation(first, second, expected):
    assert spearman(first, second) == pytest.approx(expected)
    ranks = np.random.default_rng(0).normal(size=50)
    assert spearman(ranks, np.exp(ranks)) == pytest.approx(1.0)


def test_rows_of_separate_proxies_keep_their_keys():
    """Numbers of an earlier benchmark are found by these keys."""
    assert Row("x", "y", "z", PD).key(0.3) == "3a87a58e121061994fce498d8e27e523"
    assert Row("x", "y", "z", replace(PD, proxy=HEADS)).key(0.3) != Row("x", "y", "z", PD).key(0.3)


def test_table_of_the_ablation_shows_the_agreement():
    labels = [variant.label for variant in ABLATIONS["one backbone with heads"]]
    assert labels[0] == "heads" and labels[1].startswith("the default")

    def entry(label, **detection):
        found = {"auc": 0.8, "conflict": 0.1, "chosen_longer": 0.5, **detection}
        return {
            "label": label,
            "seed": 1,
            "settings": {"seed": 1},
            "rows": {"PD (ours)": {"gold": 3.0}},
            "detection": {"PD (ours)": found},
        }

    compared = dict(pd_spearman=0.91, kept_overlap=0.82, mean_accuracy=0.7, mean_accuracy_default=0.75)
    shown = ablation_table([entry("heads", **compared), entry("separate")])
    head, _, first, second = shown.splitlines()
    assert "rank correlation with the default's PD" in head
    assert all(number in first for number in ("0.910", "82.0", "70.0", "75.0"))
    assert second.count("–") == 4
    assert "rank correlation" not in ablation_table([entry("one"), entry("other")])


@pytest.mark.slow
def test_heads_find_conflicts_as_separate_proxies_do(tmp_path):
    world = {"num_pairs": 900, "num_texts": 6000, "num_prompts": 50, "noise": 0.2, "num_aspects": 3}
    cell = Cell(CellSettings(1, 0.3, **world), replace(QUICK, world=world), tmp_path)
    found = agreement(cell, replace(PD, proxy=HEADS))
    assert found["pd_spearman"] > 0.5 and found["kept_overlap"] > 0.4
    assert set(found["accuracy"]) == set(found["accuracy_default"]) == set(cell.world.aspects)
    assert agreement(cell, PD)["pd_spearman"] == pytest.approx(1.0) and agreement(cell, PD)["kept_overlap"] == 1.0
    folders = cell.proxies(HEADS)
    assert set(folders) == set(cell.world.aspects) and len(set(folders.values())) == 1
    assert len(set(cell.proxies(ProxySettings()).values())) == 3
