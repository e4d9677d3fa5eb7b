"""A filter with reward models scores each row once, whatever the data it is given."""

import pytest
from datasets import DatasetDict

from pd_trl import PDFilter, score_pairs
from pd_trl.scoring import backends, reward_models
from tests.tiny import ASPECTS, tiny_preferences


@pytest.fixture
def models(tiny_models):
    return dict.fromkeys(ASPECTS, tiny_models["reward"])


@pytest.fixture
def loads(monkeypatch):
    """Aspects whose models were loaded, one after the other."""
    seen = []
    whole = reward_models.load_model
    monkeypatch.setattr(
        reward_models, "load_model", lambda wanted, *rest: (seen.extend(wanted.chosen), whole(wanted, *rest))[1]
    )
    assert backends.load_scorers is reward_models.load_scorers
    return seen


@pytest.mark.parametrize("keeps_shards", [False, True])
def test_each_split_is_scored_once(models, loads, tmp_path, keeps_shards):
    splits = DatasetDict(train=tiny_preferences(24), test=tiny_preferences(9, seed=7))
    folder = tmp_path / "scores" if keeps_shards else None
    kept = PDFilter(0.5, reward_models=models, output_dir=folder)(splits)
    assert sorted(loads) == sorted(2 * ASPECTS)
    by_hand = PDFilter(0.5)(DatasetDict({name: score_pairs(part, models) for name, part in splits.items()}))
    assert {name: part.to_list() for name, part in kept.items()} == {n: p.to_list() for n, p in by_hand.items()}
    if keeps_shards:
        again = PDFilter(0.5, reward_models=models, output_dir=folder)
        assert (
            again.fit(splits["train"]).transform(splits["test"])["pd_kept"][:]
            == PDFilter(0.5, reward_models=models).fit(splits["train"]).transform(splits["test"])["pd_kept"][:]
        )
        assert len(list(folder.iterdir())) == 2


def test_a_stream_loads_each_model_once(models, loads, monkeypatch):
    monkeypatch.setattr("pd_trl.selection.filter.STREAM_ROWS", 10)
    monkeypatch.setattr("pd_trl.selection.out_of_core.stream.STREAM_ROWS", 10)
    data = tiny_preferences(45)
    expected = PDFilter(0.5, reward_models=models)
    rows = expected(data).to_list()
    loads.clear()
    found = PDFilter(0.5, reward_models=models)
    stream = found(data.to_iterable_dataset(num_shards=2))
    streamed = list(stream)
    assert sorted(loads) == sorted(ASPECTS)
    assert [row["pair_id"] for row in streamed] == [row["pair_id"] for row in rows]
    assert [row["pd"] for row in streamed] == pytest.approx([row["pd"] for row in rows], abs=1e-4)
    assert set(stream.features) == set(rows[0])
    assert list(found.transform(data.to_iterable_dataset())) and sorted(loads) == sorted(ASPECTS)


def test_only_the_missing_gaps_are_scored(models, loads):
    scored = score_pairs(tiny_preferences(12), models)
    loads.clear()
    expected = PDFilter(0.5)(scored)
    found = PDFilter(0.5, reward_models=models)(scored.remove_columns(f"reward_gap_{ASPECTS[1]}"))
    assert loads == [ASPECTS[1]] and found["pair_id"][:] == expected["pair_id"][:]


def test_strings_are_scored_as_messages_where_told(models):
    data = tiny_preferences(12)
    gaps = {
        chat: PDFilter(1.0, reward_models=models, chat=chat).fit_transform(data)[f"reward_gap_{ASPECTS[0]}"][:]
        for chat in (False, True)
    }
    assert gaps[True] == score_pairs(data, models, chat=True)[f"reward_gap_{ASPECTS[0]}"][:] != gaps[False]
