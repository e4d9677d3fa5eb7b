import json
from pathlib import Path

import pytest
from transformers import TrainerCallback

from pd_trl import PDDPOConfig, PDDPOTrainer
from pd_trl.errors import InputError
from pd_trl.runs.artifacts import Manifest
from pd_trl.runs.checkpoints import last_checkpoint
from tests.tiny import tiny_preferences

INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
WHOLE = {
    "FSDP, sharded": ["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "scheduler.pt"],
    "FSDP, one file": ["pytorch_model_fsdp.bin", "optimizer.bin"],
    "FSDP, full": ["model.safetensors", "optimizer.bin", "scheduler.pt"],
    "ZeRO-3": ["global_step7/zero_pp_rank_0_mp_rank_00_model_states.pt", "latest"],
    "save_only_model": ["model.safetensors", "config.json"],
    "pickled": ["pytorch_model.bin", "optimizer.pt"],
    "adapter": ["adapter_model.safetensors", "adapter_config.json", "optimizer.pt"],
    "two adapters": ["one/adapter_model.safetensors", "two/adapter_model.safetensors"],
    "shards": ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
}
BROKEN = {
    "no state": (["model.safetensors", "optimizer.pt"], None),
    "half a state": (["model.safetensors", "optimizer.pt"], '{"global_step": 7, "log_'),
    "a state of another kind": (["model.safetensors"], "[7]"),
    "no weights": (["optimizer.pt", "scheduler.pt"], '{"global_step": 7}'),
    "a shard short": (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], '{"global_step": 7}'),
    "an empty folder": (["global_step7/"], '{"global_step": 7}'),
}


def make(folder: Path, step: int, files: list[str], state: str | None = '{"global_step": 7}') -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in files:
        path = checkpoint / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(INDEX if name.endswith("index.json") else "x")
    if state is not None:
        (checkpoint / "trainer_state.json").write_text(state)
    return checkpoint


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "run_identity.json"}


@pytest.mark.parametrize("name", WHOLE)
def test_every_layout_of_transformers_is_gone_on_from(tmp_path, name):
    make(tmp_path, 90, WHOLE[name])
    newest = make(tmp_path, 100, WHOLE[name])
    before = contents(tmp_path)
    assert last_checkpoint(tmp_path, Manifest("dpo")) == str(newest)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_whole_is_passed_over_and_stays(tmp_path, caplog, name):
    files, state = BROKEN[name]
    broken = make(tmp_path, 12, files, state)
    before = contents(tmp_path)
    assert last_checkpoint(tmp_path, Manifest("dpo")) is None
    assert "training starts at step 0" in caplog.text and str(broken) in caplog.text
    older = make(tmp_path, 8, ["model.safetensors"])
    assert last_checkpoint(tmp_path, Manifest("dpo")) == str(older)
    assert contents(broken) == {str(Path(p).relative_to("checkpoint-12")) for p in before if p != "checkpoint-12"}


def test_another_runs_checkpoints_are_refused_and_stay(tmp_path):
    make(tmp_path, 8, ["model.safetensors"])
    last_checkpoint(tmp_path, Manifest("dpo"))
    with pytest.raises(InputError, match="other data, model or arguments"):
        last_checkpoint(tmp_path, Manifest("dpo", arguments={"seed": 2}))
    assert (tmp_path / "checkpoint-8" / "model.safetensors").is_file()


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 3


def test_training_goes_on_from_a_checkpoint_without_optimiser(tiny_models, tmp_path):
    def trainer():
        args = PDDPOConfig(
            str(tmp_path), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=2, max_steps=4,
            save_strategy="steps", save_steps=2, save_only_model=True, disable_tqdm=True, logging_steps=1,
        )  # fmt: skip
        return PDDPOTrainer(tiny_models["causal"], args=args, train_dataset=tiny_preferences(8))

    first = trainer()
    first.add_callback(Stop())
    first.train()
    checkpoint = last_checkpoint(tmp_path, Manifest("dpo"))
    assert checkpoint is not None and not (Path(checkpoint) / "optimizer.pt").exists()
    second = trainer()
    second.train(resume_from_checkpoint=checkpoint)
    steps = [entry["step"] for entry in second.state.log_history if "loss" in entry]
    assert second.state.global_step == 4 and steps[-1] == 4
