"""What an actor is given at a time. The rows are tested in test_decoding.py, the actors in tests/runs/test_on_ray.py."""

import pytest

from pd_trl.generation.decoder import Decoder, Prompt
from pd_trl.generation.settings import DecodingConfig


def parts(count: int, **options) -> list[list[Prompt]]:
    prompts = [Prompt(number, [1] * (number % 7 + 1), f"prompt {number}") for number in range(count)]
    found = Decoder(None, DecodingConfig(), **options)._parts(prompts)
    assert sorted(prompt.number for part in found for prompt in part) == list(range(count))
    lengths = [len(prompt.ids) for part in found for prompt in part]
    assert lengths == sorted(lengths, reverse=True)
    return found


@pytest.mark.parametrize(
    ("count", "options", "sizes"),
    [
        (805, {"batch_size": 32}, [32] * 25 + [5]),
        (100_000, {"batch_size": 32}, [128] * 781 + [32]),
        # Parts of a few prompts would leave vLLM nothing to answer together.
        (24, {"backend": "vllm"}, [24]),
        (805, {"backend": "vllm"}, [64] * 12 + [37]),
        (100_000, {"backend": "vllm"}, [256] * 390 + [160]),
    ],
)
def test_parts_are_whole_batches_longest_first(count, options, sizes):
    assert [len(part) for part in parts(count, **options)] == sizes
