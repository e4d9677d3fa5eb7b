"""pd_trl's trainers under TRL's names. The reward configuration is TRL's own: with it the trainer is to be TRL's."""

from trl import RewardConfig

from pd_trl import PDDPOConfig as DPOConfig
from pd_trl import PDDPOTrainer as DPOTrainer
from pd_trl import PDRewardTrainer as RewardTrainer

__all__ = ["DPOConfig", "DPOTrainer", "RewardConfig", "RewardTrainer"]
