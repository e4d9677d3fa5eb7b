"""The report of a selection and the card say which output of a reward model votes, and where less is better."""

import json

import pytest

from pd_trl import PDFilter
from pd_trl.cards.dataset import dataset_card
from pd_trl.errors import InputError
from pd_trl.pipeline.stages.score import ScoreArguments, run_score
from pd_trl.pipeline.stages.select import SelectArguments, run_select
from pd_trl.publishing.facts import dataset_facts
from tests.models.published.checkpoints import FAMILIES, write
from tests.tiny import tiny_preferences

BY_NAME = {family.name: family for family in FAMILIES}
SAID = [
    "'brevity' reads of its reward model: output 'verbosity', less is better.",
    "'safety' reads of its reward model: less is better, times 0.5.",
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    place = tmp_path_factory.mktemp("published")
    write(BY_NAME["urm"], place / "urm")
    write(BY_NAME["beaver-cost"], place / "cost")
    data = tiny_preferences(8, chat=True).remove_columns("aspect").add_column("aspect", ["overall"] * 8)
    data.to_parquet(place / "data.parquet")
    # Beaver's cost is known to be one; of URM's verbosity the user says so.
    models = {
        "brevity": f"-{place / 'urm'}#verbosity",
        "correct": f"{place / 'urm'}#correctness",
        "safety": {"model": str(place / "cost"), "scale": 0.5},
    }
    run_score(ScoreArguments(str(place / "data.parquet"), output_dir=str(place / "scored"), reward_models=models))
    return place / "scored", data, models


@pytest.mark.parametrize("out_of_core", [False, True])
def test_of_a_recorded_score(scored, tmp_path, out_of_core):
    options = {"dataset_name": str(scored[0]), "output_dir": str(tmp_path / "selected"), "budget": 0.5}
    run_select(SelectArguments(out_of_core=out_of_core, **options))
    report = (tmp_path / "selected" / "report.txt").read_text()
    assert [line for line in SAID if line in report] == SAID and "output 'correctness'." in report
    numbers = json.loads((tmp_path / "selected" / "report.json").read_text())["outputs"]
    assert numbers["brevity"] == {"output": "verbosity", "sign": -1} and numbers["correct"] == {
        "output": "correctness"
    }
    card = dataset_card(dataset_facts(tmp_path / "selected", "me/pairs"))
    (row,) = (
        line
        for line in card.splitlines()
        if line.startswith("| brevity") and "reward model" not in line and "output" in line
    )
    assert "output `verbosity`, less is better" in row
    assert "less is better, times 0.5" in next(line for line in card.splitlines() if line.startswith("| safety"))


def test_of_models_that_a_filter_runs(scored):
    _, data, models = scored
    pd_filter = PDFilter(0.5, reward_models=models)
    pd_filter(data)
    assert [line for line in SAID if line in str(pd_filter.report_)] == SAID


def test_a_record_of_another_kind_is_refused(scored, tmp_path):
    (tmp_path / "scored").symlink_to(scored[0] / "scored")
    manifest = json.loads((scored[0] / "manifest.json").read_text())
    manifest["results"]["provenance"]["proxies"]["brevity"]["sign"] = "<b>"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="sign"):
        run_select(SelectArguments(str(tmp_path), output_dir=str(tmp_path / "selected"), budget=0.5))
