"""Time of scoring and decoding on this machine."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pd_trl.pipeline.cost.batches import TOKENS_PER_BATCH, decoding_work, scoring_work
from pd_trl.pipeline.cost.formulas import Work, forward_flops
from pd_trl.pipeline.cost.parts import Part
from pd_trl.pipeline.cost.shape import ModelShape
from pd_trl.pipeline.cost.sources import Pairs
from pd_trl.pipeline.stages.generate import decoding_of

from .timing import MEASURED_SECONDS, Rate, TimedRun, guessed_seconds, random_model, rate_of

_FEW_ROWS = 8
# A larger model is scored from memory instead of from a file.
_LARGEST_SAVED = 200_000_000


def scoring_rate(part: Part, pairs: Pairs, peak: float) -> Rate:
    """The rate of scoring, on the first rows in their order, which keeps what recurs among them."""
    lengths, arguments, source = part.setup["lengths"], part.setup["arguments"], part.setup["model"]
    budget = arguments.tokens_per_batch or TOKENS_PER_BATCH["cpu"]
    seconds_of_pair = guessed_seconds(part.flops, peak) / max(1, len(lengths))
    most = min(arguments.pairs_per_shard, len(lengths))
    count = int(np.clip(MEASURED_SECONDS / seconds_of_pair, min(3 * _FEW_ROWS, most), most))

    def timed(shape: ModelShape, model: Any, size: int) -> tuple[float, float, float]:
        rows = pairs.rows.select(range(size))
        few = lengths.select(np.arange(size))
        work = scoring_work(
            few, longest=arguments.max_length or shape.positions, tokens_per_batch=budget,
            pairs_per_shard=arguments.pairs_per_shard, share_prefix=part.setup["shares"],
        )  # fmt: skip
        return (
            _seconds_of_scoring(rows, model, arguments),
            work.sequences * lengths.seconds,
            forward_flops(shape, work),
        )

    def run(shape: ModelShape) -> TimedRun:
        model = random_model(source, shape, reward=True).eval()
        with tempfile.TemporaryDirectory() as folder:
            scored: Any = (model, source.tokenizer)
            if shape.parameters < _LARGEST_SAVED:
                model.save_pretrained(folder)
                source.tokenizer.save_pretrained(folder)
                scored = folder
            few = min(_FEW_ROWS, count)
            first, second, third = (timed(shape, scored, size) for size in (few, few, count))
        seconds = (third[0] - third[1]) - (second[0] - second[1])
        flops = third[2] - second[2]
        if seconds <= 0 or flops <= 0:
            seconds, flops = third[0] - third[1], third[2]
        fixed = max(0.0, second[0] - second[1] - second[2] * seconds / flops)
        return TimedRun(seconds, flops, fixed, third[1] / count)

    call = forward_flops(part.setup["shape"], Work(padded=budget, head_tokens=budget))
    return rate_of(run, part.setup["shape"], call, peak)


def _seconds_of_scoring(rows: Any, model: Any, arguments: Any) -> float:
    from pd_trl.scoring import score_pairs

    names = ("pair_id", "prompt_id", "prompt", "chosen", "rejected", "aspect")
    rows = rows.select_columns([name for name in names if name in rows.column_names])
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        score_pairs(
            rows, {str(rows["aspect"][0]): model}, output_dir=Path(folder) / "scored", max_length=arguments.max_length,
            tokens_per_batch=arguments.tokens_per_batch,
        )  # fmt: skip
    return time.process_time() - start


def decoding_rate(part: Part, pairs: Pairs, peak: float) -> Rate:
    """The rate of new tokens: 24 of them beyond the first two."""

    def run(shape: ModelShape) -> TimedRun:
        _, first, second = _decoded(part, shape, (2, 2, 26))
        return TimedRun(max(1e-9, second[0] - first[0]), second[2] - first[2])

    return rate_of(run, part.setup["shape"], part.flops / max(1, part.work.batches), peak)


def prompt_rate(part: Part, pairs: Pairs, peak: float) -> Rate:
    """The rate of prompts, from one new token; and what it takes to load a model and to write outputs."""

    def run(shape: ModelShape) -> TimedRun:
        _, first = _decoded(part, shape, (1, 1))
        fixed = _seconds_of_one_output(part, shape) if shape.parameters < _LARGEST_SAVED else 0.0
        return TimedRun(first[0], first[1], fixed)

    return rate_of(run, part.setup["shape"], part.flops / max(1, part.work.batches), peak)


def _seconds_of_one_output(part: Part, shape: ModelShape) -> float:
    from pd_trl.generation import generate_outputs

    source, arguments = part.setup["model"], part.setup["arguments"]
    config = replace(decoding_of(arguments), max_new_tokens=1)
    with tempfile.TemporaryDirectory() as folder:
        random_model(source, shape, reward=False).save_pretrained(folder)
        source.tokenizer.save_pretrained(folder)
        start = time.process_time()
        generate_outputs(folder, ["Yes?"], output_dir=Path(folder) / "outputs", config=config)
        return time.process_time() - start


def _decoded(part: Part, shape: ModelShape, counts: tuple[int, ...]) -> list[tuple[float, float, float]]:
    """CPU seconds of some numbers of new tokens for one batch, and the FLOPs of its prompts and of its steps."""
    from pd_trl.generation.decoding import decode

    source, arguments = part.setup["model"], part.setup["arguments"]
    lengths = np.sort(part.setup["prompts"])[::-1][: arguments.batch_size]
    draws = np.random.default_rng(0)
    prompts = [draws.integers(0, shape.vocabulary, size=int(length)).tolist() for length in lengths]
    model, config = random_model(source, shape, reward=False).eval(), decoding_of(arguments)
    keys = [str(i) for i in range(len(prompts))]
    results = []
    for count in counts:
        start = time.process_time()
        settings = replace(config, max_new_tokens=count)
        list(decode(model, source.tokenizer, prompts, keys, settings, batch_size=arguments.batch_size))
        seconds = time.process_time() - start
        prefill, steps = decoding_work(lengths, count, arguments.batch_size)
        results.append((seconds, forward_flops(shape, prefill), forward_flops(shape, steps)))
    return results
