"""Accuracy on pairs, also by length, as a metric of Hugging Face evaluate."""

import numpy as np

from pd_trl.errors import InputError
from pd_trl.evaluation.metrics import base
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
    >>> import pd_trl
    >>> metric = evaluate.load(pd_trl.metrics.path("pairwise_accuracy"))
    >>> metric.compute(predictions=[3.0, 1.0], references=[1.0, 2.0], delta_lengths=[5, -2])["length_accuracy"]
    0.5
"""


class PairwiseAccuracy(base.Metric):
    __doc__ = f"{_DESCRIPTION}{_INPUTS}"
    description_text, inputs_text = _DESCRIPTION, _INPUTS

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
