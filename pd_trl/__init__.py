"""
Preference Divergence for TRL: score, select and align on preference data whose aspects conflict (arXiv 2508.07638).

The names below are imported on first use, so that `import pd_trl` stays quick and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .aspect_rewards import train_aspect_rewards
    from .data import load_pairs, to_preferences
    from .divergence import preference_divergence
    from .dpo_config import PDDPOConfig
    from .dpo_trainer import PDDPOTrainer
    from .filter import PDFilter
    from .length import LengthBalancedSampler
    from .reward_config import PDRewardConfig
    from .reward_trainer import PDRewardTrainer
    from .scoring import score_pairs

_MODULE_OF = {
    "LengthBalancedSampler": "length",
    "PDDPOConfig": "dpo_config",
    "PDDPOTrainer": "dpo_trainer",
    "PDFilter": "filter",
    "PDRewardConfig": "reward_config",
    "PDRewardTrainer": "reward_trainer",
    "load_pairs": "data",
    "preference_divergence": "divergence",
    "score_pairs": "scoring",
    "to_preferences": "data",
    "train_aspect_rewards": "aspect_rewards",
}

__all__ = [
    "LengthBalancedSampler",
    "PDDPOConfig",
    "PDDPOTrainer",
    "PDFilter",
    "PDRewardConfig",
    "PDRewardTrainer",
    "__version__",
    "load_pairs",
    "preference_divergence",
    "score_pairs",
    "to_preferences",
    "train_aspect_rewards",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
