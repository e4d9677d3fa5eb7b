"""
Times a training step of our trainers against TRL's: what they add, and what sharing prefixes saves.

    OMP_NUM_THREADS=1 python -m scripts.speed.train_steps [--quick]

Both trainers run their whole loops (loading, forward, backward, optimiser), a step of one after a step of the other, on
the same batches in the same order. A ratio is the median over the steps of that of the two times.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import datasets
import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from pd_trl import PDDPOConfig, PDDPOTrainer, PDRewardConfig, PDRewardTrainer

from .scoring import WORDS, tokenizer

WARM_UP = 2
COMMON = {
    "use_cpu": not torch.cuda.is_available(),
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
    "max_length": None,
    # The order of the rows without a random number: the two loops run at the same time and share the generator.
    "train_sampling_strategy": "sequential",
}
TRAINERS = {
    "reward": (RewardTrainer, RewardConfig, PDRewardTrainer, PDRewardConfig),
    "causal": (DPOTrainer, DPOConfig, PDDPOTrainer, PDDPOConfig),
}
# Tokens of prompt and response, whether their lengths vary, and the ratio that is wanted.
SHARING = ((512, 128, False, 1.5), (512, 128, True, 1.5), (128, 128, True, 1.1))
NEUTRAL = {"reward": {"length_balance_temperature": None, "length_penalty": 0.0}, "causal": {}}


def save_models(folder: Path) -> None:
    """A Llama of hidden size 256 and four layers, with each head."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=504, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "causal")
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    for name in TRAINERS:
        tokenizer().save_pretrained(folder / name)


def preferences(count: int, prompt: int, response: int, varied: bool) -> datasets.Dataset:
    """Pairs of these lengths in tokens, or of lengths of a half to one and a half of them."""
    numbers = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(numbers.choice(WORDS, int(length * numbers.uniform(0.5, 1.5)) if varied else length))

    rows = [
        {"prompt": text(prompt) + " ", "chosen": text(response) + " ", "rejected": text(response) + " "}
        for _ in range(count)
    ]
    return datasets.Dataset.from_list(rows).add_column("pd", np.linspace(-1, 1, count).astype(np.float32))


class Turns(TrainerCallback):
    """Lets a training loop run a step at a time, and keeps the seconds of each."""

    def __init__(self, mine: threading.Semaphore, other: threading.Semaphore):
        self.mine, self.other = mine, other
        self.seconds: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.mine.acquire()
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        self.other.release()
        self.mine.acquire()
        self.start = time.perf_counter()


def seconds_in_turns(trainers: list[Any]) -> list[list[float]]:
    """Seconds of each step of two trainers that train in turns, without the first ones."""
    first, second = threading.Semaphore(1), threading.Semaphore(0)
    turns = [Turns(first, second), Turns(second, first)]

    def train(trainer: Any, turn: Turns) -> None:
        trainer.add_callback(turn)
        try:
            trainer.train()
        finally:
            # The other has the turn for as many steps as it has left, also where this one failed.
            turn.other.release(trainer.args.max_steps)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, trainers, turns))
    return [turn.seconds[WARM_UP:] for turn in turns]


def compare(folder: Path, kind: str, data: datasets.Dataset, batch: int, steps: int, ours: dict) -> dict:
    """Seconds of a step of TRL's trainer and of ours."""
    trl_class, trl_config, our_class, our_config = TRAINERS[kind]
    common = {**COMMON, "per_device_train_batch_size": batch, "max_steps": steps + WARM_UP}
    trainers = [
        made(model=str(folder / kind), args=arguments(str(folder / "out"), **common, **extra), train_dataset=data)
        for made, arguments, extra in (
            (trl_class, trl_config, {}),
            (our_class, our_config, {**NEUTRAL[kind], **ours}),
        )
    ]
    theirs, mine = seconds_in_turns(trainers)
    sharing = trainers[1].prefix_sharing_
    found = {
        "steps": len(mine),
        "pairs_per_step": batch,
        "trl_seconds": statistics.median(theirs),
        "pd_trl_seconds": statistics.median(mine),
        "ours_over_trl": statistics.median(b / a for a, b in zip(theirs, mine, strict=True)),
    }
    return found if sharing is None else {**found, "share_of_cells": sharing.cells / sharing.padded_cells}


def measure(quick: bool = False) -> list[dict]:
    """The ratios of this module, as `scripts/bench_speed.py` takes them."""
    datasets.disable_progress_bars()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_models(folder)
        short = preferences(160, 40, 60, varied=True)
        for kind, what, ours in (
            ("reward", "PDRewardTrainer step against TRL's", {"length_penalty": 0.001}),
            ("causal", "PDDPOTrainer step against TRL's", {"pd_budget": 1.0}),
        ):
            found = compare(folder, kind, short, batch=4, steps=12 if quick else 60, ours=ours)
            ratio = found["ours_over_trl"]
            against = "TRL's trainer, 40 + 60 tokens"
            row = {"what": what, "against": against, "ratio": ratio, "bar": "at most 1.02", "met": ratio <= 1.02}
            rows.append({**row, "details": found})
        for kind, step in (("reward", "reward step"), ("causal", "DPO step")):
            for prompt, response, varied, bar in SHARING[: 1 if quick else None]:
                data = preferences(40, prompt, response, varied)
                found = compare(folder, kind, data, batch=2, steps=5 if quick else 11, ours={"share_prefix": True})
                ratio = 1 / found["ours_over_trl"]
                sizes = f"{prompt} + {response} tokens{', varied' if varied else ''}"
                what = f"{step} with prefix sharing" + ("" if (prompt, varied) == (512, False) else f", {sizes}")
                row = {"what": what, "against": f"TRL's trainer, {sizes}", "ratio": ratio, "bar": f"at least {bar:g}"}
                rows.append({**row, "met": ratio >= bar, "details": found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    for row in measure(parser.parse_args().quick):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
