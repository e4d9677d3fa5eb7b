"""Accuracy on pairs, also by length, as a metric of Hugging Face evaluate."""

import datasets
import evaluate
import numpy as np

from pd_trl.errors import InputError
from pd_trl.method.accuracy import pair_metrics

_DESCRIPTION = """
Share of pairs whose chosen response has the higher reward (equal rewards are wrong), with its standard error; and, where lengths
are given, what "longer wins" would reach, the accuracy where the chosen response is the longer and the shorter one, and the
correlation of reward gaps and lengths.
"""

_INPUTS = """
Args:
    predictions (list of float): Rewards of the chosen responses.
    references (list of float): Rewards of the rejected responses.
    delta_lengths (list of float, optional): Length of the chosen minus that of the rejected response of each pair.

Returns:
    pair_accuracy (float): In [0, 1].
    pair_accuracy_se (float): Its binomial standard error.
    num_pairs (int): Number of pairs.
    length_accuracy, pair_accuracy_chosen_longer, pair_accuracy_chosen_shorter, gap_length_correlation (float): With
        delta_lengths, as far as they are defined.

Examples:
    >>> import evaluate
    >>> from pd_trl.evaluation.metrics import path
    >>> metric = evaluate.load(path("pairwise_accuracy"))
    >>> metric.compute(predictions=[3.0, 1.0], references=[1.0, 2.0], delta_lengths=[5, -2])["length_accuracy"]
    0.5
"""

_CITATION = """
@misc{2508.07638,
  title = {Data Selection for LLM Alignment Using Fine-Grained Preferences},
  note  = {arXiv:2508.07638, ICLR 2026}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class PairwiseAccuracy(evaluate.Metric):
    """See the description of the module."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
            reference_urls=["https://arxiv.org/abs/2508.07638"],
            license="Apache-2.0",
        )

    def _compute(
        self, predictions: list[float], references: list[float], delta_lengths: list[float] | None = None
    ) -> dict[str, float]:
        gaps = np.asarray(predictions) - np.asarray(references)
        if not np.isfinite(gaps).all():
            row = int(np.flatnonzero(~np.isfinite(gaps))[0])
            raise InputError(
                f"Rewards must be finite numbers, but {predictions[row]} and {references[row]} are those of pair {row}."
            )
        if delta_lengths is not None and len(delta_lengths) != len(gaps):
            raise InputError(
                f"`delta_lengths` must have {len(gaps)} values, one for each pair, got {len(delta_lengths)}."
            )
        metrics = pair_metrics(gaps, np.zeros(len(gaps)) if delta_lengths is None else delta_lengths)
        if delta_lengths is None:
            metrics.pop("length_accuracy", None)
        return metrics
