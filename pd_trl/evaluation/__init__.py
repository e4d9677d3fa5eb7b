"""Evaluation of policies and reward models."""

from . import metrics
from .alpaca import AlpacaPlan, AlpacaResult, evaluate_alpaca, plan_alpaca
from .pairwise import WinScore, win_score
from .rewards import RewardEvaluation, evaluate_rewards
from .submission import build_submission, check_submission

__all__ = [
    "AlpacaPlan",
    "AlpacaResult",
    "RewardEvaluation",
    "WinScore",
    "build_submission",
    "check_submission",
    "evaluate_alpaca",
    "evaluate_rewards",
    "metrics",
    "plan_alpaca",
    "win_score",
]
