"""Scoring: reward gaps of preference pairs by one reward model per aspect."""

from .pairs import score_pairs
from .reward_models import load_scorers
from .scorer import RewardModelScorer
from .single import score_response_rows, score_responses

__all__ = [
    "RewardModelScorer",
    "load_scorers",
    "score_pairs",
    "score_response_rows",
    "score_responses",
]
