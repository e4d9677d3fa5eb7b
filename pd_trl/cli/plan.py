"""`pd-trl plan`: what a recipe costs, before it is run."""

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError
from ..pipeline.recipe import check_recipe, steps_of
from ..pipeline.recipe_rules import set_environment
from .parsing import HELP, pop_option
from .run import load_recipe, parse_step, with_overrides
from .stage_commands import set_up_logging, stage_parser
from .terminal import say

if TYPE_CHECKING:
    from ..pipeline.cost.sources import ParsedStep
    from ..pipeline.stages.plan import PlanArguments

# Values of the recipe that are given as they are to `pd-trl run`.
_OF_THE_RECIPE = ("budget", "dataset_name", "model_name_or_path")


def main(command: str, arguments: list[str]) -> int:
    """Plans a recipe from the command line."""
    options, steps = read_command(command, arguments)
    from ..pipeline.stages.plan import run_plan

    say(run_plan(options, steps))
    return 0


def read_command(command: str, arguments: list[str]) -> "tuple[PlanArguments, list[ParsedStep]]":
    """The arguments of a command line, and the steps of its recipe with theirs."""
    rest = list(arguments)
    if HELP & set(rest):
        stage_parser(command).parse(rest)
    name = pop_option(rest, "config")
    if name is None:
        raise InputError(
            "`pd-trl plan` needs a recipe: --config with a YAML file, or the name of one that comes with pd_trl."
        )
    recipe, environment = load_recipe(name)
    check_recipe(recipe)
    set_environment(environment)
    set_up_logging()
    values = {key: pop_option(rest, key) for key in _OF_THE_RECIPE}
    own, overrides = _split(rest)
    (options,), _ = stage_parser(command).parse(own)
    given = argparse.Namespace(**values, output_dir=options.run_dir, seed=None)
    recipe, _ = with_overrides(recipe, given, overrides, argparse.ArgumentParser(add_help=False))
    # Not before the recipe's `env` is set, which torch reads when it is imported.
    from ..pipeline.cost.sources import ParsedStep

    return options, [ParsedStep(step, parse_step(step, step.section)) for step in steps_of(recipe)]


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Arguments of the plan, and the `--STAGE.ARGUMENT VALUE` pairs of the recipe."""
    own: list[str] = []
    overrides: list[str] = []
    place = own
    for argument in arguments:
        if argument.startswith("--"):
            place = overrides if "." in argument.partition("=")[0] else own
        place.append(argument)
    return own, overrides
