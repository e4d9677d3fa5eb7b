"""`pd-trl run`: the stages of a recipe, skipping what their manifests say is done."""

import argparse
import logging
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..method.ranking import parse_budget
from ..pipeline.mappings import path_or_mapping
from ..pipeline.recipe import SECTIONS, TOP_LEVEL, Step, check_recipe, steps_of
from ..pipeline.recipe_rules import check_no_secret, check_servers, set_environment
from ..pipeline.registry import STAGES
from ..pipeline.stages.arguments import listed
from ..runs.artifacts import library_versions, write_json
from ..runs.resources import list_recipes, recipe_path
from ..safety.secrets import masked
from .display import is_terminal, show_short, stage_line, verbose
from .parsing import check_launch_flags, launch, load_yaml, refuse, string_to_bool
from .processes import StageEnded
from .stage_commands import set_up_logging, show, stage_parser
from .terminal import complain, say
from .unknown import unknown


def make_parser() -> argparse.ArgumentParser:
    """The parser of `pd-trl run`."""
    parser = argparse.ArgumentParser(
        prog="pd-trl run",
        allow_abbrev=False,
        description="Runs the stages of a recipe. A stage whose folder holds the same result is skipped, so that the same "
        "command goes on after an interruption.",
        epilog="Any argument of a stage can be set as --STAGE.ARGUMENT VALUE, such as --reward.learning_rate 1e-5, "
        "--select.selector random or, for a list, --dpo.lora_target_modules q_proj v_proj. Flags of `accelerate launch`, such as "
        "--num_processes 2, are passed on to the stages that use them. Recipes that come with pd_trl: "
        f"{', '.join(list_recipes())}.",
    )
    parser.add_argument(
        "--config", required=True, help="A recipe: a YAML file, or the name of one that comes with pd_trl."
    )
    parser.add_argument("--output_dir", "--output-dir", help="Folder of all results.")
    parser.add_argument("--seed", type=int, help="Seed of all stages.")
    parser.add_argument("--budget", help="What to keep: a share such as 0.3, or a number of pairs such as 5000.")
    parser.add_argument("--dataset_name", "--dataset-name", help="Source of the pairs.")
    parser.add_argument(
        "--model_name_or_path", "--model-name-or-path", help="Model that the rewards and the policy start from."
    )
    parser.add_argument("--stages", nargs="+", help=f"Only these stages: {', '.join(SECTIONS)}.")
    # With or without a value, as the stages' own.
    switch: dict[str, Any] = {"type": string_to_bool, "nargs": "?", "const": True, "default": False}
    parser.add_argument("--dry_run", "--dry-run", **switch, help="Show the plan and the counts, and do nothing.")
    parser.add_argument("--verbose", action="store_true", help="Show what TRL and transformers print.")
    parser.add_argument("--overwrite", **switch, help="Replace results of another run in the output folder.")
    return parser


def main(command: str, arguments: list[str]) -> int:
    """Runs a recipe from the command line."""
    parser = make_parser()
    parser.error = refuse  # type: ignore[method-assign]
    options, left = parser.parse_known_args(arguments)
    # Before torch is imported: the recipe's `env` may set its number of threads.
    recipe, environment = load_recipe(options.config)
    check_recipe(recipe)
    if not options.dry_run:
        set_environment(environment)
    set_up_logging()
    recipe, launch_args = with_overrides(recipe, options, left, parser)
    check_no_secret(recipe, "The command line")
    only = listed(options.stages) if options.stages is not None else None
    if only == []:
        raise InputError(f"`stages` names no stage. Choose from {', '.join(SECTIONS)}.")
    steps = steps_of(recipe, only)
    _check(steps, {flag.partition("=")[0].lstrip("-").replace("-", "_") for flag in left}, options.dry_run)
    start = time.perf_counter()
    if options.dry_run:
        show_plan(steps)
        return 0
    for step in steps:
        with own_data(step, "simulate" in recipe):
            run_step(step, launch_args, overwrite=options.overwrite)
    root = Path(recipe["output_dir"]).expanduser()
    seconds = round(time.perf_counter() - start, 1)
    record = {"recipe": masked(recipe), "seconds": seconds, "versions": library_versions()}
    write_json(root / "run.json", record, private=True)
    width = max(len(step.name) for step in steps)
    places = "\n".join(f"  {step.name.ljust(width)}  {step.output_dir}" for step in steps)
    say(f"\nFinished in {seconds:.0f} s. What was made:\n{places}", paths=[str(step.output_dir) for step in steps])
    return 0


def with_overrides(
    recipe: dict[str, Any], options: argparse.Namespace, left: list[str], parser: argparse.ArgumentParser
) -> tuple[dict[str, Any], list[str]]:
    """The recipe with the values of the command line in it, and the flags of accelerate among `left`."""
    overrides, launch_args = _split(left, parser)
    for key in TOP_LEVEL:
        value = getattr(options, key)
        if value is not None:
            recipe[key] = parse_budget(value) if key == "budget" else value
            section = {"budget": "select", "dataset_name": "prepare"}.get(key)
            _override(recipe, section, key, recipe[key])
    for stage, key, value in overrides:
        if not isinstance(recipe.setdefault(stage, {}), (dict, type(None))):
            raise InputError(f"The section '{stage}' of the recipe takes no arguments.")
        recipe[stage] = {**(recipe[stage] or {}), key: _typed(stage, key, value)}
    return recipe, launch_args


def _typed(stage: str, key: str, value: Any) -> Any:
    """One value for an argument that takes a list, as a list, and a mapping in YAML or json, as a mapping."""
    if stage == "evaluate":
        kind, _, key = key.partition(".")
        stage = f"evaluate {kind}"
    if not isinstance(value, str) or stage not in STAGES:
        return value
    parser = stage_parser(stage)
    if key not in parser.actions:
        return value  # for the stage's parser to refuse
    if parser.takes_mapping(key):
        return path_or_mapping(value, key)
    return [value] if parser.needs_list(key) else value


def load_recipe(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe from a YAML file, or by the name of one that comes with pd_trl, and the environment variables of its `env`."""
    path = Path(name).expanduser()
    return load_yaml(
        path if path.is_file() or path.suffix in (".yaml", ".yml") and path.parent != Path() else recipe_path(name)
    )


def show_plan(steps: list[Step]) -> None:
    """What each step would do: its counts where its inputs are there and stay as they are, else its arguments."""
    changing: list[Path] = []
    for step in steps:
        needs = [Path(name).expanduser() for name in step.needs]
        if all(need.exists() and not any(need.is_relative_to(folder) for folder in changing) for need in needs):
            result = STAGES[step.stage].load().run(*parse_step(step, {**step.section, "dry_run": True}))
            show(result)
            if result.skipped:
                continue
        else:
            settings = masked({k: v for k, v in step.section.items() if k not in ("output_dir", "recipe")})
            arguments = ", ".join(f"{k}={v}" for k, v in settings.items())
            say(f"[{step.name} (dry run)] would make {step.output_dir} with {arguments}", paths=[str(step.output_dir)])
        changing.append(Path(step.output_dir).expanduser())


@contextmanager
def own_data(step: Step, simulated: bool) -> Iterator[None]:
    """Within the block, nothing is said of labels against their ratings where the recipe draws both: their noise is a setting."""
    logger = logging.getLogger("pd_trl.data.labels")
    level = logger.level
    if simulated and step.stage == "prepare":
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def run_step(step: Step, launch_args: list[str], *, overwrite: bool) -> None:
    """Runs one step in this process, or in those of `accelerate launch`."""
    section = {**step.section, "overwrite": overwrite}
    short = is_terminal() and not verbose()
    if not short:
        complain(f"--- {step.name}")
    if launch_args and STAGES[step.stage].launched:
        # Only the user can read this folder. It is removed when the processes end.
        with tempfile.TemporaryDirectory(prefix="pd_trl-") as folder:
            config = Path(folder) / "section.yaml"
            config.write_text(yaml.safe_dump(section, sort_keys=False), encoding="utf-8")
            code = launch(step.stage, launch_args, ["--config", str(config)])
        if code:
            raise StageEnded(f"The stage '{step.name}' failed with exit code {code}; its messages are above.", code)
        return
    start = time.monotonic()
    with stage_line(step.name):
        result = STAGES[step.stage].load().run(*parse_step(step, section))
    if step.name != step.stage:
        result.stage = step.name
        result.lines = []
    if short:
        show_short(result, time.monotonic() - start)
    else:
        show(result)


def parse_step(step: Step, section: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a step, checked; an error names the stage."""
    try:
        return stage_parser(step.stage).parse([], section)[0]
    except InputError as error:
        raise InputError(f"In the stage '{step.name}': {error}") from None


def _override(recipe: dict[str, Any], section: str | None, key: str, value: Any) -> None:
    """Puts a value of the command line in place of the same one in a section."""
    names = [section] if section else list(recipe)
    for name in names:
        if isinstance(recipe.get(name), dict) and key in recipe[name] and key != "output_dir":
            recipe[name][key] = value


def _split(left: list[str], parser: argparse.ArgumentParser) -> tuple[list[tuple[str, str, Any]], list[str]]:
    """`--stage.key value` pairs, with a list where there are several values, and the flags of accelerate."""
    overrides, rest = [], []
    i = 0
    while i < len(left):
        flag, _, inline = left[i].partition("=")
        stage, dot, key = flag.lstrip("-").partition(".")
        if not flag.startswith("--") or not dot:
            rest.append(left[i])
            i += 1
            continue
        if stage not in SECTIONS:
            raise unknown(stage, SECTIONS, "stage")
        i += 1
        values = [inline] if inline else []
        while not inline and i < len(left) and not left[i].startswith("--"):
            values.append(left[i])
            i += 1
        if not values:
            raise InputError(f"{flag} needs a value.")
        overrides.append((stage, key.replace("-", "_"), values[0] if len(values) == 1 else values))
    if rest:
        check_launch_flags(rest, [o for a in parser._actions for o in a.option_strings])
    return overrides, rest


def _check(steps: list[Step], named: Collection[str] = (), dry_run: bool = False) -> None:
    """Every argument of every stage, before the first one starts. `named` are those that the user gave, as STAGE.ARGUMENT."""
    for step in steps:
        outputs = parse_step(step, {**step.section, **({"dry_run": True} if dry_run else {})})
        prefix = f"{step.stage.replace(' ', '.')}."
        given = [name.removeprefix(prefix) for name in named if name.startswith(prefix)]
        check_servers(step.section, given)
        if any(getattr(entry, "trust_remote_code", False) for entry in outputs) and "trust_remote_code" not in given:
            complain(f"WARNING: the recipe lets the stage '{step.name}' run code that comes with its model.")
        STAGES[step.stage].load().check(*outputs)
        for arguments in outputs:
            if getattr(arguments, "push_to_hub", False):
                _check_push(step, arguments, dry_run)


def _check_push(step: Step, arguments: Any, dry_run: bool) -> None:
    """What the Hub would refuse after the training is refused before the first stage. A dry run does without the Hub."""
    from ..hub import HubUnreachableError
    from ..trainers.push import check_push

    # Each reward model has a repository of its own, whose name ends with its aspect.
    name = arguments.hub_model_id or Path(step.output_dir).expanduser().absolute().name
    try:
        check_push(arguments, f"{name}-aspect" if step.stage == "reward" else None)
    except HubUnreachableError:
        if not dry_run:
            raise
