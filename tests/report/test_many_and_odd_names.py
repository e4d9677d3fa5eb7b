"""Reports of many aspects, and of aspects with odd names."""

import os
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import PDFilter
from pd_trl.cards.dataset_tables import matrix_table
from pd_trl.cards.text import number
from pd_trl.data.validation import MAX_ASPECT
from pd_trl.errors import InputError
from pd_trl.report import write_report
from pd_trl.report.pictures import write_pictures
from pd_trl.report.ranked import _conflicts
from pd_trl.report.writing import read_selection
from pd_trl.selection.out_of_core.run import select_out_of_core
from pd_trl.text.names import display_name, display_names
from tests.processes import ROOT

LONG = "x" * (MAX_ASPECT - 1)
ODD = [
    "carriage\rreturn",
    "carriage\nreturn",
    LONG,
    LONG + "y",
    "right\u202eleft",
    "tab\tand\x1b[31mred",
    "",
    "\u2028",
    "a&quot;<b>",
]


def pairs(names: list[str], count: int = 60) -> Dataset:
    generator = np.random.default_rng(1)
    gaps = {f"reward_gap_{name}": generator.normal(size=count).astype(np.float32) for name in names}
    own = [names[i % len(names)] for i in range(count)]
    texts = {side: [f"{side} {i}" for i in range(count)] for side in ("prompt", "chosen", "rejected")}
    return Dataset.from_dict({"pair_id": [f"p{i}" for i in range(count)], "aspect": own, **texts, **gaps})


@pytest.mark.parametrize(
    "name, shown",
    [
        ("plain", "plain"),
        ("a\rb", "a b"),
        (" a \r\n b\t", "a b"),
        ("a\u202eb", "a\ufffdb"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\ud800", "\ufffd"),
        ("", "(empty)"),
        ("x" * 121, "x" * 119 + "…"),
        ("诚实 \u200d", "诚实 \u200d"),
        (3, "3"),
    ],
)
def test_names_as_they_are_shown(name, shown):
    assert display_name(name) == shown


def test_names_that_look_alike_are_numbered():
    shown = display_names(ODD)
    assert len(set(shown.values())) == len(ODD) and list(shown) == ODD
    assert shown["carriage\nreturn"] == "carriage return (2)" and max(map(len, shown.values())) < 130


def test_a_page_of_odd_names(tmp_path, open_page):
    pd_filter = PDFilter(0.5, weights={ODD[0]: 2.0, LONG: 0.5})
    path = write_report(pairs(ODD), tmp_path / "r.html", pd_filter=pd_filter, title=f"a\r{LONG}")
    assert path.stat().st_size < 3_000_000 and len(str(pd_filter.report_)) < 20_000
    assert set(pd_filter.report_["kept_by_aspect"]) == set(ODD)
    assert not set("\r\u202e\x1b") & set(str(pd_filter.report_))
    page = open_page(path)
    shown = {row[0]: row[1:] for row in page.table("[data-grouping=aspect]")}
    assert set(shown) == set(display_names(sorted(ODD)).values())
    page.page.fill("#count", "60")
    page.settle()
    assert {row[2] for row in page.table("[data-grouping=aspect]")} == {
        row[1] for row in page.table("[data-grouping=aspect]")
    }
    for value in page.page.eval_on_selector_all("#aspect option", "(all) => all.map((o) => o.value)"):
        page.page.select_option("#aspect", value)
        assert page.page.inner_text("#found") != "No pair matches."
    assert page.page.evaluate("document.documentElement.scrollWidth") <= page.page.evaluate("innerWidth")
    if folder := os.environ.get("PD_TRL_SCREENSHOTS"):
        page.page.screenshot(path=f"{folder}/odd.png", full_page=True)
    page.clean()


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("reward_gap_{}", {}),
        ("aspect", {"selector": "random"}),
        ("vote_{}", {"source": "ratings"}),
        ("rating_{}_chosen", {"source": "ratings"}),
    ],
)
def test_a_name_longer_than_names_are_is_refused(column, options, tmp_path):
    """A report has a value for every two aspects: 112 aspects, one of 200,000 characters, took 32 s and 3.3 GB."""
    long, data = "x" * 200_000, pairs(["a", "b"])
    if column == "aspect":
        data = data.remove_columns("aspect").add_column("aspect", ["a", long] * 30)
    else:
        for name in {column.format(long), column.format(long).replace("_chosen", "_rejected")}:
            data = data.add_column(name, [1] * 60)
    with pytest.raises(InputError, match="200 characters or fewer, but one has 200,000.*in column") as error:
        PDFilter(0.5, **options)(data)
    assert len(str(error.value)) < 400
    data.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="200 characters or fewer"):
        select_out_of_core(tmp_path / "rows.parquet", tmp_path / "out", 0.5, **options)


def test_a_page_of_a_hundred_aspects(tmp_path, open_page):
    path = write_report(pairs([f"aspect_{k:03d}" for k in range(100)], 300), tmp_path / "r.html")
    page = open_page(path)
    assert len(page.table("[data-grouping=aspect]")) == 100
    assert [len(page.table(f"#matrices-title ~ .columns > div:nth-child({i}) table")) for i in (1, 4)] == [30, 30]
    assert "the first 30 are shown" in page.page.inner_text("main")
    assert page.page.locator("#examples thead th").count() == 17
    assert "(those of the first 12 of 100 aspects)" in page.page.inner_text("main")
    if folder := os.environ.get("PD_TRL_SCREENSHOTS"):
        page.page.screenshot(path=f"{folder}/many.png", full_page=True)
    page.clean()


SCRIPT = """
import resource, sys
sys.path.insert(0, {root!r})
from tests.report.test_many_and_odd_names import pairs
from pd_trl.report.pictures import write_pictures
from pd_trl.report.writing import read_selection
names = ["aspect_%03d" % k for k in range({count})]
print(len(write_pictures(read_selection(pairs(names, 300)), {folder!r})))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_maxrss / 1e6, usage.ru_utime + usage.ru_stime)
"""


@pytest.mark.slow
def test_pictures_of_a_hundred_aspects_take_little(tmp_path):
    """Bounded in memory and in seconds of the processor, which are those of another 30 aspects and not of 100."""
    script = SCRIPT.format(root=str(ROOT), folder=str(tmp_path), count=100)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    written, numbers = done.stdout.splitlines()
    memory, seconds = map(float, numbers.split())
    assert written == "6" and memory < 1.5 and seconds < 30
    assert max(path.stat().st_size for path in tmp_path.glob("*.png")) < 3_000_000


def test_pictures_of_odd_names(tmp_path):
    assert len(write_pictures(read_selection(pairs(ODD)), tmp_path)) == 6


def test_a_card_shows_a_matrix_of_so_many():
    names = [f"a{i}" for i in range(40)]
    table = matrix_table({a: dict.fromkeys(names, 0.5) for a in names}, "", number)
    assert table.count("\n") == 33 and table.endswith("The first 30 of 40 aspects.")


def disagreement(first, second):
    both = np.isin(first, (0.0, 1.0)) & np.isin(second, (0.0, 1.0))
    return float((first[both] != second[both]).mean()) if both.any() else None


def test_conflicts_are_the_disagreement_of_every_two():
    opinions = np.random.default_rng(0).choice([0.0, 0.5, 1.0], (70_000, 4), p=[0.3, 0.3, 0.4])
    opinions[:, 3] = 0.5
    expected = [[None if i == j else disagreement(opinions[:, i], opinions[:, j]) for j in range(4)] for i in range(4)]
    found = _conflicts([opinions[:65_536], opinions[65_536:]])
    assert [[None if v is None else pytest.approx(v) for v in row] for row in expected] == found
