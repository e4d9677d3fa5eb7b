"""The judge that `pd_trl.evaluation` does not know by itself."""

from typing import Any

from ..evaluation.judges import JUDGES, Judge, JudgeKind


def _gold(folder: str, **settings: Any) -> Judge:
    from ..lab.simulation.gold_judge import gold_judge

    return gold_judge(folder, **settings)


def register_gold_judge() -> None:
    """Makes the gold judge of a simulated world known to [`load_judge`], as `gold:WORLD`."""
    JUDGES["gold"] = JudgeKind(_gold, "the folder of a simulated world")
