"""vLLM gives our engine's rewards and transformers' outputs, on a real language model: see `tests/servers/real_server.py`."""

import json
import subprocess

import pytest

from tests.processes import ROOT
from tests.servers.real_server import language_model, vllm_environment, vllm_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_vllm_computes_what_we_compute(tmp_path):
    python, model, numbers = vllm_python(), language_model(), tmp_path / "numbers.json"
    command = [python, "scripts/check_vllm.py", "--model", model, "--pairs", "6", "--json", str(numbers)]
    environment = {**vllm_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(numbers.read_text())
    assert [entry["model"] for entry in found["scores"]] == ["one output", "heads", "lora, merged"]
    for entry in found["scores"]:
        assert entry["difference"] < 1e-4 < 0.01 < entry["spread"]
    assert "pd-trl merge" in found["refused"]
    outputs = found["outputs"]
    # Two tokens that are level may come out either way.
    assert outputs["prompts"] == 50 and outputs["equal"] >= 45
    assert outputs["equal_after_interruption"] >= 48
    assert all(entry["tokens"] > 0 for entry in found["speed"])
