"""Small scored sets with everything that the report shows."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from pd_trl.runs.artifacts import Manifest, write_rows
from pd_trl.selection.artifact import write_selection
from pd_trl.selection.filter import PDFilter

ASPECTS = ("helpfulness", "honesty", "instruction_following")
METRICS = {
    "helpfulness": {"pair_accuracy": 0.71, "pair_accuracy_se": 0.02, "length_accuracy": 0.55, "num_pairs": 500},
    "honesty": {"pair_accuracy": 0.5, "pair_accuracy_se": 0.02, "length_accuracy": 0.55, "num_pairs": 500},
}
WORDS = "river mountain answer reason model light music honest helpful train".split()


def scored_set(count: int, seed: int = 0, **columns: Any) -> Dataset:
    """Scored pairs; `columns` replace or add columns."""
    generator = np.random.default_rng(seed)
    own = np.arange(count) % len(ASPECTS)
    common = generator.normal(0.4, 1, count)
    texts = [" ".join(generator.choice(WORDS, 20)) for _ in range(min(count, 500))]
    lengths = generator.integers(5, 120, (2, count))
    rows: dict[str, Any] = {
        "pair_id": [f"{i:016x}" for i in generator.permutation(count)],
        "prompt": [texts[i % len(texts)] for i in range(count)],
        "chosen": [texts[(i * 7) % len(texts)][: lengths[0, i]] for i in range(count)],
        "rejected": [texts[(i * 11) % len(texts)][: lengths[1, i]] for i in range(count)],
        "aspect": [ASPECTS[k] for k in own],
        "delta_length": (lengths[0] - lengths[1]).astype(np.int32),
        "vote_overall": np.sign(np.round(common + generator.normal(0, 0.5, count))),
    }
    for k, name in enumerate(ASPECTS):
        gap = np.round(common + generator.normal(0, 1, count), 2)
        rows[f"reward_gap_{name}"] = gap.astype(np.float32)
        rows[f"vote_{name}"] = np.where(own == k, 1.0, np.sign(np.round(gap)))
    return Dataset.from_dict({**rows, **columns})


def selection_folder(scored: Dataset, folder: Path, **settings: Any) -> PDFilter:
    """A folder as `pd-trl select` writes it, and its filter."""
    pd_filter = PDFilter(**{"budget": 0.3, "proxy_metrics": METRICS, **settings})
    decided = pd_filter.fit_transform(scored)
    kept = int(np.asarray(decided["pd_kept"][:]).sum())
    manifest = Manifest("select", counts={"total": len(decided), "kept": kept, "dropped": len(decided) - kept})
    folder.mkdir(parents=True)
    write_selection(decided, pd_filter, manifest, folder)
    return pd_filter


def scored_folder(scored: Dataset, folder: Path) -> Path:
    """A folder as `pd-trl score` writes it."""
    write_rows(scored, folder / "scored")
    Manifest("score", results={"proxy_metrics": METRICS}).save(folder)
    return folder
