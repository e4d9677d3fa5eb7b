"""Every selector, the registered ones and those that a user adds, works wherever selections are made and shown."""

import html
import json

import numpy as np
import pytest

from pd_trl import PDFilter, select_out_of_core
from pd_trl.cards import dataset_card
from pd_trl.errors import InputError
from pd_trl.method.ranking import SELECTORS, Selector, random_keys
from pd_trl.publishing.facts import dataset_facts
from pd_trl.runs.artifacts import read_rows
from tests.cli.conftest import command  # noqa: F401
from tests.selection.out_of_core.data import same, scored_rows

# A column of its own; its own column with the PD and the ids; whole numbers of ids alone.
ADDED = {
    "mine": Selector("mine", ("my_score",), lambda x, seed: x["my_score"], "lowest score of mine", False),
    "mixed": Selector(
        "mixed",
        ("pd", "my_score"),
        lambda x, seed: x["pd"] * 3.0 + x["my_score"] + random_keys(x["pair_id"], seed),
        "PD, a score of mine, and chance",
    ),
    "by_id": Selector("by_id", (), lambda x, seed: np.char.str_len(x["pair_id"]) + seed, "shortest ids"),
}


@pytest.fixture
def added(monkeypatch):
    for name, selector in ADDED.items():
        monkeypatch.setitem(SELECTORS, name, selector)


def rows(count: int = 90):
    data = scored_rows(count, ratings=True, rivals=True)
    scores = np.random.default_rng(5).integers(-3, 4, count)
    return data.add_column("my_score", scores)


@pytest.mark.parametrize("per_aspect", [False, True])
@pytest.mark.parametrize("selector", [*SELECTORS, *ADDED])
def test_it_keeps_the_same_pairs_in_memory_in_a_stream_and_out_of_core(selector, per_aspect, added, tmp_path):
    data = rows()
    expected = PDFilter(0.3, selector=selector, per_aspect=per_aspect, seed=7)
    kept = expected(data)
    assert len(kept) == 27
    stream = PDFilter(0.3, selector=selector, per_aspect=per_aspect, seed=7)
    assert same(list(stream(data.to_iterable_dataset(num_shards=2))), kept.to_list(), exact=True)
    data.to_parquet(tmp_path / "in.parquet", batch_size=20)
    manifest = select_out_of_core(
        tmp_path / "in.parquet", tmp_path / "out", 0.3, selector=selector, per_aspect=per_aspect, seed=7
    )
    assert read_rows(tmp_path / "out" / "selected")["pair_id"][:] == kept["pair_id"][:]
    loaded = PDFilter.load(tmp_path / "out")
    assert loaded.thresholds_ == stream.thresholds_ == expected.thresholds_
    numbers = expected.report_.to_dict()
    assert set(numbers["overlap"]) == {*SELECTORS} - {selector}
    found = manifest.results["report"]
    assert same({**found, "overlap": None}, {**numbers, "overlap": None, "not_computed": ["overlap"]})
    assert json.loads(json.dumps(loaded.report_.to_dict())) == found


@pytest.mark.parametrize("selector", [*SELECTORS, *ADDED])
def test_it_runs_from_the_command_to_the_page_and_the_card(selector, added, command, tmp_path):  # noqa: F811
    data = rows(40)
    data.to_parquet(tmp_path / "in.parquet")
    for out, options in (("memory", []), ("files", ["--out_of_core", "true"])):
        outcome = command(
            "select",
            "--dataset_name",
            tmp_path / "in.parquet",
            "--output_dir",
            tmp_path / out,
            "--selector",
            selector,
            *options,
        )
        assert outcome.code == 0 and f"Selection by {selector}: 12 of 40" in outcome.out, outcome.err
        assert selector in dataset_card(dataset_facts(tmp_path / out, "me/mine"), None)
    pytest.importorskip("bokeh")
    from pd_trl.report.writing import write_report

    page = write_report(tmp_path / "memory", tmp_path / "page.html")
    assert SELECTORS[selector].description in html.unescape(page.read_text())


def test_a_column_that_a_rule_does_not_find_names_the_columns(added, tmp_path):
    data = scored_rows(30)
    data.to_parquet(tmp_path / "in.parquet")
    for select in (
        lambda: PDFilter(0.3, selector="mine")(data),
        lambda: PDFilter(0.3, selector="mine").fit(data.to_iterable_dataset()),
        lambda: select_out_of_core(tmp_path / "in.parquet", tmp_path / "out", selector="mine"),
    ):
        with pytest.raises(InputError, match=r"selector='mine'` needs the column 'my_score'"):
            select()
    # As a rival it is left out.
    pd_filter = PDFilter(0.3).fit(data)
    assert "mine" not in pd_filter.report_["overlap"] and "by_id" in pd_filter.report_["overlap"]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda x, seed: np.sqrt(x["my_score"]), "finite numbers, got nan in row"),
        (lambda x, seed: x["my_score"][:3], "one number for each of"),
        (lambda x, seed: x["pair_id"], "one number for each of"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_scores_that_rank_nothing_are_refused(score, message, monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(SELECTORS, "bad", Selector("bad", ("my_score",), score, "no rule"))
    data = rows(30)
    data.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(InputError, match=f"'bad' must give {message}"):
        PDFilter(0.3, selector="bad")(data)
    with pytest.raises(InputError, match=f"'bad' must give {message}"):
        select_out_of_core(tmp_path / "in.parquet", tmp_path / "out", selector="bad")
    assert (
        "bad" not in PDFilter(0.3).fit(data).report_["overlap"] and "no overlap with the selector 'bad'" in caplog.text
    )


def test_the_pairs_without_votes_have_no_score_whatever_the_rule(monkeypatch, tmp_path):
    monkeypatch.setitem(
        SELECTORS, "filled", Selector("filled", ("pd",), lambda x, seed: np.nan_to_num(x["pd"]), "0 for none")
    )
    data = scored_rows(80, ratings=True, missing=0.6)
    settings = {"selector": "filled", "source": "ratings", "on_no_votes": "drop"}
    expected = PDFilter(0.5, **settings)
    kept = expected(data)
    data.to_parquet(tmp_path / "in.parquet")
    manifest = select_out_of_core(tmp_path / "in.parquet", tmp_path / "out", 0.5, **settings)
    silent = expected.report_["missing_votes"]["none"]
    assert silent and manifest.counts["kept"] == len(kept) == -(-(80 - silent) // 2)
    assert "and are dropped" in str(expected.report_)
