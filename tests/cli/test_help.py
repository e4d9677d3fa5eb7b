"""`--help`: ours first and short, everything with `--help-all`."""

import dataclasses

import pytest

from pd_trl.pipeline.registry import STAGES

COMMANDS = [name for name, stage in STAGES.items() if stage.command]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_and_names_every_argument_of_ours(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    outcome = command(*name.split(), "--help")
    assert outcome.code == 0 and len(outcome.out.splitlines()) <= 60
    assert max(map(len, outcome.out.splitlines())) <= 100
    for cls in STAGES[name].load().arguments:
        if cls.__module__.startswith("pd_trl.pipeline"):
            assert all(f"--{field.name}" in outcome.out for field in dataclasses.fields(cls))


@pytest.mark.parametrize("name", ["reward", "dpo"])
def test_the_trainers_arguments_are_listed_on_request(command, name):
    short, everything = command(name, "--help"), command(name, "--help-all")
    assert (
        "--learning_rate" in short.out and "--lr_scheduler_type" not in short.out and "--help-all lists" in short.out
    )
    assert "--lr_scheduler_type" in everything.out and everything.code == 0
    # What `HfArgumentParser` adds to turn a flag off is no argument of its own.
    score = " ".join(command("score", "--help").out.split())
    assert "--no_share_prefix" not in score
    assert "--share_prefix Read a prompt once for all its responses, if that saves time. [true]" in score


@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_of_a_plan_needs_no_recipe(command, flag):
    outcome = command("plan", flag)
    assert outcome.code == 0 and "--sample_rows" in outcome.out
