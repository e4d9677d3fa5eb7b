"""What scoring and generation share of vLLM, with a stand-in that keeps what it is given."""

import sys
import types

import pytest
import torch

from pd_trl.errors import InputError
from pd_trl.models.vllm import import_vllm, vllm_engine


@pytest.fixture
def vllm(monkeypatch):
    module = types.ModuleType("vllm")
    module.LLM = lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "vllm", module)


def engine(given, **changes):
    ours = dict(dtype=torch.float32, trust_remote_code=False, defaults={"seed": 1}, runner="pooling")
    return vllm_engine("folder", engine_kwargs=given, **{**ours, **changes})


def test_the_users_arguments_replace_defaults(vllm):
    found = engine({"seed": 2, "tensor_parallel_size": 4, "dtype": "half"})
    assert found == {
        "model": "folder", "trust_remote_code": False, "runner": "pooling", "seed": 2, "tensor_parallel_size": 4,
        "dtype": "half",
    }  # fmt: skip
    assert engine(None)["dtype"] == "float32" and engine({}, dtype=torch.bfloat16)["dtype"] == "bfloat16"


@pytest.mark.parametrize("name", ["model", "runner", "trust_remote_code"])
def test_what_decides_the_result_cannot_be_replaced(vllm, name):
    with pytest.raises(InputError, match=f"`engine_kwargs` cannot set {name}"):
        engine({name: "x"})


def test_without_vllm_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        InputError, match=r"^vLLM cannot be imported \(.*\)\. Install it with `pip install pd_trl\[vllm\]`\.$"
    ):
        import_vllm()
