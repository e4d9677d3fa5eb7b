"""`pd-trl publish`, and the stage `publish` of a recipe."""

import json

import pytest
import yaml

from pd_trl.pipeline.recipe import steps_of
from pd_trl.runs.artifacts import Manifest, write_rows
from tests.hub.local import ME, ME_READ_ONLY, TOKENS
from tests.publishing import clients
from tests.publishing.selections import scored_rows, select_into


def recipe(folder, **publish) -> dict:
    """A recipe that selects from scored pairs and publishes."""
    write_rows(scored_rows(), folder / "scored")
    return {
        "output_dir": str(folder / "run"),
        "select": {"dataset_name": str(folder / "scored"), "budget": 0.3},
        "publish": publish,
    }


@pytest.fixture
def write(tmp_path):
    def file(content: dict):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return file


def test_stage_takes_the_folders_of_the_others(tmp_path):
    steps = steps_of({**recipe(tmp_path, dataset="me/x"), "reward": {}, "dpo": {}, "seed": 1})
    section = steps[-1].section
    root = tmp_path / "run"
    assert steps[-1].stage == "publish" and section["output_dir"] == str(root / "publish")
    folders = {name: section[name] for name in ("selection_dir", "reward_dir", "policy_dir")}
    assert folders == {
        "selection_dir": str(root / "select"),
        "reward_dir": str(root / "reward"),
        "policy_dir": str(root / "dpo"),
    }
    assert set(folders.values()) <= set(steps[-1].needs)
    assert "publish" not in section["recipe"] and section["recipe"]["seed"] == 1


def test_a_run_publishes_and_does_it_once(plain_hub, tmp_path, write):
    content = recipe(
        tmp_path, dataset="me/of-run", report="me/of-run-report", collection="Of a run", license="mit", tag="v1"
    )
    code, said = plain_hub.run(clients.command, "run", "--config", write(content))
    assert code == 0, said
    assert len(plain_hub.run(clients.loaded, "me/of-run", revision="v1")["pair_id"]) == 18
    published = Manifest.load(tmp_path / "run" / "publish")
    assert set(published.results["commits"]) == {"dataset me/of-run", "space me/of-run-report"}
    assert "[collection 'Of a run'] published" in said
    assert "spaces/me/of-run-report" in plain_hub.text("datasets", "me/of-run", "README.md")
    recipe_there = yaml.safe_load(plain_hub.text("datasets", "me/of-run", "recipe.yaml"))
    assert recipe_there["select"]["budget"] == 0.3 and str(tmp_path) not in json.dumps(recipe_there)
    assert clients.holding(str(tmp_path), TOKENS) == []
    again = plain_hub.call(
        clients.command, "run", "--config", write({**content, "publish": {**content["publish"], "tag": None}})
    )
    assert again.value[0] == 2 and "pass --overwrite" in again.value[1]


@pytest.mark.slow
def test_an_interrupted_publication_with_a_tag_goes_on(plain_hub, tmp_path, write):
    """The Space has its tag when the data set is refused; the same command ends it, and another run finds the tag in use."""
    publish = {"dataset": "me/torn", "report": "me/torn-report", "tag": "v1"}
    path = write(recipe(tmp_path, **publish))
    plain_hub.fault("/api/datasets/me/torn/commit/", method="POST", status=403)
    code, said = plain_hub.run(clients.command, "run", "--config", path)
    assert code == 2 and plain_hub.repo("spaces", "me/torn-report")["tags"]
    code, said = plain_hub.run(clients.command, "run", "--config", path)
    assert code == 0, said
    tags = [
        plain_hub.repo(kind, name)["tags"] for kind, name in (("datasets", "me/torn"), ("spaces", "me/torn-report"))
    ]
    assert all(list(found) == ["v1"] for found in tags)
    (tmp_path / "later").mkdir()
    later = recipe(tmp_path / "later", **publish)
    plain_hub.call(checked_run, later).refused("has the tag 'v1' already")


def test_a_public_collection_does_not_become_private_by_being_asked(plain_hub, tmp_path, write):
    assert (
        plain_hub.run(
            clients.command, "run", "--config", write(recipe(tmp_path, dataset="me/open-1", collection="Open"))
        )[0]
        == 0
    )
    (tmp_path / "more").mkdir()
    more = recipe(tmp_path / "more", dataset="me/open-2", collection="Open", private=True)
    plain_hub.call(checked_run, more).refused("is public, but `private` was asked for")


@pytest.mark.parametrize(
    "section, token, words",
    [
        ({"publish": {"dataset": "closed/x"}}, ME, "not a member of 'closed'"),
        ({"publish": {"dataset": "x"}}, ME_READ_ONLY, "can only read"),
        ({"publish": {"dataset": "x", "license": "my-own"}}, ME, "my-own"),
        ({"publish": {"model": "x", "tag": "bad tag"}}, ME, "no name for a tag"),
        ({"publish": {"report": "x", "tag": "v1", "create_pr": True}}, ME, "cannot be given to a pull request"),
        ({"publish": {"model": "closed/x"}}, ME, "not a member of 'closed'"),
        ({"publish": {"report": "x"}}, ME_READ_ONLY, "can only read"),
        ({"publish": {"reward_models": "closed/rm"}}, ME, "not a member of 'closed'"),
        ({"publish": {}}, ME, "names nothing to publish"),
        ({"dpo": {"push_to_hub": True, "hub_model_id": "closed/x"}}, ME, "not a member of 'closed'"),
        ({"reward": {"push_to_hub": True, "hub_model_id": "closed/x"}}, ME, "not a member of 'closed'"),
    ],
)
def test_what_would_be_refused_at_the_end_is_refused_at_the_start(plain_hub, section, token, words, tmp_path):
    """Before the first stage runs: neither folders nor requests that change anything."""
    content = {**recipe(tmp_path, dataset="me/x"), "model_name_or_path": str(tmp_path), **section}
    outcome = plain_hub.call(checked_run, content, token=token)
    outcome.refused(words)
    assert not (tmp_path / "run").exists()
    asked = {"/api/validate-yaml"}
    assert {e["path"] for e in plain_hub.log() if e["method"] not in ("GET", "HEAD")} <= asked


def checked_run(content: dict) -> None:
    """What `pd-trl run` does before the first stage."""
    from pd_trl.cli.run import _check

    _check(steps_of(content))


def test_dry_run_of_a_recipe_shows_what_would_be_published(plain_hub, tmp_path, write):
    select_into(tmp_path / "run" / "select")
    content = {**recipe(tmp_path, dataset="me/dry-run"), "publish": {"dataset": "me/dry-run"}}
    code, said = plain_hub.run(clients.command, "run", "--config", write(content), "--stages", "publish", "--dry_run")
    assert code == 0 and "+ selected/train-00000-of-00001.parquet" in said and "config_name: scored" in said
    assert plain_hub.repo("datasets", "me/dry-run") is None and not (tmp_path / "run" / "publish").exists()


def test_commands(plain_hub, tmp_path):
    folder, name = select_into(tmp_path / "select"), "me/by-command"
    arguments = ("publish", "dataset", "--dataset_name", folder, "--repo_id", name)
    code, said = plain_hub.run(clients.command, *arguments, "--dry_run")
    assert code == 0 and "+ filter.json" in said and plain_hub.repo("datasets", name) is None
    code, said = plain_hub.run(clients.command, *arguments, "--private", "true", "--language", "en", "de")
    assert code == 0 and "published: " in said and "(private)" in said and plain_hub.repo("datasets", name)["private"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["datset"], "Did you mean 'dataset'"),
        (["dataset"], "--dataset_name"),
        (["dataset", "--dataset_name", "nothing", "--repo_id", "x"], "is none"),
        (["dataset", "--dataset_name", "nothing"], "--repo_id"),
        (["model", "--repo_id", "x"], "--model_name_or_path"),
        (["report", "--repo_id", "x"], "--report"),
        (["collection"], "--title"),
        (["collection", "--title", "x", "--reward_models", "nonsense"], "json object"),
    ],
)
def test_bad_arguments_are_one_line(command, arguments, words):
    outcome = command("publish", *arguments)
    outcome.refused(words)


def test_help(command):
    assert "collection" in command("publish").out and command("publish", "--help").code == 0
