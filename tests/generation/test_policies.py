"""A policy on another machine is the same one, or none."""

import shutil

import pytest
import torch

from pd_trl.errors import InputError
from pd_trl.generation.policies import PlacedPolicy, PolicySource
from tests.tiny import save_tiny_models


def test_a_placed_policy_is_the_same_files_in_the_same_type(tmp_path, monkeypatch, caplog):
    folder = save_tiny_models(tmp_path)["causal"]
    monkeypatch.chdir(tmp_path)
    placed = PlacedPolicy.of(PolicySource("causal"))
    monkeypatch.chdir("/")
    found = placed.source()
    assert found.loaded.dtype == torch.float32 and str(found.folder) == folder and not caplog.text
    # As on a machine with a GPU.
    monkeypatch.setattr("pd_trl.generation.policies.model_dtype", lambda dtype=None: dtype or torch.bfloat16)
    assert placed.source().resolved_dtype == torch.float32
    assert "as where the command was started; the devices of Ray's actors would take torch.bfloat16" in caplog.text
    caplog.clear()
    PlacedPolicy.of(PolicySource(folder, dtype=torch.float32)).source()
    assert not caplog.text
    asked = []
    monkeypatch.setattr(
        "pd_trl.generation.policies.model_dtype", lambda dtype=None: asked.append(dtype) or torch.float16
    )
    PlacedPolicy(folder, None, False, torch.float32, "auto", placed.digest).source()
    assert asked == ["auto"] * 2 and "would take torch.float16. Name one with --dtype" in caplog.text
    caplog.clear()
    with open(f"{folder}/generation_config.json", "a") as file:
        file.write(" ")
    with pytest.raises(InputError, match="is another one than where the command was started"):
        placed.source()
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="is not there on .*a disk that all machines share"):
        placed.source()
