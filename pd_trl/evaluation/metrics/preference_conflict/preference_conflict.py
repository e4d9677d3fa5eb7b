"""Conflict among aspects as a metric of Hugging Face evaluate."""

import datasets
import evaluate

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
    >>> from pd_trl.evaluation.metrics import path
    >>> metric = evaluate.load(path("preference_conflict"))
    >>> metric.compute(predictions=[1.0, 1.0], references=[[0.5, -2.0], [1.0, 0.0]])["any_conflict"]
    0.5
"""

_CITATION = """
@misc{2508.07638,
  title = {Data Selection for LLM Alignment Using Fine-Grained Preferences},
  note  = {arXiv:2508.07638, ICLR 2026}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class PreferenceConflict(evaluate.Metric):
    """See the description of the module."""

    def _info(self) -> evaluate.MetricInfo:
        vote = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": vote, "references": datasets.Sequence(vote)}),
                datasets.Features({"predictions": vote, "references": vote}),
            ],
            reference_urls=["https://arxiv.org/abs/2508.07638"],
            license="Apache-2.0",
        )

    def _compute(self, predictions: list[float], references: list) -> dict[str, float]:
        return conflict_counts(predictions, references)
