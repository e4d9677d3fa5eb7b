"""Columns of the rivals that take statistics of all rows, and what is said where one is missing."""

import numpy as np
import pytest

from pd_trl import PDFilter, rival_scores, select_out_of_core
from pd_trl.errors import InputError
from tests.selection.out_of_core.data import scored_rows


def with_margins(count: int = 60, **options):
    data = scored_rows(count, **options)
    return data.add_column("implicit_margin", np.random.default_rng(3).normal(size=count))


def test_it_adds_what_the_formulas_give_and_replaces_its_columns():
    data = with_margins()
    found = rival_scores(data)
    assert found.column_names == [*data.column_names, "worst_gap", "alignment_potential", "bees"]
    explicit = np.array(data["reward_gap_overall"], dtype=float)
    implicit = np.array(data["implicit_margin"])
    sizes = [np.abs(values) for values in (explicit, implicit)]
    scaled = [(size - size.mean()) / size.std() for size in sizes]
    assert np.allclose(found["alignment_potential"], scaled[0] - scaled[1], atol=1e-6)
    right = [np.clip(v / np.quantile(np.abs(v), 0.99), -1, 1) / 2 + 0.5 for v in (explicit, implicit)]
    odds = right[0] * right[1] / (right[0] * right[1] + (1 - right[0]) * (1 - right[1]))
    assert np.allclose(found["bees"], odds, atol=1e-6)
    again = rival_scores(found)
    assert again.column_names == found.column_names and again["bees"][:] == found["bees"][:]
    assert rival_scores(scored_rows(60)).column_names == [*scored_rows(60).column_names, "worst_gap"]


def test_a_pareto_selection_takes_the_consistent_pairs_first():
    data = rival_scores(scored_rows(200, aspects=4), ["pareto"])
    names = ("clarity", "depth", "ethics", "form")
    gaps = np.array([data[f"reward_gap_{name}"] for name in names]).T
    own = np.array([names.index(label) for label in data["aspect"]])
    others = np.where(np.arange(4) == own[:, None], np.inf, gaps)
    consistent = (others >= 0).all(axis=1)
    count = int(consistent.sum())
    assert 10 < count < 60
    kept = PDFilter(count, selector="pareto")(data)
    assert set(kept["pair_id"]) == {i for i, good in zip(data["pair_id"], consistent, strict=True) if good}


def test_what_is_missing_is_named(tmp_path):
    data = scored_rows(30)
    data.to_parquet(tmp_path / "in.parquet")
    for selector, column, function in (
        ("pareto", "worst_gap", "rival_scores"),
        ("difficulty", "implicit_margin", "policy_margins"),
        ("alignment_potential", "alignment_potential", "rival_scores"),
        ("dcrm", "edit_distance", "policy_margins"),
        ("bees", "bees", "rival_scores"),
        ("selective_dpo", "validation_loss", "validation_losses"),
    ):
        message = f"selector={selector!r}` needs the column {column!r}, which `pd_trl.{function}` adds"
        with pytest.raises(InputError, match=message):
            PDFilter(0.3, selector=selector)(data)
        with pytest.raises(InputError, match=message):
            select_out_of_core(tmp_path / "in.parquet", tmp_path / "out", selector=selector)
    with pytest.raises(
        InputError, match="'bees' needs the column 'implicit_margin', which `pd_trl.policy_margins` adds"
    ):
        rival_scores(data, ["bees"])
    with pytest.raises(InputError, match="`rivals` must be among pareto, alignment_potential, bees, got 'dcrm'"):
        rival_scores(data, ["dcrm"])
    holes = data.add_column("implicit_margin", [float("nan"), *[1.0] * 29])
    with pytest.raises(InputError, match="'implicit_margin' must hold finite numbers, got nan in row 0"):
        rival_scores(holes, ["bees"])
