"""Win score as a metric of Hugging Face evaluate."""

import numpy as np

from pd_trl.evaluation.metrics import base
from pd_trl.evaluation.metrics.statistics import EDGE, win_counts

_DESCRIPTION = """
Win score 1 + (wins - losses) / n of one model's scores against another's: 1 is a draw, 2 wins always, 0 loses always.
"""

_INPUTS = """
Args:
    predictions (list of float): Scores of model A, one for each instruction; higher is better.
    references (list of float): Scores of model B on the same instructions. For preferences in [0, 1], pass 0.5 for each.
    tie (float, optional, defaults to 1e-9): Largest difference that is a tie.

Returns:
    win_score (float): In [0, 2].
    win_score_se (float): Its standard error over instructions.
    wins, losses, ties, num_samples (int): Counts.

Examples:
    >>> import evaluate
    >>> import pd_trl
    >>> metric = evaluate.load(pd_trl.metrics.path("win_score"))
    >>> metric.compute(predictions=[3.0, 1.0, 2.0, 5.0], references=[1.0, 2.0, 2.0, 1.0])["win_score"]
    1.25
"""


class WinScore(base.Metric):
    __doc__ = f"{_DESCRIPTION}{_INPUTS}"
    description_text, inputs_text = _DESCRIPTION, _INPUTS

    def _compute(self, predictions: list[float], references: list[float], tie: float = EDGE) -> dict[str, float]:
        gaps = np.asarray(predictions) - np.asarray(references)
        return win_counts(np.sign(gaps) * (np.abs(gaps) > tie))
