"""Stage `plan`: the cost of a recipe before it runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...runs.artifacts import write_json
from ...safety.secrets import masked
from ..cost.clock import Clock, PublishedClock
from ..cost.devices import DEFAULT_UTILIZATION, DEVICES, device_of
from ..cost.estimate import recipe_cost
from ..cost.parts import Recipe
from ..cost.sources import Pairs, ParsedStep, find_pairs
from ..cost.table import cost_lines
from .arguments import argument

PLAN_NAME = "plan.json"


@dataclass
class PlanArguments:
    """Arguments of `pd-trl plan`, beside `--config` and those that `pd-trl run` takes for a recipe."""

    device: str = argument("h100", f"Accelerator whose published peak the hours are for: {', '.join(DEVICES)}.")
    utilization: float = argument(DEFAULT_UTILIZATION, "Share of the device's peak that is reached (an assumption).")
    processes: int = argument(1, "Number of devices over which `sharding` spreads the states.")
    sharding: str = argument(
        "none",
        "What is spread: none, zero2 (gradients and optimizer) or zero3 (weights, too).",
        choices=["none", "zero2", "zero3"],
    )
    sample_rows: int = argument(
        2000, "Maximum number of pairs to tokenise. The tokens of the others are estimated from their characters."
    )
    num_pairs: int | None = argument(None, "Number of pairs, in place of the data.")
    tokens_per_pair: float | None = argument(
        None, "Tokens of both conversations of a pair, in place of the tokenizer."
    )
    conversations_per_pair: float = argument(
        2.0, "Distinct conversations for each pair, with --num_pairs. Four responses that make six pairs give 2/3."
    )
    num_aspects: int | None = argument(None, "Number of aspects, with --num_pairs. 4 where unset.")
    new_tokens: int | None = argument(None, "Tokens of an output of `generate`. Where unset, its `max_new_tokens`.")
    run_dir: str | None = argument(None, "Folder of the run, in place of the recipe's `output_dir`.")
    output_dir: str | None = argument(None, f"Folder that gets {PLAN_NAME}.")
    json: bool = argument(False, "Print json instead of the table.")
    seed: int = argument(42, "Seed of the sample.")


def check_plan(arguments: PlanArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    device_of(arguments.device)
    for name in ("processes", "sample_rows", "num_pairs", "num_aspects", "new_tokens"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")
    if arguments.sample_rows < 10:
        raise InputError(f"`sample_rows` must be at least 10 to estimate from, got {arguments.sample_rows}.")
    if arguments.output_dir and Path(arguments.output_dir).expanduser().is_file():
        raise InputError(f"`output_dir` must be a folder, but {arguments.output_dir} is a file. Choose another.")


def run_plan(
    arguments: PlanArguments, steps: Sequence[ParsedStep], clock_for: Callable[[Pairs], Clock] | None = None
) -> str:
    """
    Predicts tokens, FLOPs, time and memory of each stage of a recipe, and what the selection saves.

    Args:
        arguments ([`PlanArguments`]): The arguments.
        steps (sequence of [`~pd_trl.pipeline.cost.sources.ParsedStep`]): The recipe's steps with their arguments.
        clock_for (callable, *optional*): Makes a [`Clock`] from the pairs. `None` uses the device's published peak.

    Returns:
        `str`: the text to show.
    """
    check_plan(arguments)
    pairs = find_pairs(
        steps,
        num_pairs=arguments.num_pairs,
        tokens_per_pair=arguments.tokens_per_pair,
        num_aspects=arguments.num_aspects,
        conversations_per_pair=arguments.conversations_per_pair,
        sample_rows=arguments.sample_rows,
        seed=arguments.seed,
    )
    published = PublishedClock(device_of(arguments.device), arguments.utilization)
    clock = clock_for(pairs) if clock_for is not None else published
    recipe = Recipe(list(steps), clock.on_gpu, arguments.processes, arguments.sharding, arguments.new_tokens)
    cost = recipe_cost(steps, pairs, clock, recipe)
    if arguments.output_dir:
        write_json(Path(arguments.output_dir).expanduser() / PLAN_NAME, masked(cost.to_dict()))
    if arguments.json:
        return json.dumps(masked(cost.to_dict()), indent=2, ensure_ascii=False, default=str)
    return "\n".join(cost_lines(cost, clock.memory))
