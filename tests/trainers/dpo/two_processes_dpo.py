"""Trains a policy on two processes and saves it."""

import sys
from pathlib import Path

import torch

from pd_trl.cli.stage_commands import leave_process_group
from tests.trainers.dpo.test_trainer import make, scored

model, folder = sys.argv[1], Path(sys.argv[2])
trainer = make(model, folder / "run", scored(), {"pd_budget": 0.8, "pd_loss": "dfpo"})
if trainer.accelerator.num_processes != 2:
    sys.exit("expected two processes")
trainer.train()
if trainer.is_world_process_zero():
    torch.save(dict(trainer.accelerator.unwrap_model(trainer.model).state_dict()), folder / "two.pt")
leave_process_group()
