"""One backbone with a reward head for each aspect."""

from .configuration import MultiAspectRewardConfig
from .modeling import MultiAspectRewardModel

__all__ = ["MultiAspectRewardConfig", "MultiAspectRewardModel"]
