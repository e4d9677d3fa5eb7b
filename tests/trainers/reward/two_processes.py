"""Trains on two processes and saves the result: `python -m torch.distributed.run --nproc_per_node=2 two_processes.py`."""

import sys
from pathlib import Path

import torch

from pd_trl.cli.stage_commands import leave_process_group
from tests.trainers.reward.test_trainer import make, skewed, tiny_preferences

model, folder = sys.argv[1], Path(sys.argv[2])
trainer = make(
    model,
    folder / "run",
    skewed(40, 32),
    dict(num_train_epochs=2, per_device_train_batch_size=4, per_device_eval_batch_size=3),
    eval_dataset=tiny_preferences(17, seed=5),
)
if trainer.accelerator.num_processes != 2:
    sys.exit("expected two processes")
trainer.train()
metrics = trainer.evaluate()
if trainer.is_world_process_zero():
    state = {k: v for k, v in trainer.accelerator.unwrap_model(trainer.model).state_dict().items()}
    torch.save({"state": state, "accuracy": metrics["eval_pair_accuracy"]}, folder / "two.pt")
leave_process_group()
