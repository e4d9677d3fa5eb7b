"""The pull request that submits a model to AlpacaEval's leaderboard, as a folder."""

from .build import build_submission
from .check import check_submission

__all__ = ["build_submission", "check_submission"]
