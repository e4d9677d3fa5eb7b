"""Other weights on the page: the ids that it keeps, the files that it gives, and the search for a pair."""

import json
from pathlib import Path

import numpy as np
import pytest

import pd_trl.report
from pd_trl.report import write_report
from pd_trl.report.decision import Decision
from pd_trl.selection.filter import PDFilter
from tests.report.data import ASPECTS, METRICS, scored_set

FILES = Path(pd_trl.report.__file__).parent / "files"
# The page's own code on the page's own data, at many settings in one call.
DRIVER = """async (settings) => {
  %s
  const record = await (await unpack("record")).json();
  const columns = readColumns(record.layout, await (await unpack("numbers")).arrayBuffer());
  const state = { record, columns, ids: await (await unpack("ids")).json(), total: record.total, share: null };
  state.deciding = decidingOf(record, columns);
  state.givenScored = columns.pd.reduce((sum, value) => sum + (value === value), 0);
  return settings.map(([weights, pairs, share]) => {
    state.deciding.weights = weights ?? [...state.deciding.given];
    state.share = share;
    state.pairs = share ? pairsOf(share, state.total) : pairs;
    decide(state);
    const ids = Array.from({ length: keptPairs(state) }, (_, rank) => pairId(state, rowAt(state, rank)));
    return { ids, filter: filterJson(state), sql: keptSql(state) };
  });
}"""


def script():
    files = ("numbers.js", "ranking.js", "examples.js", "exports.js", "why.js")
    return DRIVER % "".join((FILES / name).read_text(encoding="utf-8") for name in files)


def kept_ids(decided):
    ids = np.asarray(decided["pair_id"][:], dtype=object)
    return sorted(ids[np.asarray(decided["pd_kept"][:], dtype=bool)])


def coarse_set(seed, count=250, ratings=False):
    """Pairs with many equal PDs, odd ids and names, some labels of no aspect, and ratings of which some are missing."""
    rng = np.random.default_rng(seed)
    scored = scored_set(count, seed)
    starts = ["𝄞'", '"é', "\uffee", "a\\", "b\n"]
    columns: dict[str, list] = {
        "pair_id": [f"{starts[i % 5]}{i}" for i in rng.permutation(count)],
        "aspect": [str(name) for name in rng.choice([*ASPECTS, "overall"], count)],
    }
    for name in ASPECTS:
        columns[f"reward_gap_{name}"] = (np.round(rng.normal(size=count) * 3) / 7).astype(np.float32)
        # The votes of the last aspect are a column in place of ratings.
        for side in ("chosen", "rejected") if name != ASPECTS[-1] else ():
            values = rng.integers(1, 6, count).astype(float)
            columns[f"rating_{name}_{side}"] = [None if rng.random() < 0.2 else value for value in values]
    for name, values in columns.items():
        scored = scored.remove_columns([name] if name in scored.column_names else []).add_column(name, values)
    return scored


@pytest.mark.parametrize(
    "fixed",
    [{}, {"source": "ratings"}, {"per_aspect": True, "selector": "pd_high"}, {"source": "ratings", "per_aspect": True, "gamma": 0.7}],
    ids=["rewards", "ratings", "pd_high-per-aspect", "ratings-per-aspect"],
)  # fmt: skip
def test_page_keeps_what_the_filter_keeps(tmp_path, open_page, fixed):
    """Ids, `filter.json` and SQL at fifty settings of each kind, against a filter that is fitted by them."""
    scored = coarse_set(len(fixed))
    fixed = {"on_no_votes": "drop", "proxy_metrics": METRICS, **fixed}
    page = open_page(write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(0.3, **fixed)))
    rng = np.random.default_rng(7)
    settings: list = [[None, None, 300], [None, 20, None]]
    for _ in range(48):
        weights = rng.choice([0, 0, 0.05, 0.3, 1, 1, 1.7, 2, 123456.789], 3).tolist()
        weights = weights if any(weights) else [0.1, 0.2, 0.3]
        by_share = rng.random() < 0.5
        settings.append([weights, None if by_share else int(rng.integers(1, 70)), int(rng.integers(1, 1001)) if by_share else None])  # fmt: skip
    found = page.page.evaluate(script(), settings)
    own = PDFilter(0.3, **fixed).fit(scored).weights_
    voted = [ASPECTS[-1]] if fixed.get("source") == "ratings" else []
    for (weights, pairs, share), result in zip(settings, found, strict=True):
        weights = dict(zip(ASPECTS, weights, strict=True)) if weights else own
        count = len(result["ids"])
        # A share on the page is one of all pairs; where some have no vote, it is given as a number.
        budget = share / 1000 if share and count == -(-share * len(scored) // 1000) else count
        pd_filter = PDFilter(budget, weights=weights, **fixed)
        decided = pd_filter.fit_transform(scored)
        ranked = len(scored) - decided["pd"][:].count(None)
        if ranked < len(scored) and share:
            pd_filter = PDFilter(count, weights=weights, **fixed)
            decided = pd_filter.fit_transform(scored)
        assert count == min(ranked, pairs or -(-share * len(scored) // 1000))
        kept = kept_ids(decided)
        assert sorted(result["ids"]) == kept
        (tmp_path / "filter.json").write_text(result["filter"], encoding="utf-8")
        loaded = PDFilter.load(tmp_path / "filter.json")
        assert kept_ids(loaded.transform(scored)) == kept
        assert loaded.to_dict() == {**pd_filter.to_dict(), "weights": weights}
        assert loaded.proxy_metrics_ == METRICS
        assert result["sql"] == loaded.to_sql(voted=voted) == pd_filter.to_sql(voted=voted)
    page.clean()


def test_sliders_downloads_and_search(tmp_path, open_page):
    scored = scored_set(300)
    page = open_page(
        write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(0.3, proxy_metrics=METRICS), max_examples=40)
    )
    before = page.page.inner_text("[data-figure=last]")
    page.page.fill("#weight-1", "0")
    page.page.locator("#weights input[type=range]").nth(0).focus()
    page.page.keyboard.press("ArrowRight")
    page.page.fill("#count", "77")
    page.settle()
    pd_filter = PDFilter(77, weights={ASPECTS[0]: 1.05, ASPECTS[1]: 0.0}, proxy_metrics=METRICS)
    kept = kept_ids(pd_filter.fit_transform(scored))
    numbers = pd_filter.report_.to_dict()
    assert page.page.inner_text("[data-figure=last]") != before
    shown = {row[0]: row[2] for row in page.table("[data-grouping=votes]")}
    assert shown == {name: str(group["kept"]) for name, group in numbers["kept_by_votes"].items()}

    with page.page.expect_download() as download:
        page.page.click("#save-filter")
    assert download.value.suggested_filename == "filter.json"
    loaded = PDFilter.load(download.value.path())
    assert kept_ids(loaded.transform(scored)) == kept
    with page.page.expect_download() as download:
        page.page.click("#save-sql")
    condition = Path(download.value.path()).read_text(encoding="utf-8").strip()
    assert condition == pd_filter.to_sql()
    duckdb = pytest.importorskip("duckdb")
    scored.to_parquet(tmp_path / "scored.parquet")
    rows = duckdb.sql(f"SELECT pair_id FROM '{tmp_path / 'scored.parquet'}' WHERE {condition}").fetchall()
    assert sorted(name for (name,) in rows) == kept

    dropped = pd_filter.transform(scored).filter(lambda row: not row["pd_kept"])[5]
    page.page.fill("#find", dropped["pair_id"])
    assert page.page.inner_text("#pair .state") == "dropped"
    assert page.page.inner_text("#pair .sum strong").replace("−", "-") == f"{dropped['pd']:.3f}"
    parts = page.page.locator("#pair .votes li").all_inner_texts()
    own = ASPECTS.index(dropped["aspect"])
    assert len(parts) == 4 and "gave the label" in parts[own]
    assert "weight 0" in parts[1] or own == 1
    page.page.fill("#find", "0000")
    assert page.page.inner_text("#find-status") == "The first 8 ids with this text:"
    page.page.click("#found-pairs button >> nth=2")
    page.page.fill("#find", "no such id")
    assert page.page.inner_text("#find-status") == "No pair_id has this text."

    page.page.fill("#weight-0", "0")
    page.page.fill("#weight-2", "0")
    assert page.page.is_visible("#weights-problem")
    page.page.click("#weights-reset")
    page.page.click("#reset")
    page.settle()
    assert page.page.inner_text("[data-figure=last]") == before
    fitted = PDFilter(0.3, proxy_metrics=METRICS).fit(scored)
    with page.page.expect_download() as download:
        page.page.click("#save-filter")
    fitted.save(tmp_path / "filter.json")
    saved, given = (json.loads(Path(path).read_text()) for path in (download.value.path(), tmp_path / "filter.json"))
    assert saved["statistics"] == given["statistics"]
    page.clean()


def test_a_page_of_too_many_pairs_has_no_weights(tmp_path, open_page, monkeypatch):
    monkeypatch.setattr("pd_trl.report.decision.MAX_VALUES", 100)
    page = open_page(write_report(scored_set(60), tmp_path / "r.html", pd_filter=PDFilter(0.5)))
    assert page.page.locator("#find, #weights").count() == 0
    page.page.click("#examples tbody button >> nth=0")
    page.clean()


def test_other_rules_have_a_search_without_weights(tmp_path, open_page):
    scored = scored_set(60)
    path = write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(0.5, selector="length"))
    page = open_page(path)
    page.page.fill("#find", scored["pair_id"][0])
    assert page.page.locator("#pair .votes li").count() >= 3 and page.page.locator("#weights").count() == 0
    assert "by length" in page.page.inner_text("#pair")
    page.clean()


def test_no_path_of_this_machine_is_in_the_settings(tmp_path):
    scored = scored_set(60)
    html = write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(0.5, margin_column="/home/me/margin"))
    from pd_trl.report.decision import decision_of
    from pd_trl.report.writing import read_selection

    selection = read_selection(scored, PDFilter(0.5, margin_column="/home/me/margin"))
    decision = decision_of(selection.decided, selection.ranked, selection.pd_filter)
    assert isinstance(decision, Decision) and "/home/me" not in json.dumps(decision.record)
    assert "/home/me" not in html.read_text(encoding="utf-8")
