"""Cost of ratings by a judge, as the dry run of `rate` counts them."""

from typing import Any

import numpy as np
from datasets import Dataset

from ...rating.questions import POINTWISE
from ...rating.rubric import Rubric
from ..stages.rated_rows import SIDES_TO_RATE
from ..stages.rating_setup import judge_of, rating_plan, rubric_of
from .batches import decoding_work
from .formulas import forward_flops, inference_memory
from .parts import Part, Recipe, StageCost
from .sources import Pairs, ParsedStep, PlannedModel


def rate_cost(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    """Ratings of the pairs: requests to a server, or the reading of a model on this machine."""
    arguments = parsed.outputs[0]
    name = str(arguments.judge or arguments.judge_model or "")
    cost = StageCost(parsed.step.name, "rate", name, pairs=len(pairs))
    rubric = rubric_of(arguments)
    if pairs.rows is None:
        cost.requests = _assumed_requests(arguments, pairs, rubric)
        recipe.note(f"'{cost.name}' is assumed to ask about every pair; its tokens are not known without the data.")
        return cost
    plan = rating_plan(arguments, _to_rate(pairs.rows), rubric, judge_of(arguments, asks=False))
    left = plan.questions - plan.known
    for line in plan.lines()[2:] if arguments.judge_model else ():
        recipe.note(f"'{cost.name}': {line}.")
    if arguments.judge_model or not left:
        cost.requests, cost.tokens = left, plan.tokens
        return cost
    model = PlannedModel(name, None, arguments.trust_remote_code)
    shape = model.shape()
    questions = np.full(left, max(1, round(plan.tokens / left)))
    work, _ = decoding_work(questions, 1, arguments.batch_size)
    setup = {"model": model, "shape": shape, "arguments": arguments, "prompts": questions, "new_tokens": 1}
    cost.add(Part("generate", forward_flops(shape, work), work, setup=setup))
    weight_bytes = 2.0 if recipe.on_gpu else 4.0
    cost.memory = inference_memory(
        shape, work.largest, weight_bytes=weight_bytes, cached=work.largest[1] + 1, new_tokens=1
    )
    return cost


def _to_rate(preferences: Dataset) -> Dataset:
    names = [name for name in ("pair_id", "prompt_id", "prompt", *SIDES_TO_RATE) if name in preferences.column_names]
    return preferences.select_columns(names).rename_columns(SIDES_TO_RATE)


def _assumed_requests(arguments: Any, pairs: Pairs, rubric: Rubric) -> int:
    if arguments.mode != POINTWISE:
        return 2 * len(pairs) * len(rubric.names)
    return round(pairs.conversations_per_pair * len(pairs) * (1 + arguments.repeat_share)) * len(rubric.names)
