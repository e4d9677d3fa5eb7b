"""The decision as SQL: DuckDB on the parquet keeps the pairs that the filter keeps."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis.strategies import floats

from pd_trl import PDFilter
from pd_trl.errors import InputError
from pd_trl.selection.sql import DIALECTS, _bounds

duckdb = pytest.importorskip("duckdb")
ASPECTS = ["honesty", 'it\'s "quoted"', "Hilfe\\n ü"]


def scored(rng, num_pairs=120):
    """Gaps with ties, some so coarse that many PDs are equal, ratings with holes, and ids with marks in them."""
    step = rng.choice([0.0, 0.25, 1.0])
    columns = {"pair_id": [f"{i:03d}'\\`\"é"[: rng.integers(3, 8)] + str(i) for i in rng.permutation(num_pairs)]}
    columns["aspect"] = [str(name) for name in rng.choice([*ASPECTS, "overall"], num_pairs)]
    for name in ASPECTS:
        gap = rng.normal(size=num_pairs)
        gap = (np.round(gap / step) * step if step else gap) * rng.choice([1e-4, 1.0, 300.0])
        columns[f"reward_gap_{name}"] = gap.astype(rng.choice([np.float32, np.float64]))
        for side in ("chosen", "rejected"):
            ratings = rng.integers(1, 6, num_pairs).astype(float)
            ratings[rng.random(num_pairs) < 0.2] = np.nan
            columns[f"rating_{name}_{side}"] = [None if np.isnan(r) else r for r in ratings]
    columns["reward_gap_overall"] = np.round(rng.normal(size=num_pairs), 1)
    columns["delta_length"] = rng.integers(-9, 9, num_pairs)
    columns["other"] = rng.normal(size=num_pairs)
    return Dataset.from_dict(columns)


def random_filter(rng):
    source = str(rng.choice(["rewards", "ratings", "column"], p=[0.5, 0.4, 0.1]))
    weights = dict(zip(ASPECTS, rng.choice([0.0, 0.3, 1.0, 2.0], 3).tolist(), strict=True))
    if not any(weights.values()):
        weights[ASPECTS[0]] = 0.7
    budget = float(rng.choice([0.05, 0.3, 0.6, 1.0])) if rng.random() < 0.7 else int(rng.integers(1, 60))
    return PDFilter(
        budget,
        source=source,
        gamma=float(rng.choice([0.7, 0.9, 1.0])),
        weights=weights,
        per_aspect=bool(rng.random() < 0.3),
        selector=str(rng.choice(["pd", "pd", "pd", "pd_high", "margin", "length"])),
        pd_column=str(rng.choice(["other", "reward_gap_overall"])),
        on_no_votes="drop",
    )


def kept_by_duckdb(path, condition):
    rows = duckdb.sql(f"SELECT pair_id FROM read_parquet('{path}') WHERE {condition}").fetchall()
    return sorted(name for (name,) in rows)


@pytest.mark.parametrize("first_seed", range(0, 200, 40))
def test_duckdb_keeps_exactly_our_pairs(tmp_path, first_seed):
    for seed in range(first_seed, first_seed + 40):
        rng = np.random.default_rng(seed)
        data, pd_filter = scored(rng), random_filter(rng)
        decided = pd_filter.fit_transform(data)
        data.to_parquet(path := tmp_path / "scored.parquet")
        kept = sorted(row for row, keep in zip(decided["pair_id"], decided["pd_kept"], strict=True) if keep)
        assert kept_by_duckdb(path, pd_filter.to_sql()) == kept and kept, seed
        if "pd" in decided.column_names and pd_filter.aspects_:
            found = duckdb.sql(f"SELECT {pd_filter.to_sql(column='pd')} FROM read_parquet('{path}')").fetchall()
            values = [np.nan if value is None else value for (value,) in found]
            ours = np.array(decided["pd"][:], dtype=np.float32)
            np.testing.assert_array_equal(np.array(values).astype(np.float32), ours, err_msg=str(seed))


def test_a_loaded_filter_says_the_same_in_every_dialect(tmp_path):
    rng = np.random.default_rng(0)
    pd_filter = PDFilter(0.3, weights={ASPECTS[0]: 2.0}).fit(scored(rng))
    pd_filter.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    for dialect in DIALECTS:
        assert loaded.to_sql(dialect) == pd_filter.to_sql(dialect)
    # Marks are escaped as each database does it; a line break in a name cannot end a line of the expression.
    assert "'it''s \"quoted\"'" in loaded.to_sql("duckdb") and r"'it\'s " in loaded.to_sql("spark")
    assert "FLOAT64" in loaded.to_sql("bigquery") and "REAL" not in loaded.to_sql("bigquery")


def test_rows_without_a_label_are_a_stratum(tmp_path):
    rng = np.random.default_rng(5)
    labels = [None, "a", "b"] * 20
    data = Dataset.from_dict({"pair_id": [f"p{i:02d}" for i in range(60)], "aspect": labels, "m": rng.normal(size=60)})
    pd_filter = PDFilter(0.3, selector="margin", margin_column="m", per_aspect=True)
    kept = pd_filter(data)
    data.to_parquet(path := tmp_path / "rows.parquet")
    assert kept["aspect"][:].count(None) == 6
    assert kept_by_duckdb(path, pd_filter.to_sql()) == sorted(kept["pair_id"])


def test_votes_in_place_of_ratings(tmp_path):
    rng = np.random.default_rng(3)
    columns = {f"vote_{name}": rng.integers(-1, 2, 80).astype(np.int8) for name in ("a", "b", "c")}
    data = Dataset.from_dict({"pair_id": [f"p{i:02d}" for i in range(80)], "aspect": ["a", "b"] * 40, **columns})
    pd_filter = PDFilter(0.3, source="ratings")
    kept = pd_filter(data)
    data.to_parquet(path := tmp_path / "votes.parquet")
    assert kept_by_duckdb(path, pd_filter.to_sql(voted=["a", "b", "c"])) == sorted(kept["pair_id"])


def test_what_cannot_be_said_is_refused():
    data = scored(np.random.default_rng(1))
    with pytest.raises(InputError, match="not fitted"):
        PDFilter().to_sql()
    with pytest.raises(InputError, match="selector='random'.*cannot be written as SQL"):
        PDFilter(selector="random").fit(data).to_sql()
    fitted = PDFilter().fit(data)
    with pytest.raises(InputError, match="no dialect 'duckbd'.*duckdb"):
        fitted.to_sql("duckbd")
    with pytest.raises(InputError, match="'pd_kept' or 'pd'"):
        fitted.to_sql(column="keep")


@given(floats(width=32, min_value=-(2.0**40), max_value=2.0**40))
def test_bounds_hold_all_that_is_rounded_to_the_score_and_nothing_else(score):
    low, high = _bounds(score, exact=False)
    assert np.float32(low) == np.float32(high) == np.float32(score)
    assert np.float32(np.nextafter(low, -np.inf)) < np.float32(score) < np.float32(np.nextafter(high, np.inf))
    assert _bounds(score, exact=True) == (score, score)
