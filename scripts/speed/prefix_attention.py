#!/usr/bin/env python
"""
Ways to read a prompt once for its responses: what each makes of a model's forward pass.

    python -m scripts.speed.prefix_attention
    python -m scripts.speed.prefix_attention --prompt 512 --response 128 --responses 2 --rounds 7

A Llama of 4 layers and width 256 in float32, on the device and the threads of this process. *Whole* reads each response with
its prompt. *Two calls* is the engine's way: the prompts, then the responses over the prompts' keys and values. *One call* lays a
prompt and its responses in one row, and attention hides the responses from each other: by a mask
(`scaled_dot_product_attention`), or by blocks (`flex_attention`, compiled).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import DynamicCache, LlamaConfig, LlamaModel

from pd_trl.text.tables import table


class Ways:
    """
    The ways on one batch: each call gives the states of the responses' tokens, `(prompts, responses, tokens, width)`.

    Args:
        prompts, prompt, responses, response (`int`): Prompts of the batch, tokens of each, its responses, tokens of each.
    """

    def __init__(self, prompts: int, prompt: int, responses: int, response: int):
        torch.manual_seed(0)
        sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
        self.models = {}
        for attention in ("sdpa", "flex_attention"):
            torch.manual_seed(0)
            config = LlamaConfig(**sizes, vocab_size=2000, max_position_embeddings=prompt + response)
            self.models[attention] = LlamaModel._from_config(config, attn_implementation=attention).eval()
        self.prompt, self.responses, self.response = prompt, responses, response
        self.prompt_ids = torch.randint(0, 2000, (prompts, prompt))
        self.response_ids = torch.randint(0, 2000, (prompts, responses, response))
        behind = torch.arange(prompt, prompt + response).repeat(responses)
        self.positions = torch.cat([torch.arange(prompt), behind]).expand(prompts, -1)
        column = torch.arange(prompt + responses * response)

        def sees(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            own = (query - prompt) // response == (key - prompt) // response
            return (query >= key) & ((key < prompt) | own)

        self.allowed = sees(0, 0, column[:, None], column[None, :])
        self.blocks: BlockMask = create_block_mask(sees, None, None, len(column), len(column), device="cpu")

    def _states(self, states: torch.Tensor) -> torch.Tensor:
        return states.reshape(len(self.prompt_ids), self.responses, self.response, -1)

    def whole(self) -> torch.Tensor:
        """Each response with its prompt."""
        prompts = self.prompt_ids[:, None].expand(-1, self.responses, -1)
        ids = torch.cat([prompts, self.response_ids], dim=2).flatten(0, 1)
        return self._states(self.models["sdpa"](ids, use_cache=False).last_hidden_state[:, self.prompt :])

    def two_calls(self) -> torch.Tensor:
        """The prompts, then the responses over the prompts' keys and values."""
        model, cache = self.models["sdpa"], DynamicCache()
        model(self.prompt_ids, cache=cache, use_cache=True)
        ids = self.response_ids.flatten(1)
        mask = self.allowed[self.prompt :].expand(len(ids), 1, -1, -1)
        out = model(ids, cache=cache, attention_mask=mask, position_ids=self.positions[:, self.prompt :])
        return self._states(out.last_hidden_state)

    def _one_call(self, attention: str, mask: Any) -> torch.Tensor:
        ids = torch.cat([self.prompt_ids, self.response_ids.flatten(1)], dim=1)
        out = self.models[attention](ids, attention_mask=mask, position_ids=self.positions, use_cache=False)
        return self._states(out.last_hidden_state[:, self.prompt :])

    def one_call_mask(self) -> torch.Tensor:
        """One row for a prompt and its responses, with a mask."""
        return self._one_call("sdpa", self.allowed.expand(len(self.prompt_ids), 1, -1, -1))

    def one_call_blocks(self) -> torch.Tensor:
        """The same with blocks that are left out."""
        return self._one_call("flex_attention", self.blocks)


def measure(ways: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return seconds


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8, help="Prompts of a batch.")
    parser.add_argument("--prompt", type=int, default=512, help="Tokens of a prompt.")
    parser.add_argument("--responses", type=int, default=2, help="Responses to a prompt.")
    parser.add_argument("--response", type=int, default=128, help="Tokens of a response.")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with torch.inference_mode():
        batch = Ways(arguments.prompts, arguments.prompt, arguments.responses, arguments.response)
        ways = {
            "whole": batch.whole,
            "two calls": batch.two_calls,
            "one call, mask": batch.one_call_mask,
            "one call, blocks": batch.one_call_blocks,
        }
        start = time.perf_counter()
        states = {name: way() for name, way in ways.items()}
        compiled = time.perf_counter() - start
        seconds = measure(ways, arguments.rounds)
    rows = [["way", "CPU seconds", "whole / this", "largest difference"]]
    for name, found in seconds.items():
        ratios = [whole / own for whole, own in zip(seconds["whole"], found, strict=True)]
        difference = float((states[name] - states["whole"]).abs().max())
        rows.append([name, f"{statistics.median(found):.3f}", f"{statistics.median(ratios):.2f}", f"{difference:.1e}"])
    print("\n".join(table(rows)))
    print(f"\nFirst calls, with compiling: {compiled:.0f} s")


if __name__ == "__main__":
    main()
