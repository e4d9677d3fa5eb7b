"""How often a reward model is right about examples, and what guessing and length would reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..method.accuracy import binomial_error
from ..runs.results import EvalResult
from ..text.tables import number, table
from .metrics.statistics import calibration
from .reward_data import Example, characters

ALL = "all"


@dataclass(frozen=True)
class Accuracy:
    """
    A reward model on one subset.

    Args:
        model (`str`): Name of the reward model.
        subset (`str`): The subset; `"all"` is every example. RewardBench's sections and score have their names.
        accuracy (`float`): Share of examples it is right about, in [0, 1].
        standard_error (`float`): Its binomial standard error.
        num_samples (`int`): Number of examples.
        chance (`float`): What guessing gives.
        length_accuracy (`float`): What "the longest response is right" gives, in characters.
        by_length (`dict`): Accuracy where the right response is the longer, the shorter one (pairs only).
        calibration (`dict`, *optional*): See [`~metrics.statistics.calibration`] (pairs only).
        metric (`str`, *optional*): Name of the metric, where it is no mean over examples.
    """

    model: str
    subset: str
    accuracy: float
    standard_error: float
    num_samples: int
    chance: float
    length_accuracy: float
    by_length: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    metric: str | None = None


@dataclass(frozen=True)
class RewardEvaluation:
    """
    Accuracies of reward models on a data set.

    Args:
        entries (`list` of [`Accuracy`]): Each model on each subset, and on all.
        dataset (`str`): Name of the data set.
        revision (`str`, *optional*): Its revision.
        counts (`dict`): Examples, and labels left out by reason.
        digests (`dict`): Hash of the weights of each model.
    """

    entries: list[Accuracy]
    dataset: str
    revision: str | None
    counts: dict[str, int]
    digests: dict[str, str]

    def results(self) -> list[EvalResult]:
        """One record for each model and subset."""
        return [
            EvalResult(
                task=f"reward accuracy on {self.dataset}" + ("" if entry.subset == ALL else f", {entry.subset}"),
                metric=entry.metric or ("pair_accuracy" if entry.calibration is not None else "best_of_n_accuracy"),
                value=entry.accuracy,
                num_samples=entry.num_samples,
                standard_error=entry.standard_error,
                unit="share",
                model=entry.model,
                dataset=self.dataset,
                dataset_revision=self.revision,
                settings={
                    "subset": entry.subset,
                    "chance": entry.chance,
                    "length_accuracy": entry.length_accuracy,
                    **entry.by_length,
                    **({"calibration": entry.calibration} if entry.calibration else {}),
                    "weights": self.digests[entry.model],
                    **self.counts,
                },
            )
            for entry in self.entries
        ]

    def lines(self) -> list[str]:
        """A table of subsets and models, and how well each model is calibrated."""
        models = list(dict.fromkeys(entry.model for entry in self.entries))
        by_subset: dict[str, dict[str, Accuracy]] = {}
        for entry in self.entries:
            by_subset.setdefault(entry.subset, {})[entry.model] = entry
        rows = [["subset", "examples", "chance", "longer wins", *models]]
        for subset, found in by_subset.items():
            first = found[models[0]]
            cells = [f"{found[m].accuracy:.3f} ± {found[m].standard_error:.3f}" for m in models]
            rows.append([
                subset, str(first.num_samples), number(first.chance), number(first.length_accuracy), *cells,
            ])  # fmt: skip
        lines = table(rows)
        known = [(m, by_subset[ALL][m].calibration) for m in models]
        rows = [["calibration on all", "ECE", "Brier", "log loss", "temperature"]]
        rows += [[m, *(number(c[k]) for k in ("ece", "brier", "log_loss", "temperature"))] for m, c in known if c]
        return [*lines, "", *table(rows)] if len(rows) > 1 else lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def accuracies_of(
    model: str, examples: Sequence[Example], rewards: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> list[Accuracy]:
    """Accuracy of a model on each subset and on all examples, from its rewards of the right and wrong responses of each."""
    groups: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(example.subset, []).append(i)
    if len(groups) > 1:
        groups[ALL] = list(range(len(examples)))
    else:
        groups = {ALL: list(range(len(examples)))}
    return [
        _accuracy(model, name, [examples[i] for i in rows], [rewards[i] for i in rows])
        for name, rows in groups.items()
    ]


def _accuracy(
    model: str,
    subset: str,
    examples: Sequence[Example],
    rewards: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> Accuracy:
    points = np.array([points_of(right, wrong) for right, wrong in rewards])
    lengths = [
        (np.array([characters(r) for r in e.right]), np.array([characters(w) for w in e.wrong])) for e in examples
    ]
    ruler = np.array([points_of(right, wrong, tie=0.5) for right, wrong in lengths])
    accuracy = float(points.mean())
    pairs = all(len(e.right) == len(e.wrong) == 1 for e in examples)
    by_length: dict[str, float] = {}
    if pairs:
        delta = np.array([right[0] - wrong[0] for right, wrong in lengths])
        for side, rows in (("longer", delta > 0), ("shorter", delta < 0)):
            if rows.any():
                by_length[f"accuracy_right_{side}"] = float(points[rows].mean())
    return Accuracy(
        model=model,
        subset=subset,
        accuracy=accuracy,
        standard_error=binomial_error(accuracy, len(points)),
        num_samples=len(points),
        chance=float(np.mean([1 / math.comb(len(e.right) + len(e.wrong), len(e.right)) for e in examples])),
        length_accuracy=float(ruler.mean()),
        by_length=by_length,
        calibration=calibration(np.array([right[0] - wrong[0] for right, wrong in rewards])) if pairs else None,
    )


def points_of(right: NDArray, wrong: NDArray, tie: float = 0.0) -> float:
    """
    The point of one example, in [0, 1].

    Args:
        right (array of shape `(num_right,)`): Rewards of the right responses.
        wrong (array of shape `(num_wrong,)`): Rewards of the others.
        tie (`float`, *optional*, defaults to `0.0`): Point of a pair with equal rewards.
    """
    if len(right) == len(wrong) == 1 and right[0] == wrong[0]:
        return tie
    if len(right) == 1:
        best = max(right[0], wrong.max())
        return float(right[0] == best) / (1 + int((wrong == best).sum()))
    return float(right.min() > wrong.max())
