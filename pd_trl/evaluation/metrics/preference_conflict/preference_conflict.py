"""Conflict among aspects as a metric of Hugging Face evaluate."""

import datasets

from pd_trl.evaluation.metrics import base
from pd_trl.evaluation.metrics.statistics import conflict_counts

_DESCRIPTION = """
Share of the other aspects' votes that contradict a pair's label. Votes may be signs, rating differences or reward gaps: their sign
counts, and 0 and nan are no vote.
"""

_INPUTS = """
Args:
    predictions (list of float): Vote of the labelled aspect on each pair; 1 for each where rows are written chosen and rejected.
    references (list of float, or list of lists of float): Vote of another aspect on each pair, or of each of several.

Returns:
    preference_conflict (float): Share of decided votes of the others that contradict the label.
    preference_conflict_se (float): Its standard error over pairs.
    any_conflict (float): Share of pairs with at least one such vote.
    majority_conflict (float): Share of pairs in which more votes contradict than agree.
    num_pairs, undecided (int): Pairs with a label and a vote of another aspect, and the others.

Examples:
    >>> import evaluate
    >>> import pd_trl
    >>> metric = evaluate.load(pd_trl.metrics.path("preference_conflict"))
    >>> metric.compute(predictions=[1.0, 1.0], references=[[0.5, -2.0], [1.0, 0.0]])["any_conflict"]
    0.5
"""


class PreferenceConflict(base.Metric):
    __doc__ = f"{_DESCRIPTION}{_INPUTS}"
    description_text, inputs_text = _DESCRIPTION, _INPUTS
    columns = (
        {"predictions": base.NUMBER, "references": datasets.Sequence(base.NUMBER)},
        {"predictions": base.NUMBER, "references": base.NUMBER},
    )

    def _compute(self, predictions: list[float], references: list) -> dict[str, float]:
        return conflict_counts(predictions, references)
