"""The ways of reading a prompt once give the states of reading it again for each response."""

import pytest
import torch

from scripts.speed.prefix_attention import Ways


@pytest.fixture(scope="module")
def batch():
    with torch.inference_mode():
        return Ways(2, 24, 3, 8)


@torch.inference_mode()
def test_a_prompt_read_once_gives_the_same_states(batch):
    expected = batch.whole()
    assert expected.shape == (2, 3, 8, 256)
    for way in (batch.two_calls, batch.one_call_mask):
        assert torch.allclose(way(), expected, atol=1e-5)


@pytest.mark.slow
@torch.inference_mode()
def test_blocks_give_the_same_states(batch):
    assert torch.allclose(batch.one_call_blocks(), batch.whole(), atol=1e-5)


@torch.inference_mode()
def test_responses_that_see_each_other_are_another_result(batch):
    expected = batch.whole()
    hidden = batch.allowed
    batch.allowed = torch.ones_like(hidden).tril()
    try:
        assert not torch.allclose(batch.one_call_mask(), expected, atol=1e-2)
    finally:
        batch.allowed = hidden
