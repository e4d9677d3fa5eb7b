"""The gold judge of a simulated world, which knows what an output is truly worth."""

import os
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ...evaluation.judges.base import ScoreJudge
from .world import SimulatedWorld


class GoldJudge(ScoreJudge):
    """
    Prefers the output of the higher gold reward, the sum over the aspects of a simulated world.

    Args:
        world (`SimulatedWorld`): The world whose prompts are answered.
    """

    def __init__(self, world: SimulatedWorld):
        super().__init__("gold", f"gold rewards of the simulated world, seed {world.seed}", {"world": asdict(world)})
        self.world = world

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.floating]:
        """Gold rewards in points, from `num_aspects` to `5 * num_aspects`."""
        return np.array([self.world.gold_overall(instruction, output) for instruction, output in pairs])


def gold_judge(folder: str | os.PathLike) -> GoldJudge:
    """
    The gold judge of a world that `pd-trl run` wrote.

    Raises:
        InputError: When `folder` holds no world.
    """
    return GoldJudge(SimulatedWorld.load(folder))
