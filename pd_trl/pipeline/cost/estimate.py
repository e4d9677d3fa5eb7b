"""The cost of each stage of a recipe, and what the selection saves against training on all pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .parts import Recipe, StageCost
from .policy_costs import dpo_cost, generate_cost, requests_of
from .rating_costs import rate_cost
from .reward_costs import reward_cost, score_cost
from .sources import Pairs, ParsedStep

SELECTION = ("rate", "reward", "score", "select")


def _without_model(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    return StageCost(parsed.step.name, parsed.stage, pairs=len(pairs), rival=parsed.step.name.startswith("compare"))


def _judged(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    return StageCost(parsed.step.name, parsed.stage, requests=requests_of(parsed, recipe))


ESTIMATES: dict[str, Callable[[ParsedStep, Pairs, Recipe], StageCost]] = {
    "prepare": _without_model,
    "rate": rate_cost,
    "reward": reward_cost,
    "score": score_cost,
    "select": _without_model,
    "dpo": dpo_cost,
    "generate": generate_cost,
    "evaluate alpaca": _judged,
    "evaluate pairwise": _judged,
}


@dataclass
class RecipeCost:
    """
    The cost of a recipe.

    Args:
        stages (`list` of [`StageCost`]): The stages in order.
        all_pairs ([`StageCost`], *optional*): The policy's training on all pairs.
        budget (`float`, *optional*): Share of the pairs that is kept.
        device (`str`): The device that the hours are for.
        unit (`str`): `"GPU h"` or `"CPU s"`.
        assumptions (`list` of `str`): What was assumed.
    """

    stages: list[StageCost]
    all_pairs: StageCost | None
    budget: float | None
    device: str
    unit: str
    assumptions: list[str] = field(default_factory=list)

    def savings(self) -> dict[str, float]:
        """
        Cost with the selection relative to training on all pairs, in FLOPs and seconds, and the share of pairs below
        which selecting costs less.
        """
        main = next((cost for cost in self.stages if cost.stage == "dpo" and not cost.rival), None)
        if main is None or self.all_pairs is None:
            return {}
        chosen = [cost for cost in self.stages if cost.stage in SELECTION and not cost.rival]
        result: dict[str, float] = {}
        for name in ("flops", "seconds"):
            selecting = sum(getattr(cost, name) for cost in chosen)
            trained, whole = getattr(main, name), getattr(self.all_pairs, name)
            result |= {
                f"selection_{name}": selecting,
                f"training_{name}": trained,
                f"with_selection_{name}": selecting + trained,
                f"all_pairs_{name}": whole,
                f"saved_{name}": whole - selecting - trained,
            }
            # Apart from its start, training is proportional to the kept share.
            share = main.pairs / self.all_pairs.pairs
            slope = (whole - trained) / (1 - share) if share < 1 else whole
            result[f"break_even_budget_{name}"] = 1 - selecting / slope if slope else 0.0
        return result

    def to_dict(self) -> dict[str, Any]:
        """The cost as json."""
        return {
            "device": self.device,
            "unit": self.unit,
            "budget": self.budget,
            "stages": [cost.to_dict() for cost in self.stages],
            "all_pairs": self.all_pairs.to_dict() if self.all_pairs else None,
            "savings": self.savings(),
            "assumptions": self.assumptions,
        }


def recipe_cost(steps: Sequence[ParsedStep], pairs: Pairs, clock: Clock, recipe: Recipe) -> RecipeCost:
    """
    Predicts tokens, FLOPs, time and memory of the stages of a recipe.

    Args:
        steps (sequence of [`ParsedStep`]): The stages with their arguments.
        pairs ([`Pairs`]): The data.
        clock ([`Clock`]): What FLOPs take on the device.
        recipe ([`Recipe`]): What the stages share.

    Raises:
        InputError: If a model's configuration or the data cannot be read.
    """
    costs = [ESTIMATES[parsed.stage](parsed, pairs, recipe) for parsed in steps if parsed.stage in ESTIMATES]
    main = recipe.section("dpo")
    whole = dpo_cost(main, pairs, recipe, all_pairs=True) if main is not None else None
    for cost in [*costs, *([whole] if whole is not None else [])]:
        clock.time(cost)
    left_out = sorted({parsed.stage for parsed in steps} - set(ESTIMATES))
    if left_out:
        recipe.note(f"Not planned: {', '.join(left_out)}.")
    assumptions = [*pairs.assumptions, *clock.assumptions, *recipe.notes]
    return RecipeCost(costs, whole, recipe.share_kept(len(pairs)), clock.name, clock.unit, assumptions)
