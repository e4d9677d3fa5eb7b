"""Scoring: reward gaps of preference pairs by one reward model per aspect."""

from .pairs import score_pairs, score_shard
from .reward_models import load_scorers
from .scorer import RewardModelScorer

__all__ = ["RewardModelScorer", "load_scorers", "score_pairs", "score_shard"]
