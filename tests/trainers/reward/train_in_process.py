"""Trains the proxy rewards of all aspects with frequent checkpoints: `train_in_process.py MODEL OUTPUT`."""

import sys

from pd_trl import PDRewardConfig, train_aspect_rewards
from tests.trainers.reward.test_aspects import CPU, learnable

args = PDRewardConfig("unused", **{**CPU, "save_strategy": "steps", "save_steps": 7, "save_total_limit": 2})
train_aspect_rewards(learnable(), sys.argv[1], sys.argv[2], args=args, heldout=0.25)
