"""The page as a file: what goes in, how large it gets, and what is refused."""

import base64
import gzip
import hashlib
import html
import json
import re
import sys

import numpy as np
import pytest

from pd_trl.errors import InputError, InputTypeError
from pd_trl.report import examples, page, write_report
from pd_trl.report.examples import readable, sample_examples
from pd_trl.report.ranked import rank_pairs
from pd_trl.runs.artifacts import read_json
from pd_trl.selection.filter import PDFilter
from tests.report.data import scored_set, selection_folder

pytest.importorskip("bokeh", reason="Bokeh is not installed (the extra `report`)")
COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("selection") / "select"
    selection_folder(scored_set(COUNT), path)
    return path


def block(text, name):
    packed = re.search(rf'id="block-{name}">([^<]*)</script>', text)
    return gzip.decompress(base64.b64decode(packed[1]))


def test_page_needs_nothing_from_outside(folder, tmp_path):
    text = write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:,|#|https://arxiv\.org/abs/2508\.07638")', text)
    assert re.findall(r"https?://[^\"<\s]+", text.split("<script")[0]) == ["https://arxiv.org/abs/2508.07638"]
    assert "@import" not in text and "url(" not in text


def test_policy_names_exactly_the_scripts(folder, tmp_path):
    text = write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    inline = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(inline) == 1
    scripts = [inline[0].encode(), block(text, "library")]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts]
    assert f"script-src {' '.join(hashes)};" in policy
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy


def test_same_selection_gives_the_same_page(folder, tmp_path):
    first, second = (write_report(folder, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_folder_and_data_set_give_the_same_numbers(folder, tmp_path):
    from tests.report.data import METRICS

    pd_filter = PDFilter(0.3, proxy_metrics=METRICS)
    pages = [
        write_report(folder, tmp_path / "a.html"),
        write_report(scored_set(COUNT), tmp_path / "b.html", pd_filter=pd_filter),
    ]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    assert block(texts[0], "numbers") == block(texts[1], "numbers")
    assert json.loads(block(texts[0], "record"))["examples"] == json.loads(block(texts[1], "record"))["examples"]


def test_numbers_without_javascript_are_those_of_the_report(folder, tmp_path):
    text = write_report(folder, tmp_path / "r.html").read_text(encoding="utf-8")
    numbers = read_json(folder / "report.json")
    for grouping in ("aspect", "votes"):
        table = re.search(rf'<table data-grouping="{grouping}">.*?</table>', text, re.DOTALL)[0]
        found = re.findall(r'data-group="\d+"><th scope="row">(.*?)</th>.*?data-cell="kept">([\d,]+)<', table)
        found = [(name.replace("<wbr>", ""), count) for name, count in found]
        assert dict(found) == {name: f"{g['kept']:,}" for name, g in numbers[f"kept_by_{grouping}"].items()}
    assert "is no better than a coin on 500 held-out pairs" in text
    shown = re.search(r"The report as text</summary><pre[^>]*>(.*?)</pre>", text, re.DOTALL)[1]
    assert html.unescape(shown) == (folder / "report.txt").read_text(encoding="utf-8").rstrip("\n")


def test_labels_that_the_manifest_knows_have_a_conflict_matrix(folder, tmp_path):
    manifest = read_json(folder / "manifest.json")
    copy = tmp_path / "select"
    selection_folder(scored_set(COUNT), copy)
    manifest["results"] = {
        "provenance": {
            "conflict": {"helpfulness": {"honesty": 0.4321}, "honesty": {"helpfulness": 0.4321}},
            "source": {"dataset": "someone/feedback", "license": "mit", "languages": ["en", "de"]},
        }
    }
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = write_report(copy, tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("43.2 %") == 2 and "Conflict of the labels" in text
    assert "<title>Selection report: someone/feedback</title>" in text and "<td>en, de</td>" in text


def test_examples_are_half_kept_half_dropped_and_a_function_of_the_seed():
    scored = scored_set(COUNT)
    pd_filter = PDFilter(0.3)
    decided = pd_filter.fit_transform(scored)
    drawn = sample_examples(decided, rank_pairs(decided, pd_filter), 100, 42)
    assert len(drawn["rank"]) == 100 and sum(rank < 90 for rank in drawn["rank"]) == 50
    assert drawn["rank"] == sorted(drawn["rank"])
    by_id = {row["pair_id"]: row for row in decided}
    for i, name in enumerate(drawn["id"]):
        row = by_id[name]
        assert (drawn["chosen"][i], drawn["reason"][i]) == (row["chosen"], row["pd_reason"])
        assert drawn["pd"][i] == pytest.approx(row["pd"], abs=1e-4)
        gaps = [row[f"reward_gap_{aspect}"] for aspect in pd_filter.aspects_]
        assert drawn["gaps"][i] == pytest.approx(gaps, abs=1e-4)
    shuffled = scored.shuffle(seed=1)
    decided = pd_filter.fit_transform(shuffled)
    assert sample_examples(decided, rank_pairs(decided, pd_filter), 100, 42)["id"] == drawn["id"]
    assert sample_examples(decided, rank_pairs(decided, pd_filter), 100, 43)["id"] != drawn["id"]
    fewer = sample_examples(decided, rank_pairs(decided, pd_filter), 250, 42)
    assert sum(rank < 90 for rank in fewer["rank"]) == 90, "all the kept, then more of the dropped"


def test_page_stays_small_whatever_the_texts(tmp_path):
    """Texts that hardly compress, of any length: fewer examples, and the page says how many."""
    generator = np.random.default_rng(0)
    texts = ["".join(map(chr, generator.integers(0x4E00, 0x9FFF, 4000))) for _ in range(COUNT)]
    scored = scored_set(COUNT, chosen=texts, rejected=texts[::-1])
    path = write_report(scored, tmp_path / "r.html", max_examples=COUNT)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    shown = len(json.loads(block(text, "record"))["examples"]["rank"])
    assert 200 < shown < COUNT
    assert f"{shown} of the {COUNT} pairs, drawn at random" in " ".join(text.split())


def test_long_texts_and_chats_are_readable():
    assert readable("x" * examples.MAX_CHARACTERS) == "x" * examples.MAX_CHARACTERS
    assert readable("x" * 2000).endswith("x … (the first 1,500 of 2,000 characters)")
    chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": None}]
    assert readable(chat) == "[user] Why?\n\n[assistant] "
    assert readable(None) == ""


def test_no_examples(folder, tmp_path):
    text = write_report(folder, tmp_path / "r.html", max_examples=0).read_text(encoding="utf-8")
    assert json.loads(block(text, "record"))["examples"]["rank"] == []


def test_everything_kept(tmp_path):
    selection_folder(scored_set(30), tmp_path / "select", budget=1.0)
    text = write_report(tmp_path / "select", tmp_path / "r.html").read_text(encoding="utf-8")
    assert "All 30 pairs." in " ".join(text.split())


@pytest.mark.parametrize("value", [-1, 2.5, True, "many"])
def test_number_of_examples_is_checked(folder, tmp_path, value):
    with pytest.raises(InputError, match="`max_examples` must be a whole number of at least 0"):
        write_report(folder, tmp_path / "r.html", max_examples=value)


def test_refusals(folder, tmp_path):
    with pytest.raises(InputError, match="must be a folder of `pd-trl select`, or the Hub id of a published one"):
        write_report(tmp_path / "nowhere", tmp_path / "r.html")
    with pytest.raises(InputTypeError, match="got list"):
        write_report([1], tmp_path / "r.html")
    with pytest.raises(InputError, match="has its own filter"):
        write_report(folder, tmp_path / "r.html", pd_filter=PDFilter())
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_rows_changed_is_refused(tmp_path):
    selection_folder(scored_set(COUNT), tmp_path / "select")
    selection_folder(scored_set(COUNT), tmp_path / "other", budget=0.5)
    (tmp_path / "select" / "filter.json").write_bytes((tmp_path / "other" / "filter.json").read_bytes())
    for name in ("selected", "dropped"):
        for file in (tmp_path / "other" / name).iterdir():
            (tmp_path / "select" / name / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="train-00000-of-00001.parquet is damaged"):
        write_report(tmp_path / "select", tmp_path / "r.html")
    # The manifest of a version that kept no digests.
    manifest = json.loads((tmp_path / "select" / "manifest.json").read_text())
    (tmp_path / "select" / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))
    with pytest.raises(InputError, match="do not match its manifest: kept 150 instead of 90"):
        write_report(tmp_path / "select", tmp_path / "r.html")


def test_missing_bokeh_names_the_extra(folder, tmp_path, monkeypatch):
    page.plotting_library.cache_clear()
    monkeypatch.setitem(sys.modules, "bokeh.resources", None)
    with pytest.raises(InputError, match=r"pip install 'pd_trl\[report\]'"):
        write_report(folder, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
