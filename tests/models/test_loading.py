"""The type of a model's weights."""

import pytest
import torch

from pd_trl.errors import InputError
from pd_trl.models import loading
from pd_trl.models.loading import has_native_bfloat16, model_dtype


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 sha_ni\n", True),
        ("flags : fpu avx512f amx_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures : fp asimd sve bf16 i8mm\n", True),
        ("flags : fpu avx2 avx512f avx512_vnni\n", False),
        ("model name : a CPU for bf16 and avx512_bf16\nflags : fpu avx2\n", False),
        ("", False),
    ],
)
def test_a_cpu_says_whether_it_computes_in_bfloat16(tmp_path, said, expected):
    place = tmp_path / "cpuinfo"
    place.write_text(said)
    assert has_native_bfloat16(place) is expected
    assert has_native_bfloat16(tmp_path / "none") is False


def test_the_type_is_the_one_that_is_named_or_that_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for native in (True, False):
        monkeypatch.setattr(loading, "has_native_bfloat16", lambda native=native: native)
        assert model_dtype() == torch.float32
        assert model_dtype("auto") == (torch.bfloat16 if native else torch.float32)
        assert model_dtype("float16") == model_dtype(torch.float16) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for bf16 in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda bf16=bf16: bf16)
        assert model_dtype() == model_dtype("auto") == (torch.bfloat16 if bf16 else torch.float32)


@pytest.mark.parametrize("name", ["bf16", "int8", "load", ""])
def test_a_name_that_is_no_type_is_named(name):
    with pytest.raises(InputError, match=f"`dtype` must be auto or a floating-point type of torch, .*got '{name}'"):
        model_dtype(name)
