"""From a plain jsonl of prompt, chosen and rejected to a kept set with reasons; and the rewards of single responses."""

import json

import pytest

from pd_trl.runs.artifacts import read_rows
from pd_trl.runs.resources import recipe_path
from tests.cli.test_prepare import write
from tests.data.test_plain import plain
from tests.models.published.checkpoints import FAMILIES
from tests.models.published.checkpoints import write as write_checkpoint
from tests.rating.scripted import rating, write_pairs
from tests.servers.replay_server import replay
from tests.tiny import tiny_reward_model, tiny_tokenizer


@pytest.fixture(scope="module")
def voters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voters")
    for seed, name in enumerate(("helpful", "honest")):
        tiny_reward_model(seed).save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    return f"{{helpful: {folder / 'helpful'}, honest: {folder / 'honest'}}}"


@pytest.fixture
def pairs(tmp_path):
    rows = plain(40).to_list()
    rows[3]["rejected"] = rows[3]["chosen"]
    return write(tmp_path / "pairs.jsonl", rows)


def test_three_commands(tmp_path, command, voters, pairs):
    score = ("score", "--dataset_name", pairs, "--reward_models", voters, "--output_dir", tmp_path / "scored")
    planned = command(*score, "--dry_run")
    assert planned.code == 0 and "39 pairs, 2 reward models" in planned.out and not (tmp_path / "scored").exists()
    scored = command(*score)
    assert scored.code == 0 and "pairs 40, scored 39, dropped 1" in scored.out
    assert "dropped, identical responses: 1" in scored.out
    assert "already done" in command(*score).out
    selected = command("select", "--dataset_name", tmp_path / "scored", "--output_dir", tmp_path / "selected")
    assert (
        selected.code == 0 and "agrees with the overall label" in selected.out and "other aspects" not in selected.out
    )
    rows = read_rows(tmp_path / "selected" / "selected")
    assert (
        len(rows) == 12 and set(rows["aspect"]) == {"overall"} and set(rows["pd_reason"]) == {"kept: pd within budget"}
    )
    page = command("report", "--dataset_name", tmp_path / "selected", "--output_dir", tmp_path / "page")
    assert page.code == 0 and not (tmp_path / "page" / "aspects.png").exists()
    html = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "below 0 the aspects agree with its label" in html and "agrees with the overall label" in html
    text = html.split("<script", 1)[0]
    assert "other aspects" not in text and "Kept by aspect" not in text


def selected_with_reasons(command, tmp_path, *flags):
    """Keeps a third of the pairs in `scored`, and opens the report."""
    selected = command("select", "--dataset_name", tmp_path / "scored", "--output_dir", tmp_path / "selected", *flags)
    assert selected.code == 0 and "agrees with the overall label" in selected.out, selected
    kept, dropped = (read_rows(tmp_path / "selected" / part) for part in ("selected", "dropped"))
    assert set(kept["pd_reason"]) == {"kept: pd within budget"} and set(dropped["pd_reason"]) == {
        "dropped: pd over budget"
    }
    page = command("report", "--dataset_name", tmp_path / "selected", "--output_dir", tmp_path / "page")
    assert page.code == 0 and (tmp_path / "page" / "report.html").is_file()
    return len(kept), len(dropped)


def test_three_commands_with_one_model_of_several_outputs(tmp_path, command, pairs):
    family = next(family for family in FAMILIES if family.name == "urm")
    write_checkpoint(family, tmp_path / "urm", tokenizer=tiny_tokenizer())
    scored = command(
        "score", "--dataset_name", pairs, "--reward_models", tmp_path / "urm", "--output_dir", tmp_path / "scored"
    )
    assert scored.code == 0 and all(name in scored.out for name in family.names), scored
    assert selected_with_reasons(command, tmp_path, "--weights", "decorrelated") == (12, 27)


def test_three_commands_with_a_judge(tmp_path, command):
    pytest.importorskip("openai", reason="the extra `alpaca` is not installed")
    source = write_pairs(tmp_path / "pairs.jsonl", 12)
    with replay([], rating) as server:
        rated = command(
            "rate", "--dataset_name", source, "--judge_model", "m", "--base_url", server.base_url, "--output_dir", tmp_path / "scored"
        )  # fmt: skip
    assert rated.code == 0 and "12 pairs rated by m" in rated.out, rated
    kept, dropped = selected_with_reasons(command, tmp_path, "--source", "ratings")
    assert kept == 4 and kept + dropped == 12


def test_prepare_gives_the_same_pairs(tmp_path, command, voters, pairs):
    prepared = command("prepare", "--dataset_name", pairs, "--output_dir", tmp_path / "prepared")
    assert prepared.code == 0 and "source's overall label" in prepared.out
    models = ("--reward_models", voters, "--output_dir")
    assert command("score", "--dataset_name", pairs, *models, tmp_path / "a").code == 0
    assert command("score", "--dataset_name", tmp_path / "prepared", *models, tmp_path / "b").code == 0
    first, second = (read_rows(tmp_path / name / "scored").to_list() for name in "ab")
    assert first == second
    reward = command(
        "reward", "--dataset_name", tmp_path / "prepared", "--model_name_or_path", "m", "--output_dir", tmp_path / "r"
    )
    reward.refused("can vote as the aspects", "pd-trl score")


def test_single_responses(tmp_path, command, voters):
    rows = [{"q": row["prompt"], "text": row["chosen"], "id": i} for i, row in enumerate(plain(5))]
    path = write(tmp_path / "responses.jsonl", rows)
    score = ("score", "--dataset_name", path, "--reward_models", voters, "--output_dir", tmp_path / "scored")
    command(*score).refused("unknown schema", "'response': '<column>'")
    named = (*score, "--column_mapping", "{prompt: q, response: text}")
    found = command(*named)
    assert found.code == 0 and "responses 5, scored 5, dropped 0" in found.out and "reward_gap" not in found.out
    scored = read_rows(tmp_path / "scored" / "scored")
    assert scored.column_names == ["q", "text", "id", "reward_helpful", "reward_honest"]
    assert "already done" in command(*named).out
    other = command(*score, "--column_mapping", "prompt: q\nresponse: q", "--overwrite", "true")
    assert other.code == 0


def test_labels_of_several_aspects_are_chosen_by_prepare(tmp_path, command, voters):
    rows = [{"prompt": "a", "response_a": "b", "response_b": "c", "pref_tone": 1, "pref_depth": 0}]
    path = write(tmp_path / "rated.jsonl", rows)
    scored = command("score", "--dataset_name", path, "--reward_models", voters, "--output_dir", tmp_path / "out")
    scored.refused("labels of several aspects", "pd-trl prepare")


def test_the_recipe_and_its_plan(tmp_path, command, voters, pairs, monkeypatch):
    assert recipe_path("overall-labels").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = ("run", "--config", "overall-labels", "--dataset_name", pairs, "--output_dir", tmp_path / "run")
    planned = command(*run, "--dry_run")
    assert planned.code == 0 and "would make" in planned.out and not (tmp_path / "run").exists()
    models = ("--score.reward_models", voters)
    cost = command("plan", *run[1:], *models)
    assert cost.code == 0 and "score" in cost.out
    done = command(*run, *models)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "select" / "report.json").read_text())["kept"] == 12
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    assert command(*run, *models).out.count("already done") == 4


def test_a_recipe_without_prepare_is_planned_too(tmp_path, command, voters, pairs):
    recipe = tmp_path / "direct.yaml"
    recipe.write_text(
        f"output_dir: {tmp_path / 'direct'}\nscore: {{dataset_name: {pairs}, reward_models: {voters}}}\nselect: {{}}\n"
    )
    cost = command("plan", "--config", recipe)
    assert cost.code == 0 and "39" in cost.out
