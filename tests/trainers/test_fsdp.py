"""FSDP2 on two processes: the weights are those of one process, and a run that goes on ends where it would have."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import run_processes
from tests.trainers.fsdp_two_processes import trainer_of


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("kind,model", [("dpo", "causal"), ("reward", "reward")])
def test_fsdp_equals_one_process_and_goes_on(tiny_models, tmp_path, kind, model):
    script = Path(__file__).with_name("fsdp_two_processes.py")
    done = run_processes(2, [str(script), kind, tiny_models[model], str(tmp_path)])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "does not work with FSDP" in done.stdout
    one = trainer_of(kind, tiny_models[model], tmp_path / "one", {}, 8)
    one.train()
    one.save_model(str(tmp_path / "one-final"))
    expected, whole, resumed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("one-final", "final", "after")
    )
    assert expected.keys() == whole.keys() == resumed.keys()
    start = load_file(Path(tiny_models[model]) / "model.safetensors")
    assert any(not torch.allclose(start[name], whole[name], atol=1e-4) for name in start)
    for name, value in expected.items():
        assert torch.allclose(whole[name], value, atol=1e-5), name
        assert torch.equal(resumed[name], whole[name]), name
