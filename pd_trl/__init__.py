"""
Preference Divergence for TRL: score, select and align on preference data whose aspects conflict (arXiv 2508.07638).

The names below are imported on first use, so that `import pd_trl` stays quick and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .data import load_pairs, to_preferences
    from .evaluation import metrics
    from .evaluation.alpaca import evaluate_alpaca
    from .evaluation.pairwise import win_score
    from .evaluation.rewards import evaluate_rewards
    from .export import export_preferences
    from .generation import generate_outputs
    from .method.divergence import preference_divergence
    from .models.heads import MultiAspectRewardModel
    from .publishing.collection import publish_collection
    from .publishing.dataset import publish_dataset
    from .publishing.model import publish_model
    from .publishing.report import publish_report
    from .rating import load_rubric, rate_pairs, server_judge
    from .scoring import score_pairs, score_responses
    from .selection.advice import advise
    from .selection.filter import PDFilter
    from .selection.out_of_core import select_out_of_core
    from .selection.rivals import rival_scores
    from .trainers.dpo.config import PDDPOConfig
    from .trainers.dpo.margins import policy_margins, validation_losses
    from .trainers.dpo.trainer import PDDPOTrainer
    from .trainers.reward.aspects import train_aspect_rewards
    from .trainers.reward.config import PDRewardConfig
    from .trainers.reward.sampler import LengthBalancedSampler
    from .trainers.reward.trainer import PDRewardTrainer

_MODULE_OF = {
    "LengthBalancedSampler": "trainers.reward.sampler",
    "MultiAspectRewardModel": "models.heads",
    "PDDPOConfig": "trainers.dpo.config",
    "PDDPOTrainer": "trainers.dpo.trainer",
    "PDFilter": "selection.filter",
    "PDRewardConfig": "trainers.reward.config",
    "PDRewardTrainer": "trainers.reward.trainer",
    "advise": "selection.advice",
    "evaluate_alpaca": "evaluation.alpaca",
    "evaluate_rewards": "evaluation.rewards",
    "export_preferences": "export",
    "generate_outputs": "generation",
    "load_pairs": "data",
    "load_rubric": "rating",
    "metrics": "evaluation",
    "policy_margins": "trainers.dpo.margins",
    "preference_divergence": "method.divergence",
    "publish_collection": "publishing.collection",
    "publish_dataset": "publishing.dataset",
    "publish_model": "publishing.model",
    "publish_report": "publishing.report",
    "rate_pairs": "rating",
    "rival_scores": "selection.rivals",
    "score_pairs": "scoring",
    "score_responses": "scoring",
    "select_out_of_core": "selection.out_of_core",
    "server_judge": "rating",
    "to_preferences": "data",
    "train_aspect_rewards": "trainers.reward.aspects",
    "validation_losses": "trainers.dpo.margins",
    "win_score": "evaluation.pairwise",
}

__all__ = [
    "LengthBalancedSampler",
    "MultiAspectRewardModel",
    "PDDPOConfig",
    "PDDPOTrainer",
    "PDFilter",
    "PDRewardConfig",
    "PDRewardTrainer",
    "__version__",
    "advise",
    "evaluate_alpaca",
    "evaluate_rewards",
    "export_preferences",
    "generate_outputs",
    "load_pairs",
    "load_rubric",
    "metrics",
    "policy_margins",
    "preference_divergence",
    "publish_collection",
    "publish_dataset",
    "publish_model",
    "publish_report",
    "rate_pairs",
    "rival_scores",
    "score_pairs",
    "score_responses",
    "select_out_of_core",
    "server_judge",
    "to_preferences",
    "train_aspect_rewards",
    "validation_losses",
    "win_score",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    if module.startswith("trainers."):
        importlib.import_module(".publishing.trained", __name__).serve_trainers()
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
