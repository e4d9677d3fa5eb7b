"""The answer of [`advise`]: what is known of each budget, whether to select, and why."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..method.advice import Effect, label_information
from .advice_text import render

# Fewer labelled pairs among the kept ones say nothing about a budget.
MIN_KEPT = 10


@dataclass
class BudgetAdvice:
    """
    What is known of one budget.

    Args:
        budget (`float`): Share of the pairs.
        kept (`int`): Pairs that it keeps, of all.
        labelled (`int`): Labelled pairs among them.
        agreement (`float`): Share of these whose label agrees.
        information (`float`): See [`~method.advice.label_information`].
        effects (`dict`): [`~method.advice.Effect`] by what PD is compared with: `"random"`; `"raf"`, where there is a margin; and
            `"same length"`, where `delta_length` is known: random pairs whose lengths differ as those of the kept ones do.
    """

    budget: float
    kept: int
    labelled: int
    agreement: float
    information: float
    effects: dict[str, Effect]


@dataclass
class Advice:
    """
    The answer of [`advise`]. Printed, it is a table with the answer in words.

    Args:
        select (`bool`): Whether to select by PD.
        budget (`float`, *optional*): The budget to try, if so.
        reasons (`list` of `str`): Why, in words.
        codes (`list` of `str`): The same for programs: `"two_aspects"`, `"proxies"`, `"harm"`, `"unclear"`, `"length"`, `"raf"`, `"gain"`.
        reference (`str`): What the labels are compared with: `"overall"` or `"mean"`.
        total, labelled, ties, prompts (`int`): Pairs; labelled ones with a decision; labelled ones without; prompts of the labelled.
        agreement (`float`): Share of the labelled pairs whose label agrees with the reference.
        aspects (`dict`): By aspect, the `share` of labelled pairs on which its gap agrees with the reference, its standard error
            `se`, and `pairs`.
        budgets (`list` of [`BudgetAdvice`]): What is known of each budget.
    """

    select: bool
    budget: float | None
    reasons: list[str]
    codes: list[str]
    reference: str
    total: int
    labelled: int
    ties: int
    prompts: int
    agreement: float
    aspects: dict[str, dict[str, float]]
    budgets: list[BudgetAdvice] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for json."""
        return asdict(self)

    def __str__(self) -> str:
        return render(self.to_dict())


def decide(advice: Advice, num_aspects: int) -> None:
    """Sets the answer and its reasons."""
    gains = [entry for entry in advice.budgets if "random" in entry.effects and entry.effects["random"].sign > 0]
    losses = [entry for entry in advice.budgets if "random" in entry.effects and entry.effects["random"].sign < 0]
    if num_aspects <= 2:
        advice.codes = ["two_aspects"]
        advice.reasons = [
            "With two aspects, the PD of a pair is the gap of one reward model: there is no consensus to select by."
        ]
        if gains:
            advice.reasons.append(
                "The kept labels agree more often all the same; a policy trained on them did not lead one trained on all pairs "
                "(docs/benchmark.md). Take all pairs, or compare both."
            )
        return
    if not gains:
        coins = [name for name, entry in advice.aspects.items() if entry["share"] - 2 * entry["se"] <= 0.5]
        if losses:
            advice.codes.append("harm")
            advice.reasons.append("The pairs that PD keeps agree less often than random ones.")
        else:
            advice.codes.append("unclear")
            advice.reasons.append(_unclear(advice))
        if advice.aspects and len(coins) == len(advice.aspects):
            advice.codes.append("proxies")
            advice.reasons.append("No proxy is better than a coin on the labelled pairs, by two standard errors.")
        return
    best = max(gains, key=lambda entry: (entry.information, entry.budget))
    gain, matched = best.effects["random"], best.effects.get("same length")
    if matched is not None and matched.sign <= 0 and matched.estimate < gain.estimate / 2:
        advice.codes = ["length"]
        advice.reasons = [
            f"These labels cannot tell the gain from one by length: at {best.budget:g} the kept pairs agree more often than random ones by "
            f"{100 * gain.estimate:.1f} points, but than random ones of the same lengths by {100 * matched.estimate:.1f} "
            f"({100 * matched.low:.1f} to {100 * matched.high:.1f}). Handle length first, or label more pairs."
        ]
        return
    rival = best.effects.get("raf")
    if rival is not None and rival.sign < 0:
        advice.codes = ["raf"]
        advice.reasons = [
            f"Selecting helps, but the margin of one reward model selects better: by {-100 * rival.estimate:.1f} points at "
            f"{best.budget:g}. Use selector='margin'."
        ]
        return
    advice.select, advice.budget, advice.codes = True, best.budget, ["gain"]
    advice.reasons = [
        f"At {best.budget:g} the kept labels agree more often than random ones by {100 * gain.estimate:.1f} points "
        f"({100 * gain.low:.1f} to {100 * gain.high:.1f})."
    ]
    if rival is not None and rival.sign == 0:
        advice.reasons.append("Whether PD or the margin of one reward model is better is not clear from these pairs.")
    if best.information < label_information(1.0, advice.agreement):
        advice.reasons.append(
            "All pairs together may still teach more, with more steps: the selection saves compute, and cleaner labels do not "
            "make up for the fewer pairs."
        )


def _unclear(advice: Advice) -> str:
    known = [entry for entry in advice.budgets if "random" in entry.effects]
    if not known:
        return f"Too few labelled pairs among the kept ones: fewer than {MIN_KEPT} at each budget."
    best = max(known, key=lambda entry: entry.effects["random"].estimate / entry.effects["random"].standard_error)
    effect = best.effects["random"]
    text = "No budget's interval for the gain over random pairs is above zero."
    if effect.estimate <= 0:
        return text
    half = (effect.high - effect.low) / 2
    needed = advice.labelled * (half / effect.estimate) ** 2
    return f"{text} A gain of {100 * effect.estimate:.1f} points at {best.budget:g}, as estimated, would show with about {_round_up(needed)} labelled pairs."


def _round_up(count: float) -> int:
    digits = 10 ** max(int(np.floor(np.log10(max(count, 1)))) - 1, 0)
    return int(-(-count // digits) * digits)
