"""What is written in a stream is what is made in memory, to the last byte of the digest, from every form of data."""

import json
import logging

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from pd_trl.data import prepare_preferences
from pd_trl.data.loading import open_pairs
from pd_trl.data.parts import NeedsWholeError
from pd_trl.data.streaming import prepare_stream
from pd_trl.runs import row_shards
from pd_trl.runs.artifacts import read_rows
from pd_trl.runs.identity import data_key
from tests.data.schemas import SOURCES
from tests.data.test_forms import PAIRS

# Where a row says by itself what becomes of it. The others compare rows, or values of a column, with each other.
STREAMED = ("ultrafeedback", "helpsteer3", "saferlhf", "binarized", "columns", "responses")
STREAMED_FORMS = ("alpaca", "alpaca with a system column")
FORMS = {name: Dataset.from_list([row] * 3) for name, (row, _, _) in PAIRS.items()}


def said(caplog):
    found = [(entry.levelname, entry.getMessage()) for entry in caplog.records if entry.levelno >= logging.WARNING]
    caplog.clear()
    return sorted(set(found))


def compared(source, folder, caplog, batch_rows=4, labels=None, relabel=None, aspects=None, **reading):
    """Whether `source` was streamed, after a comparison of everything if it was."""
    opened = open_pairs(source, **reading)
    found = []
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    choice = {"labels": labels, "relabel": relabel, "aspects": aspects, "seed": 7}
    caplog.clear()
    try:
        report = prepare_stream(opened, folder, scratch, lambda *of: found.append(of), batch_rows=batch_rows, **choice)
    except NeedsWholeError:
        caplog.clear()
        return False
    streamed = said(caplog)
    pairs, load = opened.pairs()
    preferences, expected = prepare_preferences(pairs, **choice)
    assert streamed == said(caplog)
    ((digest, loaded, _),) = found
    assert loaded.to_dict() == load.to_dict() and report.to_dict() == expected.to_dict()
    for name, rows in (("pairs", pairs), ("preferences", preferences)):
        written = read_rows(folder / name)
        assert written.features == rows.features and written.to_list() == rows.to_list()
    assert digest == data_key(pairs)
    return True


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(row_shards, "ROWS_PER_SHARD", 5)


MADE = {f"{name} {place}": make for name, makers in SOURCES.items() for place, make in enumerate(makers)}


@pytest.mark.parametrize("name", MADE)
def test_sources_of_the_hub(name, tmp_path, caplog):
    # Repeated, so that ids need numbers.
    data = concatenate_datasets([MADE[name]()] * 3)
    assert compared(data, tmp_path, caplog, on_invalid="drop") == (name.split()[0] in STREAMED)


@pytest.mark.parametrize("name", FORMS)
def test_forms(name, tmp_path, caplog):
    assert compared(FORMS[name], tmp_path, caplog, on_invalid="drop") == (name in STREAMED_FORMS)


def rated(count=60):
    """Pairs with ratings, ties, gaps, equal responses, repeated pairs, empty texts and odd characters."""
    generator = np.random.default_rng(0)
    rows = []
    for i in generator.integers(0, count, count).tolist():
        row = {
            "prompt": f'Why "{i // 4}"?\n\té',
            "response_a": ["yes", " ", None, f"no\\{i}"][i % 4],
            "response_b": ["yes", "no", "perhaps, if it rains", "never"][i % 3],
            "source": i,
        }
        for aspect in ("helpful", "honest", "safe"):
            row |= {f"rating_{aspect}_{side}": [None, 1.0, 2.0, 3.0][int(generator.integers(4))] for side in "ab"}
        row["pref_overall"] = [0.0, 1.0, 0.5, None][int(generator.integers(4))]
        rows.append(row)
    return rows


CHOICES = [{}, {"labels": "all"}, {"relabel": "overall"}, {"relabel": "mean", "aspects": ["safe", "honest"]}]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("ending", ["jsonl", "parquet", "memory"])
def test_labels_of_aspects_from_files(ending, choice, tmp_path, caplog):
    data = source = Dataset.from_list(rated())
    if ending == "jsonl":
        source = tmp_path / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rated()))
    elif ending == "parquet":
        source = tmp_path / "rows.parquet"
        data.to_parquet(source, batch_size=13)
    for batch_rows in (7, 1000):
        folder = tmp_path / str(batch_rows)
        assert compared(source, folder, caplog, batch_rows, on_invalid="drop", **choice)


@pytest.mark.parametrize("labels", [None, "own", "one"])
@pytest.mark.parametrize("known", [1.0, 0.4])
def test_the_sources_own_labels(known, labels, tmp_path, caplog):
    rows = [
        {
            "pair_id": f"p{i}",
            "prompt": f"q{i // 2}",
            "chosen": f"a{i}",
            "rejected": "b",
            "margin": i / 7,
            "winner": "a",
        }
        | {"aspect": "helpful" if i % 2 else "honest", "rating_honest_chosen": i % 3, "rating_honest_rejected": 1}
        for i in range(40)
    ]
    if known < 1:  # of the others, an aspect labels the pair, by ratings that may prefer the rejected response
        rows = [row | {"aspect": row["aspect"] if i % 5 < 2 else None} for i, row in enumerate(rows)]
    assert compared(Dataset.from_list(rows), tmp_path, caplog, batch_rows=10, labels=labels)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[31].update(rating_honest_a="3/5"),
        lambda rows: rows[31].update(system="Be brief."),
        lambda rows: [row.update(pair_id=str(i % 59)) for i, row in enumerate(rows)],
    ],
    ids=["a scale in one row", "a system message in one row", "a repeated id"],
)
def test_what_needs_all_rows_is_not_streamed(change, tmp_path, caplog):
    rows = [
        {"prompt": f"q{i}", "response_a": "a", "response_b": "b", "rating_honest_a": "3", "rating_honest_b": "2"}
        | {"system": None, "pair_id": str(i)}
        for i in range(60)
    ]
    assert compared(Dataset.from_list(rows), tmp_path / "before", caplog)
    change(rows)
    assert not compared(Dataset.from_list(rows), tmp_path / "after", caplog)
