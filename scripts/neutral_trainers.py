"""pd_trl's trainers under TRL's names, with settings that change nothing where our defaults differ from TRL's."""

from dataclasses import dataclass

from pd_trl import PDDPOConfig as DPOConfig
from pd_trl import PDDPOTrainer as DPOTrainer
from pd_trl import PDRewardConfig
from pd_trl import PDRewardTrainer as RewardTrainer

__all__ = ["DPOConfig", "DPOTrainer", "RewardConfig", "RewardTrainer"]


# At the top of a module, since checkpoints pickle it.
@dataclass
class RewardConfig(PDRewardConfig):
    length_balance_temperature: float | None = None
    length_penalty: float = 0.0
