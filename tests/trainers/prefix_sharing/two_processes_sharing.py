"""Trains a reward model and a policy on two processes with shared prefixes and saves them."""

import sys
from pathlib import Path

import torch

from pd_trl.cli.stage_commands import leave_process_group
from tests.trainers.prefix_sharing.test_sharing import NEUTRAL, trainer_of

reward, causal, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
for kind, model, config in (("reward", reward, NEUTRAL), ("dpo", causal, {})):
    config = {**config, "share_prefix": True, "per_device_train_batch_size": 2}
    trainer = trainer_of(kind, model, folder / kind, config)
    if trainer.accelerator.num_processes != 2:
        sys.exit("expected two processes")
    trainer.train()
    if trainer.prefix_sharing_.shared == 0:
        sys.exit("expected shared prefixes")
    if trainer.is_world_process_zero():
        torch.save(dict(trainer.accelerator.unwrap_model(trainer.model).state_dict()), folder / f"{kind}.pt")
leave_process_group()
