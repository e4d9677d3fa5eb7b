"""Out of core and in memory give the same selection."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl import PDFilter
from pd_trl.errors import InputError
from pd_trl.method.ranking import SELECTORS, select_per_stratum
from pd_trl.runs.artifacts import read_rows
from pd_trl.selection.out_of_core import run_out_of_core
from pd_trl.selection.out_of_core.search import Budgets
from pd_trl.selection.out_of_core.strata import stratum_counts
from tests.selection.out_of_core.data import same_selection, scored_rows, write_files


def select(folder: Path, pd_filter: PDFilter, **options) -> Path:
    run_out_of_core(pd_filter, folder, folder / "out", **options)
    return folder / "out"


@st.composite
def cases(draw):
    count = draw(st.integers(1, 70))
    data = scored_rows(
        count,
        aspects=draw(st.integers(2, 5)),
        seed=draw(st.integers(0, 2**16)),
        levels=draw(st.sampled_from([None, None, 1, 3])),
        ratings=True,
        holistic=draw(st.booleans()),
        missing=draw(st.sampled_from([0.0, 0.1, 0.6])),
        rivals=True,
    )
    budget = draw(st.one_of(st.floats(0.01, 1.0), st.integers(1, count), st.just(1.0)))
    arguments = {
        "source": draw(st.sampled_from(["rewards", "rewards", "ratings"])),
        "gamma": draw(st.floats(0.3, 1.0)),
        "weights": draw(st.sampled_from([{}, {"clarity": 2.5}, {"depth": 0.0, "clarity": 0.1}])),
        "per_aspect": draw(st.booleans()),
        "selector": draw(st.sampled_from(["pd", "pd", *SELECTORS])),
        "on_no_votes": draw(st.sampled_from(["error", "drop"])),
    }
    options = {
        "batch_rows": draw(st.sampled_from([1, 3, 16, 1000])),
        "rows_per_shard": draw(st.sampled_from([1, 10, 1000])),
        "num_threads": draw(st.integers(1, 3)),
        # Samples that mislead, intervals that hold nothing, and ids that do not fit.
        "budgets": draw(st.sampled_from([None, Budgets(2, 0, 2), Budgets(8, 3, 2), Budgets(8, 100, 4)])),
    }
    return data, budget, arguments, draw(st.integers(1, 4)), options


@settings(max_examples=40, deadline=None)
@given(cases())
def test_equals_the_filter_in_memory(case):
    data, budget, arguments, files, options = case
    with tempfile.TemporaryDirectory() as folder:
        write_files(data, Path(folder), files)
        found, expected = PDFilter(budget, **arguments), PDFilter(budget, **arguments)
        try:
            expected.fit(data)
        except InputError as error:
            with pytest.raises(InputError) as refused:
                select(Path(folder), found, **options)
            assert str(refused.value)[:40] == str(error)[:40]
        else:
            out = select(Path(folder), found, **options)
            same_selection(data, PDFilter(budget, **arguments), found, out)


@pytest.mark.parametrize("selector", ["pd", "pd_high"])
def test_one_pass_for_the_scales_and_one_for_the_threshold(tmp_path, selector):
    from pd_trl.selection.out_of_core.parquet import ParquetSource
    from pd_trl.selection.out_of_core.passes import Selection

    data = scored_rows(20_000, aspects=4, seed=5)
    source = ParquetSource(write_files(data, tmp_path, 3), rows_per_unit=1000)
    read: list[list[str]] = []
    whole = source.batches
    source.batches = lambda unit, columns=None, rows=None: (read.append(list(columns)), whole(unit, columns, rows))[1]
    decision = Selection(PDFilter(0.3, selector=selector), source, Budgets(sample_rows=4000)).decide()
    assert decision.passes == 2
    # Only the gap columns are read, but for the ids of the few units that hold the last pair kept.
    assert {name for columns in read for name in columns if not name.startswith("reward_gap_")} == {
        "aspect",
        "pair_id",
    }
    assert sum("pair_id" in columns for columns in read) <= 2
    assert "reward_gap_overall" not in {name for columns in read for name in columns}


def test_the_order_of_files_and_rows_does_not_matter(tmp_path):
    data = scored_rows(300, levels=1, seed=2)
    kept = []
    for place, rows in enumerate((range(300), np.random.default_rng(0).permutation(300))):
        folder = write_files(data.select(rows), tmp_path / str(place), 3)
        files = sorted(folder.glob("*.parquet"), reverse=bool(place))
        run_out_of_core(PDFilter(0.4), files, folder / "out", batch_rows=7)
        kept.append(set(read_rows(folder / "out" / "selected")["pair_id"]))
    assert kept[0] == kept[1] and len(kept[0]) == 120


def test_threads_batches_and_bounds_leave_the_same_files(tmp_path):
    folder = write_files(scored_rows(400, levels=2), tmp_path, 2)
    contents = []
    for threads, budgets in ((1, None), (4, Budgets(5, 1, 2))):
        out = select(folder, PDFilter(0.3), num_threads=threads, batch_rows=50, budgets=budgets, overwrite=True)
        names = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file() and p.name != "manifest.json")
        contents.append({name: (out / name).read_bytes() for name in names})
    assert contents[0] == contents[1]
    assert sorted(p.name for p in out.iterdir()) == [
        "dropped", "filter.json", "manifest.json", "report.json", "report.txt", "selected", "selection.sql",
    ]  # fmt: skip


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 40), min_size=1, max_size=5), st.data())
def test_stratum_counts_are_those_of_the_selection(sizes, data):
    total = sum(sizes.values())
    count = data.draw(st.integers(1, total))
    strata = np.array([name for name, size in sizes.items() for _ in range(size)])
    ids = np.array([f"{i:04d}" for i in range(total)])
    kept, _ = select_per_stratum(np.zeros(total), ids, strata, count)
    expected = {name: int(kept[strata == name].sum()) for name in sizes}
    assert stratum_counts(sizes, count) == expected


def test_a_large_stratum_counts_exactly():
    sizes = {"a": 60_000_000, "b": 30_000_001, "c": 7}
    kept = stratum_counts(sizes, 27_000_003)
    assert sum(kept.values()) == 27_000_003
    assert all(abs(kept[name] - 27_000_003 * size / sum(sizes.values())) < 1 for name, size in sizes.items())
