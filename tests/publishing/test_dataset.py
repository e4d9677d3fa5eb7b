"""Selections as data sets on a Hub: what is there, what is said, and what survives a second publication."""

import json
import re

import pytest
import yaml

from pd_trl.runs.artifacts import Manifest, read_rows, write_json
from tests.hub.local import ME, OTHER, TOKENS
from tests.publishing import clients
from tests.publishing.selections import kept_ids, scored_rows, select_into


@pytest.fixture(scope="session")
def selection(tmp_path_factory):
    """18 of 60 pairs."""
    return select_into(tmp_path_factory.mktemp("selection") / "select")


def yaml_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_published_selection_is_there_whole(hub, selection):
    name = f"me/whole-{hub.mode}"
    done = hub.run(clients.publish, selection, name, picture=True)
    assert done["rows"] == {"selected": 18, "scored": 60, "dropped": 42}
    assert "published" in done["text"] and done["sha"] in done["text"]
    assert {"README.md", "filter.json", "manifest.json", "report.txt", "assets/pd.png"} <= hub.tree(
        "datasets", name
    ).keys()
    kept, dropped = read_rows(selection / "selected").to_dict(), read_rows(selection / "dropped").to_dict()
    by_default = hub.run(clients.loaded, name, token=OTHER, user="other")
    assert by_default == kept
    assert hub.run(clients.loaded, name, "dropped", token=OTHER, user="other") == dropped
    scored = hub.run(clients.loaded, name, "scored", token=OTHER, user="other")
    assert scored == {column: kept[column] + dropped[column] for column in kept}
    assert hub.run(clients.configs, name) == ["selected", "scored", "dropped"]
    card = yaml_of(hub.text("datasets", name, "README.md"))
    assert [config["config_name"] for config in card["configs"] if config.get("default")] == ["selected"]
    sizes = {info["config_name"]: info["splits"][0]["num_examples"] for info in card["dataset_info"]}
    assert sizes == done["rows"]


def test_parquet_says_what_its_columns_are(plain_hub, selection):
    import pyarrow.parquet as pq

    plain_hub.run(clients.publish, selection, "me/parquet")
    tree = plain_hub.tree("datasets", "me/parquet")
    shards = [path for path in tree if path.endswith(".parquet")]
    assert len(shards) == 2
    for path in shards:
        metadata = pq.read_metadata(plain_hub.root / "blobs" / tree[path]["sha256"])
        assert b"huggingface" in metadata.metadata


def test_another_lambda_without_a_model(hub, selection):
    """Publish scored, load as another user, select at another budget: the ids that are kept locally."""
    name = f"me/lambda-{hub.mode}"
    hub.run(clients.publish, selection, name)
    for budget in (0.1, 0.5, 7):
        here = kept_ids(scored_rows(), budget=budget)
        assert hub.run(clients.kept_at, name, budget, token=OTHER, user="other") == here
    assert hub.run(clients.transformed, name) == sorted(read_rows(selection / "selected")["pair_id"])


def test_plain_pairs_scored_by_reward_models(plain_hub, tiny_models, tmp_path):
    """The card speaks of the overall label alone, and its code makes the selection again at another budget."""
    from pd_trl.pipeline.stages.score import ScoreArguments, run_score
    from pd_trl.pipeline.stages.select import SelectArguments, run_select
    from tests.tiny import tiny_preferences

    tiny_preferences(40).select_columns(["prompt", "chosen", "rejected"]).to_json(tmp_path / "pairs.jsonl")
    models = {"helpful": tiny_models["reward"], "harmless": f"-{tiny_models['reward']}"}
    run_score(ScoreArguments(str(tmp_path / "pairs.jsonl"), reward_models=models, output_dir=str(tmp_path / "score")))
    run_select(SelectArguments(str(tmp_path / "score"), str(tmp_path / "select"), weights={"harmless": 0.5}))
    done = plain_hub.run(clients.publish, tmp_path / "select", "me/plain")
    assert done["rows"] == {"selected": 12, "scored": 40, "dropped": 28}
    card = done["card"]
    for words in ("disagree with the overall label, the one label that a pair carries", "all of them vote on every pair",
                  "| 1 of 2 agree |", "agrees with the overall label", "The label is one of the whole response"):  # fmt: skip
        assert words in card, words
    for words in ("other aspects", "proxy", "proxies", "held-out", "| proxy accuracy", "this aspect"):
        assert words not in card, words
    here = kept_ids(read_rows(tmp_path / "score" / "scored"), budget=0.2, weights={"harmless": 0.5})
    found = plain_hub.run(clients.snippets, card, token=OTHER, user="other")
    assert found["kept"] == here and found["loaded"] == found["selected"]


def test_published_again_nothing_changes(plain_hub, selection):
    first = plain_hub.run(clients.publish, selection, "me/again")
    again = plain_hub.run(clients.publish, selection, "me/again")
    assert again["sha"] == first["sha"] and again["added"] == [] and "nothing to change" in again["text"]


def test_card_of_a_user_survives(plain_hub, selection, tmp_path):
    plain_hub.run(clients.publish, selection, "me/card")
    card = plain_hub.text("datasets", "me/card", "README.md")
    mine = card.replace("pretty_name: card\n", "pretty_name: My title\nlicense: cc-by-4.0\nthumbnail: x.png\n", 1)
    mine = mine.replace("# card\n", "# My title\n\nWords of my own.\n") + "\n## Notes\n\nMore words.\n"
    plain_hub.run(write_file, "me/card", "README.md", mine)
    plain_hub.run(write_file, "me/card", "extra/notes.txt", "mine")
    other = select_into(tmp_path / "select", budget=0.5)
    done = plain_hub.run(clients.publish, other, "me/card")
    merged = plain_hub.text("datasets", "me/card", "README.md")
    assert "Words of my own." in merged and "More words." in merged and "**30 of 60 preference pairs**" in merged
    assert "18 of 60" not in merged and merged.count("pd_trl:begin") == 1
    kept = {"pretty_name": "My title", "license": "cc-by-4.0", "thumbnail": "x.png"}
    assert kept.items() <= yaml_of(merged).items()
    assert done["rows"] == {"selected": 30, "scored": 60, "dropped": 30}
    assert "extra/notes.txt" in plain_hub.tree("datasets", "me/card")
    outside = re.sub(r"(?s)<!-- pd_trl:begin -->.*<!-- pd_trl:end -->", "", merged.split("---\n", 2)[2])
    assert outside == re.sub(r"(?s)<!-- pd_trl:begin -->.*<!-- pd_trl:end -->", "", mine.split("---\n", 2)[2])


def write_file(repo_id: str, path: str, text: str) -> None:
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo=path, repo_id=repo_id, repo_type="dataset")


def test_card_without_configs_cannot_mix_rejected_rows_in(plain_hub, selection):
    """Someone overwrites the card; the next publication mends it, so that the kept rows are not mixed with the others."""
    plain_hub.run(clients.publish, selection, "me/mixed")
    plain_hub.run(write_file, "me/mixed", "README.md", "# overwritten\n")
    assert len(plain_hub.run(clients.loaded, "me/mixed")["pair_id"]) == 60
    plain_hub.run(clients.publish, selection, "me/mixed")
    assert len(plain_hub.run(clients.loaded, "me/mixed")["pair_id"]) == 18


def test_what_does_not_load_back_is_said(plain_hub, selection):
    """A card that someone else changes right after the commit is noticed, and the message says what was published."""
    name = "me/tampered"
    plain_hub.call(publish_and_tamper, selection, name).refused("rows instead of 18", "at commit", "was published")


def publish_and_tamper(source, repo_id):
    from pd_trl.publishing import publication

    real = publication.commit_files

    def tampered(*arguments, **options):
        commit = real(*arguments, **options)
        card = "---\nconfigs:\n- config_name: selected\n  data_files: '*/train-*'\n---\n"
        write_file(repo_id, "README.md", card)
        return type(commit)(**{**vars(commit), "sha": head_of(repo_id)})

    publication.commit_files = tampered
    try:
        return clients.publish(source, repo_id)
    finally:
        publication.commit_files = real


def head_of(repo_id: str) -> str:
    from huggingface_hub import HfApi

    return HfApi().dataset_info(repo_id).sha


def test_shards_that_are_not_part_of_it_any_more_go(plain_hub, selection, tmp_path, monkeypatch):
    import shutil

    many = tmp_path / "select"
    shutil.copytree(selection, many)
    for part in ("selected", "dropped"):
        rows = read_rows(selection / part)
        shutil.rmtree(many / part)
        from pd_trl.runs.artifacts import write_rows

        write_rows(rows, many / part, rows_per_shard=10)
    first = plain_hub.run(clients.publish, many, "me/shards")
    assert sum(path.endswith(".parquet") for path in first["added"]) == 2 + 5
    second = plain_hub.run(clients.publish, selection, "me/shards")
    assert len(second["deleted"]) == 7 and second["rows"]["selected"] == 18
    assert len(plain_hub.run(clients.loaded, "me/shards", "scored")["pair_id"]) == 60


def test_dry_run_shows_files_sizes_configurations_and_card(plain_hub, selection):
    done = plain_hub.run(clients.publish, selection, "me/dry", dry_run=True)
    assert plain_hub.repo("datasets", "me/dry") is None
    for words in ("dry run", "+ selected/train-00000-of-00001.parquet", "bytes", "selected 18 rows", "config_name: scored",
                  "**18 of 60 preference pairs**"):  # fmt: skip
        assert words in done["text"]
    asked = {"/api/validate-yaml"}
    assert {e["path"] for e in plain_hub.log() if e["method"] not in ("GET", "HEAD")} <= asked


def test_dry_run_on_what_is_there(plain_hub, selection, tmp_path):
    plain_hub.run(clients.publish, selection, "me/dry-2", picture=True)
    other = select_into(tmp_path / "select", budget=1.0)
    done = plain_hub.run(clients.publish, other, "me/dry-2", dry_run=True, picture=True)
    assert "= assets" not in done["text"] and "+ README.md" in done["text"]
    assert plain_hub.num_commits("datasets", "me/dry-2") == 2


def test_where_all_pairs_are_kept_there_is_no_dropped(plain_hub, selection, tmp_path):
    plain_hub.run(clients.publish, selection, "me/all")
    done = plain_hub.run(clients.publish, select_into(tmp_path / "select", budget=1.0), "me/all")
    assert done["rows"] == {"selected": 60, "scored": 60} and done["deleted"] == [
        "dropped/train-00000-of-00001.parquet"
    ]
    assert plain_hub.run(clients.configs, "me/all") == ["selected", "scored"]
    assert len(plain_hub.run(clients.loaded, "me/all", "scored")["pair_id"]) == 60
    plain_hub.run(clients.publish, selection, "me/all")
    assert plain_hub.run(clients.configs, "me/all") == ["selected", "scored", "dropped"]


def test_rows_in_memory(plain_hub, tmp_path):
    scored_rows(40).to_parquet(tmp_path / "rows.parquet")
    done = plain_hub.run(clients.publish_rows, tmp_path / "rows.parquet", "me/memory", 0.25)
    assert done["rows"] == {"selected": 10, "scored": 40, "dropped": 30}
    assert plain_hub.run(clients.kept_at, "me/memory", 0.5) == kept_ids(scored_rows(40), budget=0.5)


def test_pull_request_and_branch(plain_hub, selection, tmp_path):
    name = "acme/proposed"
    first = plain_hub.run(clients.publish, selection, name)
    other = select_into(tmp_path / "select", budget=0.5)
    proposed = plain_hub.run(clients.publish, other, name, create_pr=True, token=OTHER, user="other")
    assert plain_hub.repo("datasets", name)["branches"]["main"] == first["sha"]
    assert "proposed: " in proposed["text"] and proposed["pr_url"].endswith("/discussions/1")
    assert len(plain_hub.run(clients.loaded, name, "selected", "refs/pr/1")["pair_id"]) == 30
    plain_hub.run(clients.publish, other, name, branch="half", tag="half-v1")
    assert len(plain_hub.run(clients.loaded, name, "selected", "half")["pair_id"]) == 30
    assert len(plain_hub.run(clients.loaded, f"{name}", "selected", "half-v1")["pair_id"]) == 30
    assert len(plain_hub.run(clients.loaded, name)["pair_id"]) == 18


def test_private_stays_private(plain_hub, selection):
    plain_hub.run(clients.publish, selection, "me/secret", private=True)
    assert plain_hub.repo("datasets", "me/secret")["private"]
    assert plain_hub.call(clients.loaded, "me/secret", token=OTHER, user="other").error is not None
    plain_hub.run(clients.publish, selection, "me/secret")
    plain_hub.call(clients.publish, selection, "me/secret", private=False).refused("is private")
    plain_hub.run(clients.publish, selection, "enterprise/by-default")
    assert plain_hub.repo("datasets", "enterprise/by-default")["private"]


def test_licence_languages_and_source(plain_hub, selection):
    source = "---\nlicense: cc-by-sa-4.0\nlanguage:\n- en\n- de\n---\n"
    plain_hub.run(clients.publish, selection, "me/source-of-it")
    plain_hub.run(write_file, "me/source-of-it", "README.md", source)
    plain_hub.run(clients.publish, selection, "me/derived", source="me/source-of-it")
    card = plain_hub.text("datasets", "me/derived", "README.md")
    wanted = {"license": "cc-by-sa-4.0", "language": ["en", "de"], "source_datasets": ["me/source-of-it"]}
    assert wanted.items() <= yaml_of(card).items()
    assert plain_hub.repo("datasets", "me/source-of-it")["branches"]["main"][:7] in card
    plain_hub.run(clients.publish, selection, "me/derived", license="mit")
    assert yaml_of(plain_hub.text("datasets", "me/derived", "README.md"))["license"] == "mit"
    refused = plain_hub.call(clients.publish, selection, "me/derived", languages=["English"])
    refused.refused("English", "ISO 639", "Nothing was uploaded")


def test_no_token_and_no_path_of_this_machine_in_what_is_published(plain_hub, selection, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(selection, run / "select")
    recipe = {"output_dir": str(run), "dpo": {"hub_token": ME, "learning_rate": 1e-4, "hub_model_id": "me/policy"},
              "prepare": {"dataset_name": str(tmp_path / "private" / "data.jsonl")}, "env": {"HF_TOKEN": ME},
              "reward": {"eos_token": "<eos>", "note": f"log in as {ME}"}}  # fmt: skip
    write_json(run / "run.json", {"recipe": recipe, "seconds": 1.0})
    manifest = Manifest.load(run / "select")
    manifest.results["where"] = str(tmp_path / "private")
    manifest.save(run / "select")
    plain_hub.run(clients.publish, run, "me/clean")
    assert clients.holding(str(plain_hub.root), (*TOKENS, str(tmp_path))) == []
    published = yaml.safe_load(plain_hub.text("datasets", "me/clean", "recipe.yaml"))
    assert published["dpo"] == {"learning_rate": 1e-4, "hub_model_id": "me/policy"}
    assert published["prepare"] == {"dataset_name": "data.jsonl"} and published["reward"]["eos_token"] == "<eos>"
    assert json.loads(plain_hub.text("datasets", "me/clean", "manifest.json"))["counts"]["kept"] == 18


@pytest.mark.parametrize("variant", ["a/b", "-x", "selected", "scored", "a b", ""])
def test_names_of_variants(selection, variant):
    from pd_trl.errors import InputError
    from pd_trl.publishing.selection import Layout

    with pytest.raises(InputError, match="variant"):
        Layout(selection, variant)


def test_what_is_no_selection(plain_hub, tmp_path):
    plain_hub.call(clients.publish, tmp_path / "nothing", "me/x").refused("folder of `pd-trl select`", "is none")
    Manifest("score").save(tmp_path)
    plain_hub.call(clients.publish, tmp_path, "me/x").refused("made by `pd-trl score`")
    assert plain_hub.log() == []


def test_rows_in_memory_need_a_filter():
    from pd_trl.errors import InputError
    from pd_trl.publishing.selection import selection_folder

    with pytest.raises(InputError, match="pd_filter"), selection_folder(scored_rows(6)):
        pass
