"""A small language world whose truth is known, so that the whole method can be run and judged offline in minutes."""

from .data import simulate_corpus, simulate_pairs, simulate_prompts
from .judge import generate_responses, gold_scores, gold_summary, gold_win_rate
from .model import build_model, build_tokenizer, pretrain
from .world import SimulatedWorld

__all__ = [
    "SimulatedWorld",
    "build_model",
    "build_tokenizer",
    "generate_responses",
    "gold_scores",
    "gold_summary",
    "gold_win_rate",
    "pretrain",
    "simulate_corpus",
    "simulate_pairs",
    "simulate_prompts",
]
