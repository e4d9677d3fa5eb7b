"""The page in a real browser: what the slider counts, what hostile texts can do, and who can use it."""

import os

import numpy as np
import pytest

from pd_trl.report import write_report
from pd_trl.selection.filter import PDFilter
from pd_trl.text.tables import number, percent
from tests.report.data import ASPECTS, METRICS, scored_set, selection_folder

COUNT = 1200
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> ${alert(1)} {{7*7}}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "select"
    selection_folder(scored_set(COUNT), path)
    return path


@pytest.fixture(scope="module")
def report(folder):
    return write_report(folder, folder.parent / "report.html")


def numbers_at(budget, **settings):
    return PDFilter(budget, proxy_metrics=METRICS, **settings).fit(scored_set(COUNT)).report_.to_dict()


def check_shown(page, numbers):
    """All live numbers of the page against those of a report."""
    for grouping in ("aspect", "votes"):
        expected = [
            [name, f"{group['total']:,}", f"{group['kept']:,}", percent(group["share"])]
            for name, group in numbers[f"kept_by_{grouping}"].items()
        ]
        assert [row[:4] for row in page.table(f"[data-grouping={grouping}]")] == expected
    shown = {row[0]: row[1:] for row in page.table("#groups")}
    groups = ("all", "kept", "dropped")
    for name, shares in numbers["unseen_labels"].items():
        assert shown[f"hidden labels that agree: {name}"] == [percent(shares[group]) for group in groups]
    longer = [percent(numbers["lengths"][group]["chosen_longer"]) for group in groups]
    assert shown["chosen response is the longer one"] == longer
    for side in ("chosen", "rejected"):
        means = [number(numbers["lengths"][group][f"mean_characters_{side}"], 1) for group in groups]
        assert shown[f"mean characters, {side}"] == means
    assert page.page.inner_text("[data-figure=kept]") == f"{numbers['kept']:,}"
    assert page.page.inner_text("[data-figure=longer]") == longer[1]


def test_slider_counts_what_the_filter_keeps(report, open_page):
    """At the filter's own budget, at others by the keyboard, and at any number of pairs."""
    page = open_page(report)
    check_shown(page, numbers_at(0.3))
    page.page.focus("#slider")
    page.page.keyboard.press("ArrowRight")
    page.settle()
    check_shown(page, numbers_at(0.301))
    page.page.keyboard.press("End")
    page.settle()
    assert page.page.inner_text("[data-figure=kept]") == f"{COUNT:,}"
    page.page.keyboard.press("Home")
    page.settle()
    check_shown(page, numbers_at(0.001))
    for count in (1, 777):
        page.page.fill("#count", str(count))
        page.settle()
        check_shown(page, numbers_at(count))
    assert page.page.get_attribute("#slider", "aria-valuetext") == "64.8 %, 777 pairs"
    assert "kept 777" in page.page.inner_text("#status")
    page.page.click("#reset")
    page.settle()
    check_shown(page, numbers_at(0.3))
    assert page.page.input_value("#slider") == "300"
    page.clean()


def agreement(scored, pair_ids):
    """Share of the votes of other aspects that agree, among those that decide."""
    votes = [
        np.sign(row[f"reward_gap_{name}"])
        for row in scored
        for name in ASPECTS
        if name != row["aspect"] and row["pair_id"] in pair_ids
    ]
    return percent(votes.count(1) / (votes.count(1) + votes.count(-1)))


def test_expected_agreement_leaves_ties_out(tmp_path, open_page):
    """In the table, at the slider, and for all pairs by the numbers of each aspect in the report."""
    scored = scored_set(300)
    for name in ASPECTS:
        gaps = np.round(scored[f"reward_gap_{name}"][:]).astype(np.float32)  # a third are ties
        scored = scored.remove_columns(f"reward_gap_{name}").add_column(f"reward_gap_{name}", gaps)
    pd_filter = selection_folder(scored, tmp_path / "select")
    page = open_page(write_report(tmp_path / "select", tmp_path / "report.html"))
    kept = set(pd_filter(scored)["pair_id"])
    every = set(scored["pair_id"][:])
    row = {row[0]: row[1:] for row in page.table("#groups")}["expected agreement: votes of the other aspects"]
    assert row == [agreement(scored, pairs) for pairs in (every, kept, every - kept)]
    assert page.page.inner_text("[data-figure=agreement]") == row[1]
    entries = pd_filter.report_.to_dict()["aspects"].values()
    decided = sum(entry["decided"] for entry in entries)
    assert row[0] == percent(sum(entry["agrees"] * entry["decided"] for entry in entries) / decided)
    page.page.fill("#count", "211")
    page.settle()
    kept = set(PDFilter(211, proxy_metrics=METRICS)(scored)["pair_id"])
    assert page.page.inner_text("[data-figure=agreement]") == agreement(scored, kept)


_TICKS = """() => Bokeh.documents.flatMap((page) => page.roots()).filter((root) => root.x_range).map((plot) => {
  const [axis, { start, end }] = [plot.below[0], plot.x_range];
  return axis.formatter.doFormat(axis.ticker.get_ticks(start, end, plot.x_range, 0).major, { loc: 0 });
})"""


def test_no_axis_names_a_place_twice(tmp_path, open_page):
    """Where lengths differ by a token or two, ticks between them would be rounded to the same numbers."""
    path = tmp_path / "select"
    selection_folder(scored_set(90, delta_length=(np.arange(90) % 2).astype(np.int32)), path)
    labels = open_page(write_report(path, tmp_path / "report.html")).page.evaluate(_TICKS)
    assert len(labels) >= 3
    assert all(len(set(axis)) == len(axis) for axis in labels), labels


def test_budget_of_each_aspect(tmp_path, open_page):
    path = tmp_path / "select"
    selection_folder(scored_set(COUNT), path, per_aspect=True)
    page = open_page(write_report(path, tmp_path / "report.html"))
    for count in (10, 599):
        page.page.fill("#count", str(count))
        page.settle()
        check_shown(page, numbers_at(count, per_aspect=True))


def test_texts_of_the_data_are_shown_and_never_run(tmp_path, open_page):
    """Hostile texts everywhere that data can stand: aspects, ids, texts, reasons, the source's name."""
    aspects = [HOSTILE, "$$x^2$$", "__proto__"]
    scored = scored_set(90)
    own = np.arange(90) % 3
    scored = scored.remove_columns([c for c in scored.column_names if c.startswith(("reward_gap_", "vote_"))])
    for k, name in enumerate(aspects):
        gaps = np.random.default_rng(k).normal(0, 1, 90).astype(np.float32)
        scored = scored.add_column(f"reward_gap_{name}", gaps)
    for name, values in {
        "aspect": [aspects[k] for k in own],
        "pair_id": [f"{HOSTILE} {i}" for i in range(90)],
        "chosen": [f"{HOSTILE} chosen {i}" for i in range(90)],
        "rejected": [f"<!--<script>{HOSTILE} \u202e\u2028 \x00 rejected" for _ in range(90)],
        "prompt": [[{"role": f"user{HOSTILE}", "content": HOSTILE}] for _ in range(90)],
    }.items():
        scored = scored.remove_columns([name] if name in scored.column_names else []).add_column(name, values)
    selection_folder(scored, tmp_path / "select", proxy_metrics={HOSTILE: METRICS["honesty"]})
    page = open_page(write_report(tmp_path / "select", tmp_path / "r.html", title=HOSTILE))
    assert page.page.title() == HOSTILE and page.page.inner_text("h1") == HOSTILE
    page.page.fill("#search", "<script>")
    page.page.click("#examples tbody button >> nth=0")
    shown = page.page.locator("#examples .texts section div").all_inner_texts()
    assert shown[0] == f"[user{HOSTILE}] {HOSTILE}"
    assert shown[1].startswith(f"{HOSTILE} chosen ")
    assert "<!--<script></script><script>window.hacked = 1</script>" in shown[2]
    assert {row[0] for row in page.table("[data-grouping=aspect]")} == set(aspects)
    page.page.fill("#count", "40")
    page.settle()
    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("img").count() == 0
    page.clean()


def test_policy_stops_scripts_that_are_not_ours(report, open_page):
    page = open_page(report)
    page.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.hacked = 1';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hacked = 2">');
        }"""
    )
    page.page.wait_for_timeout(200)
    assert page.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in problem for problem in page.problems)


def test_search_filter_sort_and_read(report, open_page):
    page = open_page(report)
    assert page.page.inner_text("#found") == "1,000 of 1,000 pairs match."
    ids = page.page.eval_on_selector_all("#examples .pair", "(rows) => rows.map((row) => row.dataset.id)")
    assert len(ids) == 20
    page.page.fill("#search", ids[3])
    assert page.page.inner_text("#found") == "1 of 1,000 pairs match."
    page.page.fill("#search", "no such words")
    assert page.page.inner_text("#found") == "No pair matches." and not page.table("#examples")
    page.page.fill("#search", "")
    page.page.select_option("#which", "dropped")
    assert page.page.inner_text("#found") == "640 of 1,000 pairs match."
    assert {row[0] for row in page.table("#examples")} == {"dropped"}
    page.page.select_option("#aspect", "honesty")
    assert {row[2] for row in page.table("#examples")} == {"honesty"}
    page.page.click("#next")
    assert page.page.inner_text("#page").startswith("Page 2 of")
    page.page.focus("#examples thead th:nth-child(2) button")
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Enter")
    values = [float(row[1].replace("−", "-")) for row in page.table("#examples")]
    assert values == sorted(values, reverse=True) and len(set(values)) > 1
    assert page.page.get_attribute("#examples thead th:nth-child(2)", "aria-sort") == "descending"
    assert page.page.evaluate("document.activeElement.innerText.trim()") == "PD"
    page.clean()


def test_examples_follow_the_slider(report, open_page):
    page = open_page(report)
    page.page.select_option("#which", "kept")
    for count, shown in ((COUNT, 1000), (1, None)):
        page.page.fill("#count", str(count))
        page.settle()
        found = page.page.inner_text("#found")
        assert found == f"{shown:,} of 1,000 pairs match." if shown else "1,000 of" not in found


def test_usable_by_keyboard_alone(report, open_page):
    """From the top, the tab key reaches skip link, slider, number, reset, search and a pair's texts, each with a name."""
    page = open_page(report)
    reached = []
    for _ in range(60):
        page.page.keyboard.press("Tab")
        found = page.page.evaluate(
            """() => { const node = document.activeElement;
            return [node.id || node.tagName, (node.labels?.[0]?.innerText || node.getAttribute('aria-label') || node.innerText || '').trim(),
                    getComputedStyle(node).outlineStyle]; }"""
        )
        reached.append(found)
        if found[1].startswith("Read the texts"):
            break
    names = [name for name, _, _ in reached]
    for name in ("slider", "count", "reset", "search", "which", "aspect"):
        assert name in names
    assert reached[0][1] == "Skip to the report"
    assert all(label for name, label, _ in reached if name not in ("DIV", "BODY"))
    assert [name for name, _, outline in reached if outline == "none"] == []
    page.page.keyboard.press("Enter")
    assert page.page.locator(".texts").count() == 1
    assert page.page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"


def test_accessible_names_and_landmarks(report, open_page):
    page = open_page(report)
    assert page.page.locator("main").count() == 1 and page.page.locator("h1").count() == 1
    assert page.page.locator("input, select, button").count() > 5
    unnamed = page.page.eval_on_selector_all(
        "input, select, button",
        "(nodes) => nodes.filter((n) => !(n.labels?.length || n.innerText || n.ariaLabel)).map((n) => n.outerHTML)",
    )
    assert unnamed == []
    for plot in page.page.locator(".plot").all():
        assert plot.get_attribute("role") == "img" and len(plot.get_attribute("aria-label")) > 20
        assert plot.locator("canvas, .bk-Figure").count() > 0
    assert page.page.locator("#curves-table tbody tr").count() == 10


CONTRAST = """() => {
    const luminance = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        const scale = text.startsWith('color(') ? 1 : 255;
        const [x, y, z] = [r, g, b].map((c) => c / scale).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return [0.2126 * x + 0.7152 * y + 0.0722 * z, text.includes('/') || text.startsWith('rgba') ? a : 1];
    };
    const behind = (node) => { for (let n = node; n; n = n.parentElement) {
        const [value, alpha] = luminance(getComputedStyle(n).backgroundColor); if (alpha === 1) return value; } return 1; };
    const found = [];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !node.checkVisibility() || node.closest('.plot, .hidden, .skip, script') || node.disabled) continue;
        const [a] = luminance(getComputedStyle(node).color), b = behind(node);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.push([node.tagName, node.className, node.textContent.trim().slice(0, 30), ratio]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(report, open_page, scheme):
    page = open_page(report, color_scheme=scheme, reduced_motion="reduce")
    assert page.page.evaluate(CONTRAST) == []
    light = page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 245, 247)"
    assert light == (scheme == "light")


def test_plots_follow_a_change_of_the_color_scheme(report, open_page):
    page = open_page(report, color_scheme="light")
    before = page.page.locator("#histogram").screenshot()
    page.page.emulate_media(color_scheme="dark")
    page.page.wait_for_timeout(1500)
    assert page.page.locator("#histogram").screenshot() != before
    assert page.page.locator("#histogram .bk-Figure").count() == 1
    page.clean()


def test_motion_only_where_it_is_wanted(report, open_page):
    durations = {}
    for motion in ("reduce", "no-preference"):
        page = open_page(report, reduced_motion=motion)
        durations[motion] = page.page.eval_on_selector(".bar span", "(n) => getComputedStyle(n).transitionDuration")
    assert durations == {"reduce": "0s", "no-preference": "0.15s"}


def test_fits_a_phone(report, open_page):
    page = open_page(report, width=390, height=844)
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    slider = page.page.locator("#slider").bounding_box()
    assert slider["width"] > 150 and slider["y"] + slider["height"] < 844
    assert page.page.locator("#budget").bounding_box()["height"] < 844 / 4
    page.clean()


def test_moving_the_slider_redraws_the_histogram(report, open_page):
    page = open_page(report, reduced_motion="reduce")
    before = page.page.locator("#histogram").screenshot()
    page.page.fill("#count", str(COUNT))
    page.settle()
    assert page.page.locator("#histogram").screenshot() != before


@pytest.mark.parametrize(
    "settings, columns, absent",
    [
        ({"selector": "random"}, ["pair_id", "chosen", "rejected"], "#histogram, #aspect-title, #votes-title"),
        ({"selector": "length"}, ["pair_id", "aspect", "delta_length", "chosen"], "#histogram, #votes-title"),
        ({"selector": "random"}, ["pair_id"], "#curves, #lengths, #histogram"),
        ({"source": "column", "pd_column": "reward_gap_honesty"}, ["pair_id", "reward_gap_honesty"], "#votes-title"),
    ],
    ids=["texts", "lengths", "ids", "column"],
)
def test_sets_without_gaps_have_a_page_too(tmp_path, open_page, settings, columns, absent):
    scored = scored_set(60).select_columns(columns)
    page = open_page(write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(0.5, **settings)))
    assert page.page.locator(absent).count() == 0
    assert page.page.inner_text("[data-figure=kept]") == "30"
    page.page.fill("#count", "7")
    page.settle()
    assert page.page.inner_text("[data-figure=kept]") == "7"
    assert page.page.inner_text("#found") == "60 of 60 pairs match."
    page.clean()


def test_histogram_without_the_pairs_that_have_no_votes(tmp_path, open_page):
    scored = scored_set(60)
    metrics = {name: {"pair_accuracy": 0.9 if name == ASPECTS[0] else 0.4} for name in ASPECTS}
    pd_filter = PDFilter(0.5, min_proxy_accuracy=0.5, proxy_metrics=metrics, on_no_votes="drop")
    page = open_page(write_report(scored, tmp_path / "r.html", pd_filter=pd_filter))
    with_votes = 60 - scored["aspect"][:].count(ASPECTS[0])
    assert f"PD of {with_votes} pairs" in page.page.get_attribute("#histogram", "aria-label")
    page.page.fill("#count", "60")
    page.settle()
    assert "NaN" not in page.page.inner_text("body") and page.page.inner_text("[data-figure=kept]") == "60"
    page.clean()


def test_one_pair(tmp_path, open_page):
    scored = scored_set(3).select([0])
    page = open_page(
        write_report(scored, tmp_path / "r.html", pd_filter=PDFilter(1, source="ratings", selector="length"))
    )
    assert page.page.inner_text("[data-figure=kept]") == "1"
    page.clean()


def test_sixty_thousand_pairs_open_in_three_seconds(tmp_path, open_page):
    scored = scored_set(60_000)
    path = write_report(scored, tmp_path / "report.html", pd_filter=PDFilter(0.3, proxy_metrics=METRICS))
    assert path.stat().st_size < 5_000_000
    times = []
    for _ in range(3):
        page = open_page(path)
        session = page.page.context.new_cdp_session(page.page)
        session.send("Performance.enable")
        metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
        load = page.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        drawn = float(page.page.evaluate("document.documentElement.dataset.ready"))
        times.append((load, drawn, 1000 * metrics["ProcessTime"]))
        if max(times[-1]) < 2500:
            break
    load, drawn, busy = np.min(times, axis=0)
    # Processor time does not depend on what else runs; the clock only counts where there is a processor to be had.
    assert busy < 2500, times
    if os.getloadavg()[0] < 1.5 * (os.cpu_count() or 1):
        assert load < 3000 and drawn < 3000, times
    numbers = PDFilter(0.3, proxy_metrics=METRICS).fit(scored).report_.to_dict()
    check_shown(page, numbers)
    page.clean()
