"""Scoring: reward gaps of preference pairs by one reward model per aspect."""

from .pairs import score_pairs, score_shard
from .reward_models import load_scorers
from .scorer import RewardModelScorer
from .single import score_response_rows, score_response_shard, score_responses

__all__ = [
    "RewardModelScorer",
    "load_scorers",
    "score_pairs",
    "score_response_rows",
    "score_response_shard",
    "score_responses",
    "score_shard",
]
