"""Scored pairs in files, and what is compared."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from pd_trl import PDFilter
from pd_trl.runs.artifacts import read_rows, write_parquet

NAMES = ("clarity", "depth", "ethics", "form", "grace")


def scored_rows(
    count: int,
    *,
    aspects: int = 3,
    seed: int = 0,
    levels: int | None = None,
    ratings: bool = False,
    holistic: bool = False,
    missing: float = 0.1,
    rivals: bool = False,
) -> Dataset:
    """
    Pairs with gaps, or ratings, of random numbers or, with `levels`, of few different ones, and with all a report reads; with
    `rivals`, also with what other papers' selectors rank by.
    """
    generator = np.random.default_rng(seed)
    names = NAMES[:aspects]
    ids = generator.permutation(count)
    labels = [*names, "overall"] if holistic else list(names)
    own = generator.integers(0, len(labels), count)
    columns: dict[str, Any] = {
        "pair_id": [f"{i:x}" for i in ids],
        "prompt": [f"prompt {i} é " for i in ids],
        "chosen": ["good " * int(n) for n in generator.integers(1, 9, count)],
        "rejected": ["bad " * int(n) for n in generator.integers(1, 9, count)],
        "aspect": [labels[i] for i in own],
        "delta_length": generator.integers(-9, 10, count).astype(np.int32),
        "vote_overall": generator.integers(-1, 2, count).astype(np.int8),
        "reward_gap_overall": generator.normal(size=count).astype(np.float32),
    }
    for k, name in enumerate(names):
        gap = generator.normal(size=count) if levels is None else generator.integers(-levels, levels + 1, count) + 0.25
        gap = gap.astype(np.float32)
        gap[own == k] = np.where(generator.random((own == k).sum()) < 0.5, np.nan, gap[own == k])
        columns[f"reward_gap_{name}"] = gap
        if ratings:
            for side in ("chosen", "rejected"):
                rating = generator.integers(1, 6, count).astype(float)
                columns[f"rating_{name}_{side}"] = [None if generator.random() < missing else float(r) for r in rating]
        columns[f"vote_{name}"] = generator.integers(-1, 2, count).astype(np.int8)
    if rivals:
        for name in ("worst_gap", "implicit_margin", "alignment_potential", "bees", "validation_loss"):
            columns[name] = generator.normal(size=count).round(1)
        columns["edit_distance"] = generator.integers(0, 9, count)
        columns["logp_distance"] = generator.random(count)
    return Dataset.from_dict(columns)


def write_files(data: Dataset, folder: Path, files: int = 1) -> Path:
    """Files of different sizes, with leading zeros in their names where there are ten or more."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = [len(data) * place**2 // files**2 for place in range(files + 1)]
    for place in range(files):
        write_parquet(
            data.select(range(edges[place], edges[place + 1])),
            folder / f"part-{place:0{len(str(files - 1))}d}.parquet",
        )
    return folder


def same_selection(data: Dataset, pd_filter: PDFilter, found: PDFilter, folder: Path) -> None:
    """Asserts that `folder` and `found` hold what `pd_filter` makes of `data` in memory: every row, statistic and number."""
    decided = pd_filter.fit_transform(data)
    kept = np.array(decided["pd_kept"])
    assert found.quantiles_ == pd_filter.quantiles_ or same(found.quantiles_, pd_filter.quantiles_, exact=True)
    assert found.thresholds_ == pd_filter.thresholds_
    assert found.weights == pd_filter.weights and found.weights_ == pd_filter.weights_
    for part, rows in (("selected", kept), ("dropped", ~kept)):
        expected, written = decided.select(np.flatnonzero(rows)), read_rows(folder / part)
        assert written.column_names == expected.column_names
        if len(expected):
            assert written.features == expected.features
        assert same(written.to_dict(), expected.to_dict(), exact=True)
    numbers = pd_filter.report_.to_dict()
    report = found.report_.to_dict()
    assert report["not_computed"] == ["overlap"]
    assert same({**report, "overlap": None}, {**numbers, "overlap": None, "not_computed": ["overlap"]})


def same(found: Any, expected: Any, exact: bool = False) -> bool:
    """Equality in which NaN equals NaN, and floats need to agree to 1e-6 only unless `exact`."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), set(found) ^ set(expected)
        assert all(same(found[name], expected[name], exact) for name in expected), (found, expected)
        return True
    if isinstance(expected, list):
        return len(found) == len(expected) and all(same(a, b, exact) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected):
            return math.isnan(found)
        return found == expected if exact else math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)
    return found == expected
