"""Order statistics and ties against sorting."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl.selection.out_of_core.order import (
    Bracket,
    Digits,
    interpolated,
    ordered_keys,
    quantile_ranks,
    value_of_key,
)
from pd_trl.selection.out_of_core.parquet import ParquetSource
from pd_trl.selection.out_of_core.ties import greatest_kept_id

FLOATS = {np.float32: st.floats(width=32, allow_nan=True), np.float64: st.floats(allow_nan=True)}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text("aböß0", max_size=4), min_size=1, max_size=120), st.data())
def test_the_last_kept_id_is_that_of_sorting(ids, data):
    needed = data.draw(st.integers(1, len(ids)))
    held = data.draw(st.integers(2, 12))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.parquet"
        pq.write_table(pa.table({"pair_id": pa.array(list(ids), pa.string())}), path, row_group_size=5)
        source = ParquetSource(path, rows_per_unit=10, batch_rows=4)

        def tied_ids(unit):
            return (batch.column("pair_id") for _, batch in source.batches(unit, ["pair_id"]))

        assert greatest_kept_id(source, source.units, tied_ids, len(ids), needed, held) == sorted(ids)[needed - 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_digits_and_brackets_find_what_sorting_finds(dtype, data):
    values = np.array(data.draw(st.lists(FLOATS[dtype], min_size=1, max_size=40)), dtype=dtype)
    ranked = np.sort(values[~np.isnan(values)])
    if not ranked.size:
        return
    ranks = data.draw(st.lists(st.integers(0, ranked.size - 1), min_size=1, max_size=3))
    search = Digits(ranks, dtype)
    while not search.done:
        counts = search.empty()
        for block in np.array_split(values, 3):
            search.count(block, counts)
        search.advance(counts)
    low, high = sorted(data.draw(st.tuples(*[st.sampled_from([*ranked.tolist(), -np.inf, np.inf])] * 2)))
    halves = [Bracket(low, high, 100), Bracket(low, high, 100)]
    for unit, block in enumerate(np.array_split(values, 4)):
        halves[unit // 2].add(block, unit)
    halves[0].merge(halves[1])
    for rank, by_digits in zip(ranks, search.found(), strict=True):
        by_bracket = halves[0].find(rank)
        value = ranked[rank]
        assert (by_bracket is None) == (not low <= value <= high)
        for found in [by_digits] if by_bracket is None else [by_digits, by_bracket]:
            assert found.value == value
            assert found.below == np.count_nonzero(ranked < value) and found.tied == np.count_nonzero(ranked == value)
        if by_bracket is not None:
            units = [u for u, block in enumerate(np.array_split(values, 4)) if (block == value).any()]
            assert by_bracket.units == units


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keys_are_in_the_order_of_the_floats(dtype):
    values = np.array([-np.inf, -1e30, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 2.0, np.inf], dtype=dtype)
    keys = ordered_keys(values)
    assert keys[4] == keys[5] and (np.diff(np.delete(keys, 4).astype(object)) > 0).all()
    assert [value_of_key(int(key), dtype) for key in keys] == values.tolist()


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(0, 9))
def test_quantiles_are_numpys(count, share, seed):
    values = np.sort(np.random.default_rng(seed).normal(size=count).astype(np.float32))
    lower, upper, along = quantile_ranks(count, share, np.float32)
    found = interpolated(values[lower], values[upper], along, np.float32)
    assert np.float32(found) == np.float32(np.quantile(values, share))


def test_quantiles_are_numpys_beyond_what_float32_counts():
    values = np.arange(2**24 + 12_345, dtype=np.float32)
    for share in (0.3, 0.77, 0.9):
        lower, upper, along = quantile_ranks(values.size, share, np.float32)
        found = interpolated(values[lower], values[upper], along, np.float32)
        assert np.float32(found) == np.float32(np.quantile(values, share))
