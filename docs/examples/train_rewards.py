"""
One label a pair, each by one aspect: small reward models are trained, and score each other's pairs.

python docs/examples/train_rewards.py my-pairs.jsonl Qwen/Qwen3-0.6B
"""

import sys

import torch

from pd_trl import PDFilter, PDRewardConfig, load_pairs, score_pairs, to_preferences, train_aspect_rewards

# Data with an own column `aspect` keep their labels; of ratings, each pair keeps the label of one aspect.
preferences = to_preferences(load_pairs(sys.argv[1]), labels="one")
on_cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
args = PDRewardConfig("rewards", num_train_epochs=1, report_to="none", **on_cpu)
rewards = train_aspect_rewards(preferences, sys.argv[2], "rewards", args=args)

models = {name: reward.path for name, reward in rewards.items()}
scored = score_pairs(preferences, models, output_dir="scored")
pd_filter = PDFilter(budget=0.3, reward_models=models)
kept = pd_filter(scored)
print(pd_filter.report_)
kept.to_parquet("kept.parquet")
