"""
TRL's DPOTrainer, which selects by itself and says on its card what it was trained on.

python docs/examples/drop_in_trainer.py Qwen/Qwen3-1.7B
"""

import sys

import torch

from pd_trl import PDDPOConfig, PDDPOTrainer, PDFilter, load_pairs, to_preferences

# A budget of 1.0 keeps all pairs and adds the column `pd`, by which the trainer selects.
ranked = PDFilter(1.0, source="ratings")(to_preferences(load_pairs("sample")))
on_cpu = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
args = PDDPOConfig("policy", pd_budget=0.3, num_train_epochs=1, report_to="none", **on_cpu)
trainer = PDDPOTrainer(model=sys.argv[1], args=args, train_dataset=ranked)
trainer.train()
trainer.save_model()
trainer.create_model_card()
print(trainer.selection_)
