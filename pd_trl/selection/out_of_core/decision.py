"""What the passes over the data find: scales, weights, thresholds and counts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...method.ranking import Threshold
from ..report_inputs import Basis


@dataclass
class Decision(Basis):
    """
    What the passes found.

    Args:
        label_counts (`list` of `int`): Rows with each label.
        thresholds (`dict`): The last pair kept, of all pairs or of each aspect.
        kept (`int`): Pairs within the budget.
        total (`int`): All pairs.
        no_votes (`list` of `int`): For each label, the pairs on which no other aspect votes.
        passes (`int`): Passes over the gap columns.
    """

    label_counts: list[int]
    total: int
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    kept: int = 0
    no_votes: list[int] = field(default_factory=list)
    passes: int = 2

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for json."""
        return {**asdict(self), "scale": self.scale.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Decision":
        """What `to_dict` gave."""
        arrays = {"scale": np.array(content["scale"], np.float32), "weights": np.array(content["weights"], np.float64)}
        thresholds = {name: Threshold(**values) for name, values in content["thresholds"].items()}
        return cls(**{**content, **arrays, "thresholds": thresholds})
