"""`pd-trl plan`."""

import json

import pytest

from tests.processes import ROOT
from tests.rating.scripted import write_pairs


@pytest.fixture
def recipe(sources, tiny_models, tmp_path):
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"}
    content = {
        "output_dir": str(tmp_path / "out"), "dataset_name": str(sources["pairs"]), "model_name_or_path": tiny_models["causal"],
        "prepare": {}, "reward": {"heldout": 0.4, **training}, "score": {}, "select": {"budget": 0.5}, "dpo": training,
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(content))
    return path


def test_a_table_and_json(command, recipe, tmp_path):
    shown = command("plan", "--config", recipe, "--output_dir", tmp_path / "plan")
    assert shown.code == 0, shown.err
    for word in ("reward", "score", "dpo on all pairs", "GPU h", "saved", "40 %", "NVIDIA H100"):
        assert word in shown.out
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    printed = command("plan", "--config", recipe, "--json")
    assert json.loads(printed.out) == plan
    stages = {cost["stage"]: cost for cost in plan["stages"]}
    assert plan["all_pairs"]["pairs"] == stages["score"]["pairs"] == 29
    assert stages["dpo"]["pairs"] == 15
    saved = plan["savings"]
    assert saved["with_selection_flops"] == sum(stages[name]["flops"] for name in ("reward", "score", "dpo"))
    assert not (tmp_path / "out").exists()


def test_the_break_even_budget_is_where_selecting_costs_as_much(command, recipe):
    base = ["plan", "--config", recipe, "--json", "--dpo.max_steps", "-1", "--dpo.per_device_train_batch_size", "1"]
    alike = ["--num_pairs", 1000, "--tokens_per_pair", 60, "--dpo.num_train_epochs", 40]
    point = json.loads(command(*base, *alike).out)["savings"]["break_even_budget_seconds"]
    assert 0.05 < point < 1
    there = json.loads(command(*base, *alike, "--budget", point).out)["savings"]
    assert there["with_selection_seconds"] == pytest.approx(there["all_pairs_seconds"], rel=0.01)


def test_heads_score_once_and_lora_holds_less(command, recipe, tmp_path):
    def stages(*more):
        outcome = command("plan", "--config", recipe, "--json", *more)
        assert outcome.code == 0, outcome.err
        return {cost["stage"]: cost for cost in json.loads(outcome.out)["stages"]}

    apart, heads = stages(), stages("--reward.heads", "true")
    assert heads["score"]["tokens"] * 3 == apart["score"]["tokens"]
    long = ["--reward.heads", "true", "--reward.max_steps", -1, "--reward.num_train_epochs", 3]
    heads, frozen = stages(*long), stages(*long, "--reward.freeze_backbone", "true")
    assert frozen["reward"]["flops"] < heads["reward"]["flops"] / 6
    assert frozen["reward"]["memory"]["total"] < heads["reward"]["memory"]["total"]
    lora = stages("--dpo.use_peft", "true", "--dpo.lora_r", 1)
    assert lora["dpo"]["flops"] < apart["dpo"]["flops"]
    assert lora["dpo"]["memory"]["reference"] == 0 < apart["dpo"]["memory"]["reference"]
    stored = stages("--dpo.precompute_ref_log_probs", "true", "--dpo.max_steps", -1, "--dpo.num_train_epochs", 3)
    anew = stages("--dpo.max_steps", -1, "--dpo.num_train_epochs", 3)
    assert stored["dpo"]["flops"] < anew["dpo"]["flops"] and stored["dpo"]["memory"]["reference"] == 0


def test_without_the_data(command, recipe):
    flags = ["--num_pairs", 600, "--tokens_per_pair", 80, "--conversations_per_pair", 0.667, "--num_aspects", 3]
    outcome = command("plan", "--config", recipe, *flags, "--dataset_name", "nobody/nothing")
    assert outcome.code == 0, outcome.err
    assert "The data was not read: 600 pairs of 80 tokens" in outcome.out and "0.667 distinct" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "h1000"], ["h1000", "Did you mean 'h100'"]),
        (["--utilization", "1.5"], ["utilization"]),
        (["--num_pairs", "10"], ["tokens_per_pair"]),
        (["--num_pairs", "0", "--tokens_per_pair", "9"], ["num_pairs"]),
        (["--device", "this"], ["scripts/plan_this_machine.py"]),
        (["--dataset_name", "nobody/nothing"], ["--num_pairs"]),
        (["--reward.model_name_or_path", "nobody/nothing"], ["configuration", "config.json"]),
        (["--sharding", "zero9"], ["zero9"]),
        (["--reward.lr", "1"], ["'lr'"]),
        (["--nonsense", "1"], ["nonsense"]),
        (["--sample_rows", "3"], ["sample_rows"]),
    ],
)
def test_bad_arguments_are_refused(command, recipe, arguments, words):
    command("plan", "--config", recipe, *arguments).refused(*words)


def test_a_recipe_is_needed(command):
    command("plan").refused("--config")
    command("plan", "--config", "quickstrat").refused("Did you mean 'quickstart'")


@pytest.mark.parametrize("sides", [("chosen", "rejected"), ("response_a", "response_b")])
def test_ratings_cost_what_their_dry_run_says(command, tiny_models, tmp_path, sides):
    path = write_pairs(tmp_path / "pairs.jsonl", 20, sides=sides)
    shown = command(
        "rate", "--dataset_name", path, "--judge_model", "m", "--output_dir", tmp_path / "rated", "--dry_run"
    ).out
    recipe = tmp_path / "recipe.yaml"
    content = {
        "output_dir": str(tmp_path / "out"),
        "dataset_name": str(path),
        "rate": {"judge_model": "m"},
        "select": {},
    }
    recipe.write_text(json.dumps(content))
    outcome = command("plan", "--config", recipe, "--json")
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    (rated,) = [cost for cost in plan["stages"] if cost["stage"] == "rate"]
    assert f"requests {rated['requests']})" in shown and f"{rated['tokens']:,} of questions" in shown
    assert any(text.startswith("'rate': cost: unknown") for text in plan["assumptions"])
    content["rate"] = {"judge": tiny_models["causal"]}
    recipe.write_text(json.dumps(content))
    (rated,) = [
        c for c in json.loads(command("plan", "--config", recipe, "--json").out)["stages"] if c["stage"] == "rate"
    ]
    assert rated["requests"] == 0 and rated["flops"] > 0 and rated["memory"]


def test_outputs_and_requests_to_a_judge(command, recipe, tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps(["the cat sees", "a dog runs", "the bird"]))
    content = json.loads(recipe.read_text())
    content["generate"] = {"instructions": str(tmp_path / "prompts.json"), "max_new_tokens": 7}
    content["compare"] = ["random"]
    content["evaluate"] = {"pairwise": {"judge": "openai:some-model"}}
    recipe.write_text(json.dumps(content))
    outcome = command("plan", "--config", recipe, "--json")
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    stages = {cost["name"]: cost for cost in plan["stages"]}
    prompts = stages["generate PD"]["tokens"] - 3 * 7
    assert prompts > 9 and stages["generate PD"]["tokens"] == stages["generate random"]["tokens"]
    # Three outputs against those of one other policy, in both orders.
    assert stages["evaluate pairwise"]["requests"] == 6
    assert any("max_new_tokens=7" in text for text in plan["assumptions"])


def test_a_world_that_is_not_there_yet_is_named(command, tmp_path):
    command("plan", "--config", "quickstart", "--run_dir", tmp_path / "run").refused("--stages simulate,prepare")


@pytest.mark.parametrize("name", ["ultrafeedback-llama-3.1-8b", "helpsteer2-qwen3", "own-columns", "real-data"])
def test_the_recipes_can_be_planned_without_their_data(command, tiny_models, name):
    flags = ["--num_pairs", 100, "--tokens_per_pair", 80]
    models = [f"--{stage}.model_name_or_path" for stage in ("reward", "dpo") if f"\n{stage}:" in text_of(name)]
    given = [part for flag in models for part in (flag, tiny_models["causal"])]
    outcome = command("plan", "--config", name, *flags, *given)
    assert outcome.code == 0, outcome.err


def text_of(name: str) -> str:
    return (ROOT / "scripts" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
