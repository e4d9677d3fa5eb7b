"""AlpacaEval 2, with alpaca_eval's own annotators and GLM."""

from .evaluate import evaluate_alpaca, plan_alpaca
from .plan import AlpacaPlan
from .result import AlpacaResult

__all__ = ["AlpacaPlan", "AlpacaResult", "evaluate_alpaca", "plan_alpaca"]
