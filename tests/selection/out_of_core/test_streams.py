"""Streams in and out."""

import numpy as np
import pytest
from datasets import Dataset, IterableDataset, IterableDatasetDict

from pd_trl import PDFilter
from pd_trl.errors import InputError
from pd_trl.selection.out_of_core.search import Budgets
from pd_trl.selection.out_of_core.stream import fit_stream
from tests.selection.out_of_core.data import same, scored_rows


@pytest.mark.parametrize(
    "arguments",
    [{}, {"source": "ratings", "on_no_votes": "drop"}, {"per_aspect": True}, {"selector": "margin"}],
    ids=str,
)
def test_a_stream_is_fitted_and_filtered_as_the_rows_in_memory_are(arguments):
    data = scored_rows(500, levels=2, ratings=True)
    expected = PDFilter(0.3, **arguments)
    kept = expected(data)
    found = PDFilter(0.3, **arguments)
    stream = found(data.to_iterable_dataset(num_shards=3))
    assert isinstance(stream, IterableDataset)
    assert same(list(stream), kept.to_list(), exact=True)
    assert found.thresholds_ == expected.thresholds_ and found.quantiles_ == expected.quantiles_
    report, numbers = found.report_.to_dict(), expected.report_.to_dict()
    assert report.pop("not_computed") == ["overlap"]
    for name in ("overlap", "lengths"):
        report.pop(name), numbers.pop(name)
    assert same(report, numbers)


def test_a_stream_without_known_types_whose_first_batches_have_no_values():
    data = scored_rows(200, ratings=True)
    rows = [
        {**row, "rating_depth_chosen": None if i < 100 else row["rating_depth_chosen"]} for i, row in enumerate(data)
    ]
    expected, found = (PDFilter(0.3, source="ratings", on_no_votes="drop") for _ in range(2))
    expected.fit(Dataset.from_list(rows))
    stream = IterableDataset.from_generator(lambda: iter(rows))
    assert stream.features is None
    fit_stream(found, stream, batch_rows=30, budgets=Budgets(20, 10, 4))
    assert found.thresholds_ == expected.thresholds_ and found.quantiles_ == expected.quantiles_


def test_splits_are_fitted_on_train():
    data = scored_rows(200)
    streams = IterableDatasetDict(
        {
            "train": data.select(range(150)).to_iterable_dataset(),
            "test": data.select(range(150, 200)).to_iterable_dataset(),
        }
    )
    parts = PDFilter(0.3)(streams)
    expected = PDFilter(0.3)
    expected.fit(data.select(range(150)))
    assert len(list(parts["train"])) == 45
    assert [row["pair_id"] for row in parts["test"]] == [
        row["pair_id"] for row in expected.transform(data.select(range(150, 200))) if row["pd_kept"]
    ]


def test_texts_are_not_spooled_and_the_spool_is_removed(tmp_path):
    data = scored_rows(100)
    found = PDFilter(0.3)
    fit_stream(found, data.to_iterable_dataset(), scratch=str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert "mean_characters_chosen" not in found.report_["lengths"]["all"]
    assert found.report_["lengths"]["all"]["chosen_longer"] == pytest.approx(
        np.mean(np.array(data["delta_length"]) > 0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.select([]), "empty"),
        (lambda d: d.remove_columns("pair_id"), "no column 'pair_id'"),
        (lambda d: d.remove_columns("aspect"), "no column 'aspect'"),
        (lambda d: d.remove_columns("pair_id").add_column("pair_id", ["x"] * len(d)), "must be unique"),
        (
            lambda d: d.remove_columns("reward_gap_form").add_column("reward_gap_form", ["x"] * len(d)),
            "must hold numbers",
        ),
    ],
)
def test_bad_streams(change, message):
    data = scored_rows(50, aspects=4)
    stream = IterableDataset.from_generator(lambda: iter(change(data).to_list()))
    with pytest.raises(InputError, match=message):
        PDFilter(0.3).fit(stream)
    with pytest.raises(InputError, match="source='rewards'"):
        PDFilter(0.3, source="column").fit(data.to_iterable_dataset())
