"""`pd-trl report`, and the section `report` of a recipe."""

import pytest

from pd_trl.pipeline.recipe import steps_of
from pd_trl.runs.artifacts import read_json
from tests.cli.conftest import command  # noqa: F401
from tests.report.data import scored_folder, scored_set

pytest.importorskip("bokeh", reason="Bokeh is not installed (the extra `report`)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra `report`)")
PICTURES = {"pd.png", "length.png", "aspects.png", "votes.png", "conflict.png", "correlation.png"}


def test_command_writes_page_and_pictures_and_skips_what_is_done(command, tmp_path):  # noqa: F811
    scored = scored_folder(scored_set(200), tmp_path / "score")
    select, report = tmp_path / "select", tmp_path / "report"
    assert command("select", "--dataset_name", scored, "--output_dir", select, "--budget", 0.25).code == 0
    arguments = ("report", "--dataset_name", select, "--output_dir", report)

    dry = command(*arguments, "--dry-run")
    assert dry.code == 0 and "would write" in dry.out and not report.exists()

    done = command(*arguments)
    assert done.code == 0 and "total 200, kept 50" in done.out
    assert {path.name for path in report.iterdir()} == {"report.html", "manifest.json", *PICTURES}
    manifest = read_json(report / "manifest.json")
    assert manifest["results"]["bytes"]["report.html"] == (report / "report.html").stat().st_size

    written = (report / "report.html").stat().st_mtime_ns
    assert "already done" in command(*arguments).out
    assert (report / "report.html").stat().st_mtime_ns == written
    command(*arguments, "--title", "Another").refused("another run", "title", "--overwrite")
    assert command(*arguments, "--title", "Another", "--overwrite").code == 0
    assert "<title>Another</title>" in (report / "report.html").read_text(encoding="utf-8")


def test_command_refuses_what_is_no_selection(command, tmp_path):  # noqa: F811
    scored = scored_folder(scored_set(20), tmp_path / "score")
    command("report").refused("--dataset_name")
    command("report", "--dataset_name", scored, "--output_dir", tmp_path / "r").refused("'score'", "pd-trl select")
    command("report", "--dataset_name", scored, "--output_dir", scored).refused("holds the input")
    command("report", "--dataset_name", scored, "--max_examples", -1).refused("max_examples")
    assert not (tmp_path / "r").exists()


def test_recipe_reports_on_its_selection():
    steps = steps_of({"output_dir": "runs/x", "select": {"dataset_name": "scored"}, "report": {}, "dpo": None})
    assert [step.name for step in steps] == ["select", "report", "dpo"]
    assert steps[1].section == {"dataset_name": "runs/x/select", "output_dir": "runs/x/report"}
    assert steps[1].needs == ["runs/x/select"]
