"""`pd-trl evaluate pairwise` and `rewards`, and both in a recipe."""

import json

import pytest

from pd_trl.errors import InputError, InputTypeError
from pd_trl.pipeline.recipe import steps_of
from pd_trl.runs.artifacts import write_json
from pd_trl.runs.results import load_results
from tests.cli.conftest import command, make_pairs  # noqa: F401
from tests.tiny import WORDS


def outputs_file(path, texts, generator):
    write_json(
        path, [{"instruction": w, "output": t, "generator": generator} for w, t in zip(WORDS, texts, strict=False)]
    )
    return path


@pytest.fixture
def sides(tmp_path):
    texts = [" ".join(WORDS[i : i + 3]) for i in range(8)]
    return (
        outputs_file(tmp_path / "a.json", texts, "mine"),
        outputs_file(tmp_path / "b.json", [text + " cat" for text in texts], "theirs"),
        outputs_file(tmp_path / "c.json", texts, "same"),
    )


def test_pairwise_judges_each_baseline(command, sides, tiny_models, tmp_path):  # noqa: F811
    baselines = json.dumps({"b": str(sides[1]), "c": str(sides[2])})
    arguments = ["evaluate", "pairwise", "--outputs", sides[0], "--reference_outputs", baselines]
    arguments += ["--judge", f"reward:{tiny_models['reward']}", "--output_dir", tmp_path / "out"]
    dry = command(*arguments, "--dry-run")
    assert dry.code == 0 and "at most 32 judgements" in dry.out and not (tmp_path / "out").exists()
    first = command(*arguments)
    assert first.code == 0, first.err
    assert "Win score of mine against b: " in first.out and "Win score of mine against c: 1.000" in first.out
    saved = load_results(tmp_path / "out")
    assert [(record.model, record.baseline) for record in saved] == [("mine", "b"), ("mine", "c")]
    assert all(record.judge.startswith("reward model") and record.num_samples == 8 for record in saved)
    again = command(*arguments)
    assert "already done" in again.out and f"against b: {saved[0].value:.3f}" in again.out
    command(*arguments, "--seed", 1).refused("`seed`", "--overwrite")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"--judge": "gpt-4"}, "gold:VALUE, with the folder of a simulated world"),
        ({"--judge": "gold:nowhere"}, "no world.json"),
        ({"--judge": None}, "needs a `judge`"),
        ({"--reference_outputs": None}, "needs the `outputs`"),
        ({"--reference_outputs": "nowhere.json"}, "nowhere.json"),
        ({"--max_problem_share": 1}, "`max_problem_share`"),
        ({"--num_resamples": 0}, "`num_resamples`"),
        ({"--judge_kwargs": "[1]"}, "judge_kwargs"),
        ({"--reference_outputs": "{}"}, "names no outputs"),
        ({"--judge": "openai:m", "--judge_kwargs": '{"settings": 3}'}, "must be a mapping"),
        ({"--judge": "openai:m", "--judge_kwargs": '{"base_url": 3}'}, "cannot be made with ['base_url']"),
        ({"--judge": "reward:REWARD", "--judge_kwargs": '{"max_length": 0}'}, "`max_length` of the judge"),
        (
            {"--judge": "reward:REWARD", "--judge_kwargs": '{"tokens_per_batch": "x"}'},
            "`tokens_per_batch` of the judge",
        ),
        ({"--judge": "reward:REWARD", "--judge_kwargs": '{"trust_remote_code": "false"}'}, "true or false"),
        ({"--judge": "reward:REWARD", "--judge_kwargs": '{"nope": 1}'}, "does not take ['nope']"),
        ({"--judge": "reward:REWARD#helpfulness"}, "no head for 'helpfulness'"),
        ({"--judge": "openai:m", "--judge_kwargs": '{"settings": {"tries": 1}}'}, "no setting tries"),
        ({"--reference_outputs": '{"../x": "b.json"}'}, "cannot name a folder"),
    ],
)
def test_bad_arguments_of_pairwise_are_refused(command, sides, tiny_models, tmp_path, changes, words):  # noqa: F811
    arguments = {
        "--outputs": sides[0],
        "--reference_outputs": sides[1],
        "--judge": "gold:x",
        "--output_dir": tmp_path / "out",
    }
    given = {
        k: str(v).replace("REWARD", tiny_models["reward"]) if v else v for k, v in {**arguments, **changes}.items()
    }
    command("evaluate", "pairwise", *(p for k, v in given.items() if v is not None for p in (k, v))).refused(words)


def test_rewards_of_our_pairs(command, tiny_models, tmp_path):  # noqa: F811
    rows = [{**row, "pref_honesty": i % 2 * 1.0} for i, row in enumerate(make_pairs(20))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = json.dumps({"one": tiny_models["reward"], "two": tiny_models["reward"]})
    arguments = ["evaluate", "rewards", "--reward_models", models, "--dataset_name", tmp_path / "pairs.jsonl"]
    arguments += ["--output_dir", tmp_path / "out"]
    dry = command(*arguments, "--dry-run")
    assert dry.code == 0 and "examples 20" in dry.out and not (tmp_path / "out").exists()
    result = command(*arguments)
    assert result.code == 0, result.err
    assert "longer wins" in result.out and "ECE" in result.out
    assert [(record.model, record.num_samples) for record in load_results(tmp_path / "out")] == [
        ("one", 20),
        ("two", 20),
    ]
    again = command(*arguments).out
    assert "already done" in again and "accuracy of one: 0." in again
    command("evaluate", "rewards", "--dataset_name", tmp_path / "pairs.jsonl").refused("--reward_models")
    command(*arguments, "--max_length", 0).refused("`max_length`")


def test_kinds_of_evaluation(command):  # noqa: F811
    assert "pairwise" in command("evaluate").out
    command("evaluate", "pairwize").refused("Did you mean 'pairwise'")
    help_text = command("evaluate", "pairwise", "--help")
    assert help_text.code == 0 and "--reference_outputs" in help_text.out


RECIPE = {"output_dir": "runs/x", "seed": 7, "simulate": {}, "dpo": {}, "compare": ["all"]}


def test_a_recipe_generates_for_every_policy_and_compares_pd_with_the_others():
    steps = steps_of({**RECIPE, "generate": {"temperature": 0.7}, "judge": {}, "evaluate": {"pairwise": {}}})
    assert [step.name for step in steps][-5:] == [
        "generate SFT",
        "generate PD",
        "generate all",
        "judge",
        "evaluate pairwise",
    ]
    generate, judge, pairwise = steps[-4], steps[-2], steps[-1]
    assert generate.section == {
        "instructions": "runs/x/world/prompts.json",
        "temperature": 0.7,
        "seed": 7,
        "model_name_or_path": "runs/x/dpo",
        "generator": "PD",
        "output_dir": "runs/x/outputs/PD",
    }
    assert set(generate.needs) == {"runs/x/world/prompts.json", "runs/x/dpo"}
    folders = {name: f"runs/x/outputs/{name}" for name in ("SFT", "PD", "all")}
    assert judge.section["outputs"] == folders and "policies" not in judge.section
    assert pairwise.section["outputs"] == folders.pop("PD") and pairwise.section["reference_outputs"] == folders
    assert pairwise.section["judge"] == "gold:runs/x/world" and pairwise.section["seed"] == 7
    assert {"runs/x/world", *folders.values()} < set(pairwise.needs)


def test_a_recipe_takes_arguments_of_an_evaluation_by_dots():
    recipe = {**RECIPE, "evaluate": {"pairwise": {"judge": "reward:a"}, "pairwise.judge": "reward:b", "rewards": None}}
    pairwise, rewards = steps_of(recipe, ["evaluate"])
    assert pairwise.section["judge"] == "reward:b" and pairwise.stage == "evaluate pairwise"
    assert rewards.section == {"output_dir": "runs/x/evaluate/rewards", "reward_models": "runs/x/reward"}


def test_wrong_evaluations_of_a_recipe_are_refused():
    with pytest.raises(InputError, match="Unknown evaluation 'pairwize'.*'pairwise'"):
        steps_of({**RECIPE, "evaluate": {"pairwize": {}}})
    with pytest.raises(InputTypeError, match="must be a mapping"):
        steps_of({**RECIPE, "evaluate": {"pairwise": 3}})
    with pytest.raises(InputError, match="`generate` writes the outputs of the policy of the section 'dpo'"):
        steps_of({"output_dir": "x", "generate": {}})
