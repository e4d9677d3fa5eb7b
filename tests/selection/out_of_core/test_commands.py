"""`pd-trl select --out_of_core true`, and the stages that go on from it."""

import json

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import PDFilter, select_out_of_core
from pd_trl.runs.artifacts import Manifest, read_rows, write_json, write_rows
from pd_trl.selection.out_of_core import run as out_of_core_run
from tests.selection.out_of_core.data import same, scored_rows, write_files


def test_it_leaves_what_the_command_in_memory_leaves(command, tmp_path):
    data = scored_rows(300, levels=2)
    write_rows(data, tmp_path / "score" / "scored", rows_per_shard=70)
    metrics = {"depth": {"pair_accuracy": 0.7, "pair_accuracy_se": 0.02, "length_accuracy": 0.5}}
    Manifest("score", results={"proxy_metrics": metrics, "provenance": {"source": {"name": "mine"}}}).save(
        tmp_path / "score"
    )
    shared = ["select", "--dataset_name", tmp_path / "score", "--budget", 0.25, "--weights", '{"clarity": 2}']
    assert command(*shared, "--output_dir", tmp_path / "memory").code == 0
    dry = command(*shared, "--output_dir", tmp_path / "files", "--out_of_core", "true", "--dry_run", "true")
    assert dry.code == 0 and "would write" in dry.out and not (tmp_path / "files").exists(), dry.err
    outcome = command(*shared, "--output_dir", tmp_path / "files", "--out_of_core", "true")
    assert outcome.code == 0, outcome.err
    assert "75 of 300 pairs kept" in outcome.out and "Not computed out of core: overlap" in outcome.out
    assert "PD from" in dry.out and "kept by votes" in dry.out
    memory, files = tmp_path / "memory", tmp_path / "files"
    assert sorted(p.name for p in memory.iterdir()) == sorted(p.name for p in files.iterdir())
    for part in ("selected", "dropped"):
        assert same(read_rows(files / part).to_dict(), read_rows(memory / part).to_dict(), exact=True)
    ours, theirs = (json.loads((folder / "filter.json").read_text()) for folder in (files, memory))
    assert ours["statistics"] == theirs["statistics"] and ours["arguments"] == theirs["arguments"]
    ours, theirs = (Manifest.load(folder) for folder in (files, memory))
    assert ours.stage == "select" and ours.counts == theirs.counts
    assert ours.arguments == {**theirs.arguments, "weights": {"clarity": 2}}
    assert ours.results["provenance"] == theirs.results["provenance"] == {"source": {"name": "mine"}}
    assert ours.results["report"]["aspects"]["depth"]["proxy"]["pair_accuracy"] == 0.7
    assert "already done" in command(*shared, "--output_dir", files, "--out_of_core", "true").out
    again = PDFilter.load(files).transform(data)
    assert sum(again["pd_kept"]) == 75


def test_the_report_and_the_card_go_on_from_it(command, tmp_path):
    pytest.importorskip("bokeh")
    folder = write_files(scored_rows(80), tmp_path / "in", 2)
    arguments = ["--output_dir", tmp_path / "select", "--out_of_core", "true"]
    assert command("select", "--dataset_name", folder, *arguments).code == 0
    outcome = command("report", "--dataset_name", tmp_path / "select", "--output_dir", tmp_path / "report")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    from pd_trl.cards import dataset_card
    from pd_trl.publishing.facts import dataset_facts

    assert "24" in dataset_card(dataset_facts(tmp_path / "select", "me/uf-pd"), None)


def test_bad_input_is_one_line(command, tmp_path):
    folder = write_files(scored_rows(40), tmp_path / "in", 2)
    shared = ["--output_dir", tmp_path / "out", "--out_of_core", "true"]
    command("select", *shared).refused("--dataset_name")
    command("select", "--dataset_name", tmp_path / "none", *shared).refused("hf://datasets")
    command("select", "--dataset_name", folder, "--budget", 41, *shared).refused("only 40")
    command("select", "--dataset_name", folder, "--output_dir", tmp_path / "in", "--out_of_core", "true").refused(
        "holds the input"
    )
    assert not (tmp_path / "out").exists()


def test_rows_of_any_format_are_selected_alike_and_more_rows_only_lack_the_overlap(command, tmp_path, monkeypatch):
    data = scored_rows(60, levels=2)
    write_rows(data, tmp_path / "parquet" / "scored", rows_per_shard=25)
    data.to_json(str(tmp_path / "rows.jsonl"))
    reports = []
    for place, name in enumerate(("parquet", "parquet", "rows.jsonl")):
        monkeypatch.setattr(out_of_core_run, "OVERLAP_ROWS", 59 if place == 1 else 60)
        outcome = command("select", "--dataset_name", tmp_path / name, "--output_dir", tmp_path / str(place))
        assert outcome.code == 0, outcome.err
        assert ("Not computed" in outcome.out) == (place == 1)
        reports.append(json.loads((tmp_path / str(place) / "report.json").read_text()))
        for part in ("selected", "dropped"):
            rows = [read_rows(tmp_path / str(i) / part)["pair_id"][:] for i in (0, place)]
            assert rows[0] == rows[1]
    pd_filter = PDFilter()
    pd_filter.fit(data)
    assert (
        reports[0]["overlap"] == pd_filter.report_["overlap"] == reports[2]["overlap"]
        and "random" in reports[0]["overlap"]
    )
    assert reports[1]["overlap"] == {} and same(reports[0], pd_filter.report_.to_dict())


@pytest.mark.parametrize("column", ["pd", "other"])
def test_a_given_column_is_ranked_as_in_memory(command, tmp_path, column):
    data = scored_rows(90, levels=1)
    data = data.add_column(column, [float(i % 7) / 3 for i in range(90)])
    write_rows(data, tmp_path / "scored", rows_per_shard=40)
    options = {"source": "column", "pd_column": column, "per_aspect": True}
    flags = ["--source", "column", "--pd_column", column, "--per_aspect", "true"]
    outcome = command("select", "--dataset_name", tmp_path, "--output_dir", tmp_path / "out", *flags)
    assert outcome.code == 0, outcome.err
    decided = PDFilter(**options).fit_transform(data)
    for part, kept in (("selected", True), ("dropped", False)):
        expected = decided.filter(lambda row, kept=kept: row["pd_kept"] == kept).to_dict()
        assert same(read_rows(tmp_path / "out" / part).to_dict(), expected, exact=True)


def test_a_pattern_and_a_url(command, tmp_path):
    folder = write_files(scored_rows(40), tmp_path / "in", 2)
    write_json(tmp_path / "in" / "other.json", {})
    for place, name in enumerate((folder / "part-*.parquet", f"file://{folder}/*.parquet", f"file://{folder}")):
        out = tmp_path / str(place)
        outcome = command("select", "--dataset_name", name, "--output_dir", out, "--out_of_core", "true")
        assert outcome.code == 0, outcome.err
        assert read_rows(out / "selected")["pair_id"][:] == read_rows(tmp_path / "0" / "selected")["pair_id"][:]


def test_shards_of_a_later_version_share_most_of_their_bytes(tmp_path):
    """One row less at the beginning: the Hub then stores few new bytes, as of what `datasets` writes."""
    texts = [np.random.default_rng(i).bytes(200).hex() for i in range(15_000)]
    written = []
    for skipped in (0, 1):
        rows = {"pair_id": [f"{i:08d}" for i in range(skipped, len(texts))], "chosen": texts[skipped:]}
        rows["delta_length"] = list(range(skipped, len(texts)))
        Dataset.from_dict(rows).to_parquet(tmp_path / f"in{skipped}.parquet")
        select_out_of_core(tmp_path / f"in{skipped}.parquet", tmp_path / f"out{skipped}", 1.0, selector="length")
        (shard,) = (tmp_path / f"out{skipped}" / "selected").glob("*.parquet")
        written.append(shard.read_bytes())
    # Whole pages: shorter parts of texts are found in any file.
    size = 1 << 16
    parts = [written[0][start : start + size] for start in range(0, len(written[0]) - size, size)]
    assert sum(part in written[1] for part in parts) / len(parts) > 0.6
