"""Trains heads on two processes and saves the result."""

import sys
from pathlib import Path

import torch

from pd_trl.cli.stage_commands import leave_process_group
from tests.tiny import ASPECTS, tiny_preferences
from tests.trainers.reward.test_trainer import make

model, folder = sys.argv[1], Path(sys.argv[2])
config = dict(num_train_epochs=2, per_device_train_batch_size=4, per_device_eval_batch_size=3)
trainer = make(model, folder / "run", tiny_preferences(40), config, eval_dataset=tiny_preferences(17, seed=5))
if trainer.accelerator.num_processes != 2:
    sys.exit("expected two processes")
trainer.train()
metrics = trainer.evaluate()
if trainer.is_world_process_zero():
    state = dict(trainer.accelerator.unwrap_model(trainer.model).state_dict())
    accuracies = {aspect: metrics[f"eval_pair_accuracy_{aspect}"] for aspect in ASPECTS}
    torch.save({"state": state, "num_pairs": metrics["eval_num_pairs"], **accuracies}, folder / "two.pt")
leave_process_group()
