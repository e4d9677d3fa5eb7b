"""A dry run of publishing without a token and without a connection."""

import pytest
import yaml

from pd_trl.cards import split_readme
from tests.cli.conftest import command  # noqa: F401


@pytest.fixture
def selection(command, tmp_path):  # noqa: F811
    prepared, selected = tmp_path / "prepare", tmp_path / "select"
    assert command("prepare", "--dataset_name", "sample", "--output_dir", prepared).code == 0
    assert command("select", "--dataset_name", prepared, "--source", "ratings", "--output_dir", selected).code == 0
    return selected


def test_a_dry_run_needs_no_token_and_leaves_the_card(command, selection, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    flags = ["publish", "dataset", "--dataset_name", selection, "--repo_id", "my-selection"]
    command(*flags).refused("there is no token", "hf auth login")
    outcome = command(*flags, "--dry_run", "true", "--card_file", tmp_path / "cards" / "README.md")
    assert outcome.code == 0, outcome.err
    assert "your-name/my-selection (dry run)] would change" in outcome.out
    assert "Not compared with the Hub: this is what a new repository would hold." in outcome.out
    assert (
        "+ data/selected-" in outcome.out.replace("selected/train", "data/selected-")
        and "selected 45 rows" in outcome.out
    )
    card = (tmp_path / "cards" / "README.md").read_text()
    metadata, body = split_readme(card)
    assert card.rstrip() in outcome.out and metadata["configs"] and "45 of 150" in body.replace("**", "")


def test_a_dry_run_of_a_collection_and_of_a_recipe_ask_no_hub(command, selection, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    collection = ["publish", "collection", "--title", "My run", "--dataset", "me/uf"]
    command(*collection).refused("there is no token")
    outcome = command(*collection, "--dry_run")
    assert outcome.code == 0 and "would change: a new one" in outcome.out, outcome.err
    assert "+ dataset me/uf" in outcome.out and "The Hub was not asked" in outcome.out

    recipe = tmp_path / "recipe.yaml"
    publish = {"dataset": "uf", "collection": "My run"}
    select = {"dataset_name": str(selection.parent / "prepare"), "source": "ratings", "output_dir": str(selection)}
    recipe.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "run"), "select": select, "publish": publish}))
    command("run", "--config", recipe).refused("there is no token")
    outcome = command("run", "--config", recipe, "--dry_run")
    assert outcome.code == 0, outcome.err
    assert "your-name/uf" in outcome.out and "The Hub was not asked" in outcome.out
