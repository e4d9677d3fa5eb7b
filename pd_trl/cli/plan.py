"""`pd-trl plan`: what a recipe costs, before it is run."""

import argparse

from ..errors import InputError
from ..pipeline.recipe import check_recipe
from ..pipeline.recipe import plan as steps_of
from ..pipeline.recipe_rules import set_environment
from .parsing import pop_option
from .run import load_recipe, parse_step, with_overrides
from .stage_commands import run_stage, set_up_logging, stage_parser
from .terminal import say

# Values of the recipe that are given as they are to `pd-trl run`.
_OF_THE_RECIPE = ("budget", "dataset_name", "model_name_or_path")


def main(command: str, arguments: list[str]) -> int:
    """Plans a recipe from the command line."""
    rest = list(arguments)
    if "-h" in rest or "--help" in rest:
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
    from ..pipeline.cost.sources import ParsedStep

    steps = [ParsedStep(step, parse_step(step, step.section)) for step in steps_of(recipe)]
    say(run_stage(command, (options, steps)))
    return 0


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
