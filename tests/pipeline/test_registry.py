"""The registry of stages."""

from dataclasses import fields, is_dataclass

import pytest

from pd_trl.cli.stage_commands import stage_parser
from pd_trl.pipeline.recipe import SECTIONS
from pd_trl.pipeline.registry import GROUPS, STAGES, kinds_of


@pytest.mark.parametrize("name", STAGES)
def test_help_shows_every_argument_with_its_meaning(name):
    stage = STAGES[name].load()
    assert stage.run.__doc__ and all(is_dataclass(kind) for kind in stage.arguments)
    shown = "".join(stage_parser(name, stage).parser.format_help().split())
    for argument in fields(stage.arguments[0]):
        assert f"--{argument.name}" in shown
        assert len(argument.metadata["help"]) > 5 and "".join(argument.metadata["help"].split()) in shown, (
            argument.name
        )


def test_sections_of_a_recipe_are_stages_or_have_kinds():
    assert [name for name in SECTIONS if name not in STAGES and name not in GROUPS] == ["compare"]
    assert all(kinds_of(group) for group in GROUPS)
    assert list(kinds_of("evaluate")) == ["alpaca", "pairwise", "rewards"]
