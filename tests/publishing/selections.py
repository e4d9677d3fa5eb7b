"""Small selections to publish."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from pd_trl import PDFilter


def scored_rows(count: int = 60, seed: int = 0) -> Dataset:
    """Preferences of three aspects with the gaps that a scorer would add."""
    # Imports torch, which most clients need not.
    from tests.tiny import ASPECTS, tiny_preferences

    rows = tiny_preferences(count, seed)
    generator = np.random.default_rng(seed)
    for aspect in ASPECTS:
        rows = rows.add_column(f"reward_gap_{aspect}", generator.normal(0.3, 1, count).astype(np.float32))
    return rows.add_column("delta_length", generator.integers(-5, 6, count).astype(np.int32))


def select_into(
    folder: Path, budget: float | int = 0.3, count: int = 60, data_seed: int = 0, **arguments: Any
) -> Path:
    """The folder of a selection, as `pd-trl select` leaves it."""
    from pd_trl.pipeline.stages.select import SelectArguments, run_select

    source = folder.parent / f"{folder.name}-scored.parquet"
    source.parent.mkdir(parents=True, exist_ok=True)
    scored_rows(count, data_seed).to_parquet(source)
    run_select(SelectArguments(str(source), str(folder), budget=budget, overwrite=True, **arguments))
    return folder


def kept_ids(dataset: Dataset, **arguments: object) -> list[str]:
    """What a filter keeps, as sorted ids."""
    return sorted(PDFilter(**arguments)(dataset)["pair_id"])  # type: ignore[arg-type]
