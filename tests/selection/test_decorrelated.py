"""`weights="decorrelated"`: in memory, from a stream and out of core, saved, and proof against copies."""

import json

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import PDFilter, select_out_of_core
from pd_trl.errors import InputError
from pd_trl.method.votes import decorrelated_weights
from pd_trl.pipeline.stages.select import SelectArguments, check_select
from pd_trl.runs.artifacts import read_rows

NAMES = ("clarity", "depth", "form", "tone")


def scored(count=400, copies=0, labels=("overall",), seed=0) -> Dataset:
    """Pairs with correlated gaps, and `copies` of the gaps of `depth` under other names and scales."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=count)
    data = {"pair_id": [f"p{i:04d}" for i in range(count)], "aspect": [labels[i % len(labels)] for i in range(count)]}
    for k, name in enumerate(NAMES):
        data[f"reward_gap_{name}"] = (0.3 * k * shared + generator.normal(0.2, 1, count)).astype(np.float32)
    for k in range(copies):
        data[f"reward_gap_copy{k}"] = (np.float32(2.0**k) * data["reward_gap_depth"]).astype(np.float32)
    return Dataset.from_dict(data)


def kept(data, **options):
    pd_filter = PDFilter(0.3, **options)
    return set(pd_filter(data)["pair_id"][:]), pd_filter


@pytest.mark.parametrize("copies", [1, 4, 12])
def test_copies_of_an_aspect_change_no_selection(copies):
    once, fitted = kept(scored(), weights="decorrelated")
    often, again = kept(scored(copies=copies), weights="decorrelated")
    assert len(once & often) >= len(once) - 1
    copied = sum(w for name, w in again.weights_.items() if name.startswith("copy")) + again.weights_["depth"]
    assert copied == pytest.approx(fitted.weights_["depth"], abs=1e-3)
    equally = kept(scored())[0] & kept(scored(copies=copies))[0]
    assert len(equally) < len(once & often)


def test_the_weights_are_those_of_the_correlation_in_the_report():
    _, fitted = kept(scored(), weights="decorrelated")
    correlations = fitted.report_["gap_correlation"]
    matrix = [[correlations[a][b] for b in NAMES] for a in NAMES]
    assert [fitted.weights_[name] for name in NAMES] == pytest.approx(decorrelated_weights(matrix), abs=1e-5)
    assert fitted.report_["aspects"]["clarity"]["weight"] == fitted.weights_["clarity"]
    assert f"{fitted.weights_['tone']:g}" in str(fitted.report_)


@pytest.mark.parametrize("labels", [("overall",), NAMES])
def test_stream_memory_and_disk_agree(labels, tmp_path):
    data = scored(copies=2, labels=labels if labels == ("overall",) else (*NAMES, "copy0", "copy1"))
    in_memory = PDFilter(0.3, weights="decorrelated")
    decided = in_memory.fit_transform(data)
    streamed = PDFilter(0.3, weights="decorrelated")
    stream = data.to_iterable_dataset(num_shards=4)
    assert list(streamed.fit(stream).transform(stream)) == decided.to_list()
    assert streamed.weights_ == in_memory.weights_
    data.to_parquet(tmp_path / "data.parquet")
    manifest = select_out_of_core(tmp_path / "data.parquet", tmp_path / "out", weights="decorrelated")
    parts = [row for part in ("selected", "dropped") for row in read_rows(tmp_path / "out" / part).to_list()]
    assert sorted(parts, key=str) == sorted(decided.to_list(), key=str)
    saved = json.loads((tmp_path / "out" / "filter.json").read_text())
    assert saved["arguments"]["weights"] == "decorrelated" == manifest.arguments["weights"]
    assert saved["statistics"]["weights"] == in_memory.weights_


def test_a_saved_filter_keeps_its_weights(tmp_path):
    data = scored()
    fitted = PDFilter(0.3, weights="decorrelated").fit(data)
    fitted.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert loaded.weights == "decorrelated" and loaded.weights_ == fitted.weights_
    other = scored(seed=5)
    assert loaded.transform(other).to_list() == fitted.transform(other).to_list()
    again = PDFilter.load(tmp_path / "filter.json", budget=0.5).fit(other)
    assert again.weights_ != fitted.weights_


def test_ratings_with_holes(tmp_path):
    generator = np.random.default_rng(0)
    data = {"pair_id": [f"p{i:03d}" for i in range(90)], "aspect": ["overall"] * 90}
    for name in NAMES:
        for side in ("chosen", "rejected"):
            data[f"rating_{name}_{side}"] = generator.integers(1, 6, 90).astype(float).tolist()
    data["rating_form_chosen"][::5] = [None] * 18
    rows = Dataset.from_dict(data)
    in_memory = PDFilter(0.4, source="ratings", weights="decorrelated")
    decided = in_memory.fit_transform(rows)
    streamed = PDFilter(0.4, source="ratings", weights="decorrelated")
    stream = rows.to_iterable_dataset()
    assert list(streamed.fit(stream).transform(stream)) == decided.to_list()


def test_one_without_a_vote_weighs_nothing_and_halves_nobody():
    data = scored(copies=1)
    metrics = {name: {"pair_accuracy": 0.7} for name in (*NAMES, "copy0")}
    metrics["copy0"]["pair_accuracy"] = 0.4
    _, fitted = kept(data, weights="decorrelated", proxy_metrics=metrics, min_proxy_accuracy=0.5)
    _, alone = kept(scored(), weights="decorrelated")
    assert fitted.weights_ == {**alone.weights_, "copy0": 0.0}


def test_what_weights_may_be():
    with pytest.raises(InputError, match="or 'decorrelated', got 'equal'"):
        PDFilter(0.3, weights="equal")
    assert check_select(SelectArguments(weights="decorrelated")).weights == "decorrelated"
    assert check_select(SelectArguments(weights="{depth: 2}")).weights == {"depth": 2}
    with pytest.raises(InputError, match="weights"):
        check_select(SelectArguments(weights="decorelated"))
