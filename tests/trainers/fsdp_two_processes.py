"""
Both trainers on two processes under FSDP2: trains, goes on from the first checkpoint, and saves the weights of both.

accelerate runs FSDP on accelerators only. Here it is told that the two CPU processes are such; gloo, `fully_shard`, the
checkpoints and their loading are the real ones.
"""

import sys
from pathlib import Path

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from pd_trl.cli.stage_commands import leave_process_group
from pd_trl.errors import InputError
from tests.tiny import tiny_preferences
from tests.trainers.dpo.test_trainer import make as make_dpo
from tests.trainers.dpo.test_trainer import scored
from tests.trainers.reward.test_trainer import make as make_reward

SETTINGS = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
DPO = {**SETTINGS, "pd_budget": 0.8, "pd_loss": "dfpo"}
REWARD = {**SETTINGS, "length_correction": "residual", "length_penalty": 0.01}


def trainer_of(kind: str, model: str, folder: Path, settings: dict, batch_size: int):
    """The trainer of `kind`, with `batch_size` pairs a process."""
    batch = {"per_device_train_batch_size": batch_size}
    if kind == "dpo":
        return make_dpo(model, folder, scored(), {**DPO, **batch, **settings})
    return make_reward(model, folder, tiny_preferences(40), {**REWARD, **batch, **settings})


def shard_on_cpus() -> None:
    """From now on accelerate takes two CPU processes for two GPUs."""
    plain_init = PartialState.__init__

    def init(self, *args, **kwargs):
        plain_init(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init  # type: ignore[method-assign]


if __name__ == "__main__":
    shard_on_cpus()
    kind, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    layers = {
        "version": 2,
        "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
        "state_dict_type": "FULL_STATE_DICT",
    }
    fsdp = {"fsdp": True, "fsdp_config": layers}
    trainer = trainer_of(kind, model, folder / "run", fsdp, 4)
    if not trainer.is_fsdp_enabled or trainer.accelerator.num_processes != 2:
        sys.exit("expected FSDP on two processes")
    trainer.train()
    if "DTensor" not in {type(weight).__name__ for weight in trainer.model.parameters()}:
        sys.exit("expected sharded weights")
    trainer.save_model(str(folder / "final"))
    resumed = trainer_of(kind, model, folder / "resumed", fsdp, 4)
    resumed.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-1"))
    resumed.save_model(str(folder / "after"))
    try:
        trainer_of(kind, model, folder / "sharing", {**fsdp, "share_prefix": True}, 4)
        sys.exit("expected a refusal of `share_prefix`")
    except InputError as error:
        print(error)
    leave_process_group()
