"""What pd_trl's `evaluate` modules have in common."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

NUMBER = datasets.Value("float64")
_CITATION = """
@misc{2508.07638,
  title = {Data Selection for LLM Alignment Using Fine-Grained Preferences},
  note  = {arXiv:2508.07638, ICLR 2026}
}
"""


class Metric(evaluate.Metric):
    """
    A metric by its texts and columns.

    A script must import this module, not this class: `evaluate.load` takes the first class of a script for its metric.
    """

    description_text: str
    inputs_text: str
    columns: Sequence[dict[str, Any]] = ({"predictions": NUMBER, "references": NUMBER},)

    def _info(self) -> evaluate.MetricInfo:
        features = [datasets.Features(columns) for columns in self.columns]
        return evaluate.MetricInfo(
            description=self.description_text,
            citation=_CITATION,
            inputs_description=self.inputs_text,
            features=features[0] if len(features) == 1 else features,
            reference_urls=["https://arxiv.org/abs/2508.07638"],
            license="Apache-2.0",
        )
