"""The heads of a reward model in its card."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..method.accuracy import verdict
from .text import Safe, accuracy, cell, count, number, percent, table

Heads = Mapping[str, Mapping[str, Any]]


def heads_table(heads: Heads) -> Safe:
    """Accuracy of each head on held-out pairs, and what it was trained on; empty without heads."""
    if not heads:
        return Safe("")
    rows: list[Sequence[object]] = [
        ["head", "trained on", "held-out pairs", "accuracy ± SE", "of “longer wins”", "length penalty"]
    ]
    for aspect, head in heads.items():
        metrics = head.get("metrics", {})
        rows.append([
            aspect, count(head.get("num_train")), count(metrics.get("num_pairs")), accuracy(metrics, bold=True),
            percent(metrics.get("length_accuracy")), number(head.get("length_penalty"), 4),
        ])  # fmt: skip
    return table(rows)


def heads_verdict(heads: Heads) -> Safe:
    """Which heads are no better than a coin."""
    measured = {
        aspect: head["metrics"] for aspect, head in heads.items() if "pair_accuracy" in head.get("metrics", {})
    }
    if not measured:
        return Safe("The accuracy of its heads on held-out pairs was not measured.")
    found = {aspect: verdict(metrics) for aspect, metrics in measured.items()}
    said = []
    for kind, words in (
        ("worse than a coin", "Worse than a coin"),
        ("no better than a coin", "No better than a coin"),
    ):
        names = [cell(aspect) for aspect, told in found.items() if told == kind]
        if names:
            said.append(f"**{words}** (by two standard errors): {', '.join(names)}.")
    if said:
        return Safe(" ".join(said))
    return Safe("Each head is better than a coin, by two standard errors.")
