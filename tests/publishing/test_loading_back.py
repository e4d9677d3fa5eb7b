"""Every entry point takes a Hub id where it takes a path."""

import json

import pytest

from pd_trl.runs.artifacts import Manifest, read_json, read_rows
from tests.hub.actions import publish as publish_files
from tests.hub.local import OTHER
from tests.publishing import clients
from tests.publishing.selections import kept_ids, scored_rows, select_into
from tests.tiny import ASPECTS

NAME = "me/uf-scored"


@pytest.fixture
def published(plain_hub, tmp_path_factory):
    """A Hub with the selection [`NAME`]: 18 of 60 pairs, tagged, whose proxies' accuracies are known."""
    if plain_hub.repo("datasets", NAME) is None:
        from pd_trl.pipeline.stages.select import SelectArguments, run_select
        from pd_trl.runs.artifacts import write_rows

        folder = tmp_path_factory.mktemp("loading")
        write_rows(scored_rows(), folder / "score" / "scored")
        accuracy = dict(zip(ASPECTS, (0.9, 0.8, 0.6), strict=True))
        metrics = {a: {"pair_accuracy": v, "pair_accuracy_se": 0.02, "num_pairs": 400} for a, v in accuracy.items()}
        Manifest("score", results={"proxy_metrics": metrics}).save(folder / "score")
        run_select(SelectArguments(str(folder / "score"), str(folder / "select"), budget=0.3))
        plain_hub.run(clients.publish, folder / "select", NAME, tag="v1")
        plain_hub.run(clients.publish, select_into(folder / "other", budget=0.5), NAME)
    return plain_hub


def trained_ids(name: str, model: str, folder: str, **arguments) -> tuple[list[str], dict | None]:
    """What a DPO trainer trains on."""
    from pd_trl import PDDPOConfig, PDDPOTrainer

    args = PDDPOConfig(folder, use_cpu=True, bf16=False, report_to="none", max_steps=1, **arguments)
    trainer = PDDPOTrainer(model=model, args=args, train_dataset=name)
    return sorted(trainer.train_dataset["pair_id"]), trainer.selection_


def filtered_with_models(rows, models: dict[str, str]) -> list[str]:
    from pd_trl import PDFilter

    bare = rows.remove_columns([name for name in rows.column_names if name.startswith("reward_gap_")])
    return sorted(PDFilter(0.3, reward_models=models)(bare)["pair_id"])


def loaded_filter(name: str) -> dict:
    from pd_trl import PDFilter

    loaded = PDFilter.load(name)
    return {"budget": loaded.budget, "quantiles": loaded.quantiles_, "metrics": loaded.proxy_metrics}


def test_trainer_selects_from_all_pairs(published, tiny_models, tmp_path):
    ids, selection = published.run(trained_ids, NAME, tiny_models["causal"], str(tmp_path), pd_budget=0.2)
    assert ids == kept_ids(scored_rows(), budget=0.2) and selection["total"] == 60


def test_trainer_without_a_budget_takes_the_kept_pairs(published, tiny_models, tmp_path):
    ids, selection = published.run(trained_ids, f"{NAME}@v1", tiny_models["causal"], str(tmp_path))
    assert ids == kept_ids(scored_rows(), budget=0.3) and selection is None


def test_statistics_are_read_from_the_repository(published):
    found = published.run(loaded_filter, f"{NAME}@v1", token=OTHER, user="other")
    assert found["budget"] == 0.3 and set(found["quantiles"]) == set(ASPECTS)
    assert found["metrics"]["honesty"]["pair_accuracy"] == 0.8
    assert published.run(loaded_filter, NAME)["budget"] == 0.5
    published.call(loaded_filter, "me/nothing").refused("me/nothing", "cannot be fetched")


def test_load_pairs(published):
    pairs = published.run(clients.pairs, NAME, config="scored")
    assert len(pairs["pair_id"]) == 60 and {"response_a", "response_b"} <= set(pairs)
    assert len(published.run(clients.pairs, f"{NAME}@v1")["pair_id"]) == 18


def test_select_at_another_budget_from_the_command_line(published, tmp_path):
    code, said = published.run(
        clients.command,
        "select",
        "--dataset_name",
        f"{NAME}@v1",
        "--budget",
        0.5,
        "--min_proxy_accuracy",
        0.7,
        "--output_dir",
        tmp_path / "s",
    )
    assert code == 0, said
    assert Manifest.load(tmp_path / "s").counts["total"] == 60
    report = read_json(tmp_path / "s" / "report.json")
    assert report["aspects"][ASPECTS[2]]["weight"] == 0, "the accuracies of the repository were not read"
    expected = kept_ids(scored_rows(), budget=0.5, weights={ASPECTS[2]: 0.0})
    assert sorted(read_rows(tmp_path / "s" / "selected")["pair_id"]) == expected


def test_dpo_from_the_command_line(published, tiny_models, tmp_path):
    code, said = published.run(
        clients.command, "dpo", "--dataset_name", NAME, "--pd_budget", 0.1, "--model_name_or_path", tiny_models["causal"], "--max_steps", 1,
        "--output_dir", tmp_path / "dpo",
    )  # fmt: skip
    assert code == 0, said
    assert Manifest.load(tmp_path / "dpo").counts == {"given": 60, "trained on": 6}


def test_reward_models_by_hub_id(published, tiny_models, tmp_path):
    from pathlib import Path

    files = {path.name: str(path) for path in Path(tiny_models["reward"]).iterdir() if path.is_file()}
    published.run(publish_files, "me/rm-by-id", files, repo_type="model")
    rows = scored_rows(12)
    by_path = published.run(filtered_with_models, rows, dict.fromkeys(ASPECTS, tiny_models["reward"]))
    by_id = published.run(filtered_with_models, rows, dict.fromkeys(ASPECTS, "me/rm-by-id"), token=OTHER, user="other")
    assert by_id == by_path and len(by_id) == 4


@pytest.mark.slow
def test_a_lost_connection_is_no_reason_to_take_other_rows(published, tiny_models, tmp_path):
    """With the kept pairs alone in the cache, and the Hub out of reach: an error, rather than a budget of the kept pairs."""
    model = tiny_models["causal"]
    published.run(clients.loaded, NAME, user="cached")
    for path in ("/api/datasets/me/uf-scored", "/datasets/me/uf-scored/resolve"):
        published.fault(path, status=500, times=1000, headers={"Retry-After": "0"})
    outcome = published.call(trained_ids, NAME, model, str(tmp_path), pd_budget=0.2, user="cached")
    assert outcome.error is not None, outcome.value


def test_a_folder_with_several_sets_of_rows_is_not_mixed(tmp_path):
    from pd_trl.data import load_source
    from pd_trl.errors import InputError

    folder = select_into(tmp_path / "select")
    with pytest.raises(InputError, match="several sets of rows, dropped, selected"):
        load_source(str(folder))
    assert len(load_source(str(folder), prefer="selected")) == 18
    assert len(load_source(str(folder / "dropped"))) == 42


def test_card_pins_the_proxies_that_were_published(published, tmp_path):
    """The revisions in the manifest are those of local folders, which nobody else has."""
    from pd_trl.pipeline.stages.select import SelectArguments, run_select
    from pd_trl.runs.artifacts import write_rows

    write_rows(scored_rows(), tmp_path / "score" / "scored")
    metrics = {aspect: {"pair_accuracy": 0.8, "pair_accuracy_se": 0.02, "num_pairs": 400} for aspect in ASPECTS}
    key = "4b6e6b3249a3e12a6ec1aab034de74e8"
    provenance = {"proxies": {aspect: {"model": f"runs/reward/{aspect}", "revision": key} for aspect in ASPECTS}}
    Manifest("score", results={"proxy_metrics": metrics, "provenance": provenance}).save(tmp_path / "score")
    run_select(SelectArguments(str(tmp_path / "score"), str(tmp_path / "select"), budget=0.3))
    sha = "464702c" + "0" * 33
    rewards = {"honesty": f"me/rm-honesty@{sha}", "helpfulness": "me/rm-helpfulness"}
    done = published.run(clients.publish, tmp_path / "select", "me/pinned", reward_models=rewards, dry_run=True)
    assert f"https://huggingface.co/me/rm-honesty/tree/{sha}" in done["card"]
    assert "https://huggingface.co/me/rm-helpfulness)" in done["card"] and key not in done["card"]


def test_a_report_of_a_published_selection(published, tmp_path):
    for name in (NAME, f"{NAME}@v1"):
        folder = tmp_path / name[-2:]
        code, said = published.run(clients.command, "report", "--dataset_name", name, "--output_dir", folder)
        assert code == 0 and (folder / "report.html").is_file(), said
    code, said = published.run(
        clients.command, "report", "--dataset_name", "me/absent", "--output_dir", tmp_path / "x"
    )
    assert code == 2 and "selection 'me/absent'" in said and "the Hub refuses it" in said


def test_scoring_a_published_selection_scores_all_its_pairs(published, tiny_models, tmp_path):
    models = json.dumps({"honesty": tiny_models["reward"]})
    code, said = published.run(
        clients.command,
        "score",
        "--dataset_name",
        NAME,
        "--reward_models",
        models,
        "--output_dir",
        tmp_path / "out",
        "--dry_run",
    )
    assert code == 0 and "(pairs 60)" in said, said
