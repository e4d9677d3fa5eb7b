"""Scoring: reward gaps of preference pairs by one reward model per aspect."""

from .pairs import score_pairs
from .reward_models import RewardModelScorer, load_scorers

__all__ = ["RewardModelScorer", "load_scorers", "score_pairs"]
