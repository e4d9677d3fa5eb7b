import numpy as np
import pytest
import torch

from pd_trl.errors import InputError
from pd_trl.models.memory import in_halves


@pytest.mark.parametrize("batch", [list(range(11)), np.arange(11)], ids=["list", "array"])
def test_a_batch_is_halved_until_it_fits(batch):
    def compute(rows):
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [int(row) for row in rows]

    parts = in_halves(batch, compute, lambda row, reason: "")
    assert [row for part in parts for row in part] == list(range(11)) and max(map(len, parts)) <= 3


def test_a_single_row_that_does_not_fit_is_named():
    def compute(rows):
        if 4 in rows:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")
        return rows

    with pytest.raises(InputError, match=r"^row \[4\]: DefaultCPUAllocator: can't allocate memory$"):
        in_halves(list(range(6)), compute, lambda row, reason: f"row {row}: {reason}")


def test_other_errors_are_not_hidden():
    def compute(rows):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        in_halves([1, 2], compute, lambda row, reason: "")
