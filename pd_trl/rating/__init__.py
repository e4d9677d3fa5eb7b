"""Ratings of every aspect by a judge: rubrics, questions, answers, and in which order they are asked."""

from .judges import RatingJudge, ServerJudge, server_judge
from .rubric import RatedAspect, Rubric, load_rubric
from .run import rate_pairs

__all__ = ["RatedAspect", "RatingJudge", "Rubric", "ServerJudge", "load_rubric", "rate_pairs", "server_judge"]
