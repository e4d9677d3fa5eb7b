"""Whatever a side file holds, it is read, or refused by an error that names it."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pd_trl import PDFilter
from pd_trl.cards import dataset_card, model_card
from pd_trl.cards.facts import ModelFacts
from pd_trl.errors import InputError
from pd_trl.lab.simulation.world import SimulatedWorld
from pd_trl.models.adapters import base_of, read_config
from pd_trl.models.heads.configuration import MultiAspectRewardConfig
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.pipeline.stages.select import SelectArguments, run_select
from pd_trl.publishing.facts import dataset_facts
from pd_trl.publishing.training_facts import load_model_facts, save_model_facts
from pd_trl.runs.artifacts import Manifest, write_json
from pd_trl.runs.results import EvalResult, load_results, save_results
from pd_trl.scoring.shards import ShardFolder
from pd_trl.selection.report import SelectionReport

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["all", "pd", "rewards", "column", "\ud800", "\r", 1e308, -1e-320, 10**300, 2**63]),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(["all", "a", "score", "pair_id", "x"]), v, max_size=2),
    max_leaves=5,
)  # fmt: skip
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def scored(num_pairs: int = 50) -> Dataset:
    number = list(range(num_pairs))
    return Dataset.from_dict(
        {
            "pair_id": [f"p{i:03d}" for i in number],
            "prompt": [f"q {i}" for i in number],
            "chosen": [f"good {i}" for i in number],
            "rejected": [f"bad {i % 7}" for i in number],
            "aspect": ["abc"[i % 3] for i in number],
            "delta_length": [i % 11 - 5 for i in number],
            **{f"reward_gap_{a}": [math.sin(i * (k + 2)) for i in number] for k, a in enumerate("abc")},
        }
    )


@st.composite
def changed(draw, content: Any) -> Any:
    """`content` with a value, a name or a part of it replaced by anything."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            collect(value[key])

    collect(content)
    for _ in range(draw(st.integers(1, 2))):
        parent, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "remove", "rename", "add"]))
        if kind == "replace" or isinstance(parent, list):
            if isinstance(parent, dict) and key not in parent:
                continue
            if isinstance(parent, list) and key >= len(parent):
                continue
            parent[key] = draw(VALUES)
        elif kind == "remove":
            parent.pop(key, None)
        elif kind == "rename":
            parent[draw(st.text(max_size=4))] = parent.pop(key, None)
        else:
            parent[draw(st.sampled_from(["output_dir", "reward_models", "x", "all"]))] = draw(VALUES)
    return content


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


FITTED = {
    "pd": PDFilter(),
    "per_aspect": PDFilter(per_aspect=True, weights={"a": 2.0}),
    "random": PDFilter(selector="random", seed=3),
}


@pytest.fixture(scope="module", params=FITTED)
def saved(request, tmp_path_factory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("saved") / "filter.json"
    FITTED[request.param].fit(scored()).save(path)
    return json.loads(path.read_text())


@PROPERTY
@given(data=st.data())
def test_a_changed_filter_is_refused_or_decides_every_row_by_what_it_says(saved, tmp_path, data):
    content = data.draw(changed(saved))
    path = written(tmp_path / "filter.json", content)
    try:
        loaded = PDFilter.load(path)
    except InputError as error:
        assert str(path) in str(error)
        return
    assert loaded.reward_models is None and loaded.output_dir is None
    assert loaded.thresholds_ and all(math.isfinite(t.score) for t in loaded.thresholds_.values())
    try:
        decided = loaded.transform(scored())
    except InputError:
        return
    scores = {name: t.score for name, t in loaded.thresholds_.items()}
    assert all(row["pd_reason"] for row in decided)
    if content["statistics"] == saved["statistics"] and content["arguments"] == saved["arguments"]:
        assert scores and sum(decided["pd_kept"][:]) == saved["report"]["kept"]


@pytest.mark.parametrize(
    "where, value, message",
    [
        (("arguments", "output_dir"), "/tmp/x", "each key of arguments must be one of budget"),
        (("arguments", "reward_models"), {"a": "me/evil"}, "each key of arguments"),
        (("arguments", "budget"), True, "arguments.budget must be"),
        (("arguments", "budget"), "0.3", "arguments.budget must be"),
        (("arguments", "budget"), 0, "arguments.budget must be"),
        (("arguments", "gamma"), math.nan, "arguments.gamma"),
        (("arguments", "seed"), 1.5, "arguments.seed"),
        (("arguments", "selector"), "pf", "must be one of pd, pd_high"),
        (("arguments", "weights"), {"a": math.inf}, r"arguments.weights.a"),
        (("arguments", "weights"), {"a": 1e300}, r"arguments.weights.a"),
        (("arguments", "weights"), {"z": 1}, "not among the `aspects`"),
        (("arguments", "per_aspect"), 1, "arguments.per_aspect"),
        (("arguments", "proxy_metrics"), {"a": {"pair_accuracy": "high"}}, "pair_accuracy"),
        (("statistics", "thresholds"), {}, "not empty"),
        (("statistics", "thresholds"), {"all": {"score": math.nan, "pair_id": "x"}}, "thresholds.all.score"),
        (("statistics", "thresholds"), {"all": {"score": -math.inf, "pair_id": "x"}}, "thresholds.all.score"),
        (("statistics", "thresholds"), {"all": {"score": 1.0}}, "pair_id"),
        (("statistics", "thresholds"), {"a": {"score": 1.0, "pair_id": "x"}}, "one threshold, named 'all'"),
        (("statistics", "quantiles"), {"a": 1.0, "b": 1.0}, "`quantiles` differ from"),
        (("statistics", "quantiles"), {"a": 1.0, "b": 1.0, "c": math.inf}, "quantiles.c"),
        (("statistics", "quantiles"), {"a": 1.0, "b": 1.0, "c": -1}, "quantiles.c"),
        (("statistics", "quantiles"), {"a": 1.0, "b": 1.0, "c": 1e300}, "quantiles.c"),
        (("statistics", "weights"), {}, "weights` of the statistics differ"),
        (("statistics", "weights"), {"a": 1.0}, "weights` of the statistics differ"),
        (("statistics", "weights"), {"a": 1.0, "b": 1.0, "z": 1.0}, "weights` of the statistics differ"),
        (("statistics", "aspects"), None, "needs the `aspects`"),
        (("statistics", "aspects"), ["a", "a", "b", "c"], "holds a name twice"),
        (("statistics", "aspects"), "abc", "statistics.aspects must be a list"),
        (("report",), {"kept": 1}, "report"),
        (("report", "kept"), 49, "do not add up to all pairs"),
        (("statistics",), {}, "aspects"),
    ],
)
def test_what_a_filter_may_not_say(tmp_path, where, value, message):
    path = tmp_path / "filter.json"
    PDFilter().fit(scored()).save(path)
    content = json.loads(path.read_text())
    target = content
    for name in where[:-1]:
        target = target[name]
    target[where[-1]] = value
    written(path, content)
    with pytest.raises(InputError, match=message) as caught:
        PDFilter.load(path)
    assert str(path) in str(caught.value)


def test_a_scale_that_is_not_known_is_no_silence(tmp_path):
    path = tmp_path / "filter.json"
    PDFilter().fit(scored()).save(path)
    content = json.loads(path.read_text())
    for value in (None, math.nan, 0):
        content["statistics"]["quantiles"]["b"] = value
        with pytest.raises(InputError, match="'b'"):
            PDFilter.load(written(path, content)).transform(scored())


MARKER = {"rows": 3, "truncated": 0, "sequences": 4, "tokens": 9, "computed": 9, "cells": 9, "microseconds": 5}


def shard_counts(folder: Path) -> Any:
    shards = ShardFolder(folder, 1, {"data": "x"})
    Dataset.from_dict({"a": [1]}).to_parquet(shards.path(0))
    return shards.merged()[1]


def reads(folder: Path) -> dict[str, tuple[str, Any, Any]]:
    """For each kind of side file: its name, a content, and how it is read and used."""
    result = EvalResult("t", "m", 1.0, 3, 0.5, settings={"a": 1})
    facts = ModelFacts("reward", "m", aspect="a", results=[result], metrics={"pair_accuracy": 0.7, "num_pairs": 9},
                       heads={"a": {"length_penalty": 0.1, "num_train": 3, "metrics": {"num_pairs": 2, "pair_accuracy": 0.5}}},
                       length={"penalty": 0.1, "correction": "penalty", "max_length": 5}, selection={"total": 3, "kept": 1},
                       essentials={"a": 1}, hyperparameters={"b": [1]}, versions={"trl": "1"}, tags=["a"])  # fmt: skip
    save_model_facts(facts, folder)
    save_results([result], folder / "eval_results.json")
    sidecar = RewardSidecar(
        0.1, "penalty", 0.5, 0.9, 128, pad_token_id=1, aspect="a", num_train=7,
        metrics={"pair_accuracy": 0.6, "num_pairs": 5}, heads={"a": {"length_penalty": 0.2, "num_train": 3, "metrics": {}}},
    )  # fmt: skip
    sidecar.save(folder)
    write_json(folder / "world.json", {"seed": 1, "num_aspects": 3, "conflict": 0.3, "noise": 0.1, "length_bias": 0.0})
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "me/base", "task_type": "SEQ_CLS"})
    Manifest(
        "select", {"a": "b"}, {"budget": 0.3}, {"total": 3}, 1.0, {"provenance": {"source": {"dataset": "me/d"}}}
    ).save(folder)
    write_json(folder / "00000.done", MARKER)
    uses = {
        "pd_card.json": lambda: model_card(load_model_facts(folder)),
        "eval_results.json": lambda: load_results(folder),
        "pd_reward.json": lambda: RewardSidecar.load(folder, "a"),
        "world.json": lambda: SimulatedWorld.load(folder).aspects,
        "adapter_config.json": lambda: (read_config(folder / "adapter_config.json"), base_of(folder)),
        "manifest.json": lambda: Manifest.load(folder).key,
        "00000.done": lambda: shard_counts(folder),
        "identity.json": lambda: ShardFolder(folder, 1, {"data": "x"}),
    }
    shard_counts(folder)
    return {name: (name, json.loads((folder / name).read_text()), use) for name, use in uses.items()}


SIDE_FILES = ("pd_card.json", "eval_results.json", "pd_reward.json", "world.json", "adapter_config.json", "manifest.json",
              "00000.done", "identity.json")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("side-files")


@pytest.mark.parametrize("name", SIDE_FILES)
def test_a_changed_side_file_is_read_or_refused(folder, name):
    _, content, use = reads(folder)[name]
    use()

    @PROPERTY
    @given(changed([content]))
    def check(values):
        if not values:
            return
        written(folder / name, values[0])
        try:
            use()
        except InputError as error:
            assert name in str(error) or "holds shards of another run" in str(error)

    check()
    for text in ("", "[" * 1000, "null", '"a"', "9" * 5000, "\ud800".encode("utf-8", "surrogatepass")):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError, match=name):
            use()
    written(folder / name, content)


@pytest.fixture(scope="module")
def selection(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    scored().to_parquet(folder / "scored.parquet")
    run_select(SelectArguments(dataset_name=str(folder / "scored.parquet"), output_dir=str(folder / "select")))
    return folder / "select"


@pytest.mark.parametrize("name", ["report.json", "manifest.json"])
def test_a_changed_selection_is_published_or_refused(selection, name):
    original = (selection / name).read_text()

    @settings(PROPERTY, max_examples=100)
    @given(changed(json.loads(original)))
    def check(content):
        written(selection / name, content)
        try:
            dataset_card(dataset_facts(selection, "me/d"))
        except InputError as error:
            assert str(selection) in str(error)

    try:
        check()
    finally:
        (selection / name).write_text(original)


@settings(PROPERTY, max_examples=60)
@given(data=st.data())
def test_a_report_that_is_read_back_can_be_printed(saved, tmp_path, data):
    content = {**saved, "report": data.draw(changed(saved["report"]))}
    try:
        loaded = PDFilter.load(written(tmp_path / "filter.json", content))
    except InputError:
        return
    if isinstance(loaded.report_, SelectionReport):
        assert str(loaded.report_)


@pytest.mark.parametrize("aspects", ["abc", [1], [""], ["a", "a"], [None], [["a"]]])
def test_aspects_of_a_configuration_are_distinct_names(aspects):
    with pytest.raises(InputError, match="`aspects`"):
        MultiAspectRewardConfig(aspects=aspects)


def test_private_files_are_written_where_there_is_no_fchmod(tmp_path, monkeypatch):
    monkeypatch.delattr("os.fchmod")
    write_json(tmp_path / "a.json", {"a": 1}, private=True)
    assert (
        json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
        and (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    )
