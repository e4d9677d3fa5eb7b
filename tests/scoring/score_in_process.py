"""Scores 120 pairs in small shards and saves the gaps: `score_in_process.py OUTPUT MODEL MODEL MODEL`."""

import os
import sys
import time
from pathlib import Path

import numpy as np

import pd_trl.scoring.shards as shards
from pd_trl import score_pairs
from tests.tiny import ASPECTS, tiny_preferences

folder, models = Path(sys.argv[1]), dict(zip(ASPECTS, sys.argv[2:], strict=True))
if delay := float(os.environ.get("SLOW_SCORING", 0)):
    write = shards.write_parquet
    shards.write_parquet = lambda rows, path: (time.sleep(delay), write(rows, path))
scored = score_pairs(tiny_preferences(120), models, output_dir=folder, pairs_per_shard=5)
gaps = np.array([scored[f"reward_gap_{aspect}"][:] for aspect in ASPECTS]).T
np.save(folder / f"rank{os.environ.get('RANK', 0)}.npy", gaps)
