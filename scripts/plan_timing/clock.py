"""A clock for this machine: short runs of the real trainers, scorer and decoder on batches of the real rows."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pd_trl.errors import InputError
from pd_trl.pipeline.cost.parts import Part, StageCost
from pd_trl.pipeline.cost.sources import Pairs

from .inference import decoding_rate, prompt_rate, scoring_rate
from .timing import Rate
from .training import training_rate

_RATES: dict[str, Callable[[Part, Pairs, float], Rate]] = {
    "reward": training_rate,
    "dpo": training_rate,
    "score": scoring_rate,
    "generate": prompt_rate,
    "decode": decoding_rate,
}


def matmul_peak(size: int = 512, seconds: float = 0.3) -> float:
    """FLOP per CPU second of a product of two square matrices in float32."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    torch.mm(a, b)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        torch.mm(a, b)
        count += 1
    return 2 * size**3 * count / (time.process_time() - start)


class MeasuredClock:
    """
    CPU seconds on this machine.

    Each kind of work is run for a few batches with a model of the real class and size and random weights, and counted in CPU
    seconds per FLOP. Of a model that is too large for that, one and two layers are run, and each further layer is taken to
    cost what the second does.

    Args:
        pairs ([`Pairs`]): Rows to measure with.
    """

    unit = "CPU s"
    on_gpu = False
    memory: float | None = None

    def __init__(self, pairs: Pairs):
        if pairs.rows is None or pairs.tokens_per_pair is not None:
            raise InputError(
                "This machine is measured on the data, so that --num_pairs and --tokens_per_pair cannot stand in for it. For them, use "
                "`pd-trl plan`."
            )
        self.pairs = pairs
        self.peak = matmul_peak()
        threads = torch.get_num_threads()
        self.name = f"this machine, {threads} thread{'s' if threads > 1 else ''}"
        self.rates: dict[str, Rate] = {}
        self.assumptions = [
            f"This machine does {self.peak / 1e9:.1f} GFLOP per CPU second in a 512 x 512 product. Each kind of work was measured on "
            "a few of its batches; Python's start and imports, checkpoints and stages without a model are not counted."
        ]

    def time(self, cost: StageCost) -> None:
        """Fills in `cost.seconds`."""
        for part in cost.parts:
            rate = self._rate(part)
            cost.seconds += rate.fixed * part.models + rate.per_row * part.prepared + rate.per_flop * part.flops

    def _rate(self, part: Part) -> Rate:
        kind = part.kind.partition(" ")[0]
        key = f"{kind} {part.setup['shape']} {_batching(part)}"
        if key not in self.rates:
            with _quiet():
                self.rates[key] = _RATES[kind](part, self.pairs, self.peak)
        return self.rates[key]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the trainers and the scorer in runs that are only timed."""
    loggers = [logging.getLogger(name) for name in ("pd_trl", "trl", "transformers")]
    before = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for item, level in zip(loggers, before, strict=True):
            item.setLevel(level)


def _batching(part: Part) -> str:
    training, arguments = part.setup.get("training"), part.setup.get("arguments")
    if training is not None:
        args = training.args
        return f"{args.per_device_train_batch_size} {args.gradient_accumulation_steps} {args.gradient_checkpointing} {training.half}"
    return f"{getattr(arguments, 'tokens_per_batch', '')} {getattr(arguments, 'batch_size', '')}"
