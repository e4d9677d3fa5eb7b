"""What is left to run, and how long it takes by the speed that this machine has now."""

import time

import numpy as np
from numpy.typing import NDArray
from real_data.sets import RealSet
from real_data.tables import markdown

from .cells import PolicyBench
from .pairs import PolicyPairs, conversations
from .settings import PolicySettings
from .training import read, trained

# Pairs whose reading and training are timed.
_TIMED = 12


def speeds(bench: PolicyBench, pairs: PolicyPairs, settings: PolicySettings) -> tuple[float, float]:
    """CPU seconds of a token in reading a pair and in a training step, measured on the first pairs."""
    rows = pairs.pool[:_TIMED]
    bench.reference.log_probs(pairs.labelled, rows)
    model, start = bench.reference.model(), time.process_time()
    read(model, bench.reference.tokenizer, conversations(pairs.labelled, rows))
    reading = time.process_time() - start
    steps = max(1, len(rows) // settings.batch_size)
    straight = np.zeros(len(rows), dtype=bool)
    notes = trained(bench.reference, pairs.labelled, rows, straight, steps, settings, pairs.labelled.seed)[1]
    tokens = pair_tokens(bench, pairs.labelled, rows)
    return reading / tokens.sum(), notes["cpu_seconds"] / (tokens.mean() * steps * settings.batch_size)


def pair_tokens(bench: PolicyBench, real: RealSet, rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """Tokens of each pair, its prompt counted once."""
    texts = [np.array(bench.reference.lengths([text[side] for text in real.texts])) for side in (0, 1)]
    return texts[0][real.chosen[rows]] + texts[1][real.chosen[rows]] + texts[1][real.rejected[rows]]


def dry_run(
    bench: PolicyBench, names: list[str], seeds: list[int], arms: list[str], settings: PolicySettings
) -> list[str]:
    """Lines: each cell, whether it is there, its steps and its hours on one core, and the sum."""
    cells, left_out = bench.grid(names, seeds, arms, settings)
    rows, total = [["set", "seed", "arm", "steps", "training tokens", "tokens read", "CPU hours"]], 0.0
    measured = {name: speeds(bench, bench.pairs(name, seeds[0], settings), settings) for name in names}
    for name, seed, arm in cells:
        pairs = bench.pairs(name, seed, settings)
        if bench.path(name, seed, arm, settings).is_file():
            rows.append([name, str(seed), arm.name, *["-"] * 3, "there"])
            continue
        steps = max(1, (len(pairs.pool) if arm.epoch else settings.kept) // settings.batch_size)
        size = pair_tokens(bench, pairs.labelled, pairs.pool).mean()
        trains = int(size * steps * settings.batch_size)
        reads = int(pair_tokens(bench, pairs.held_out, np.arange(len(pairs.held_out))).sum())
        hours = (measured[name][1] * trains + measured[name][0] * reads) / 3600
        total += hours
        rows.append([name, str(seed), arm.name, str(steps), str(trains), str(reads), f"{hours:.2f}"])
    speed = "; ".join(
        f"{name}: {1 / r:.0f} tokens a second are read, {1 / t:.0f} trained" for name, (r, t) in measured.items()
    )
    return [
        *markdown(rows), "", f"{speed} (CPU time of one core; a pair's prompt is counted once).",
        f"{total:.1f} CPU hours are left, without the proxies and the reference's log-probabilities.", *left_out,
    ]  # fmt: skip
