"""Outputs and a judge's records: those of the leaderboard where the checkout has them, and a set made on the spot."""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Rows = list[dict[str, Any]]
WORDS = "river stone light answer because often garden small number quiet winter build long idea paper never".split()


@dataclass
class Recorded:
    """Outputs of a model and of the reference, a judge's annotations, and where they lie."""

    model: Rows
    reference: Rows
    annotations: Rows
    difficulty_file: Path | None = None

    @property
    def win_rate(self) -> float:
        return 100 * sum(a["preference"] - 1 for a in self.annotations) / len(self.annotations)

    def subset(self, count: int, seed: int = 0) -> "Recorded":
        """The records of `count` instructions."""
        chosen = set(random.Random(seed).sample(sorted(row["instruction"] for row in self.reference), count))

        def keep(rows: Rows) -> Rows:
            return [row for row in rows if row["instruction"] in chosen]

        return Recorded(keep(self.model), keep(self.reference), keep(self.annotations), self.difficulty_file)

    def shuffled(self, seed: int) -> "Recorded":
        """The same in other orders, each its own."""
        generator = random.Random(seed)
        parts = [generator.sample(rows, len(rows)) for rows in (self.model, self.reference, self.annotations)]
        return Recorded(*parts, self.difficulty_file)


def text(generator: random.Random, low: int, high: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(low, high)))


def made_up(count: int = 40, seed: int = 0, reference: str = "baseline") -> Recorded:
    """A small set with instructions of its own, among them one with spaces at its end and one whose outputs are equal."""
    generator = random.Random(seed)
    rows = Recorded([], [], [])
    for i in range(count):
        instruction = f"Instruction {i}: {text(generator, 3, 8)}{'  ' if i == 3 else ''}"
        output, other = text(generator, 5, 30), text(generator, 5, 30)
        if i == 7:
            other = output
        shared = {"dataset": "made up", "instruction": instruction}
        rows.model.append({**shared, "output": output, "generator": "model"})
        rows.reference.append({**shared, "output": other, "generator": reference})
        preference = 1.5 if output == other else 1 + 1 / (1 + math.exp(-generator.gauss(0, 2)))
        outputs = {"output_1": other, "generator_1": reference, "output_2": output, "generator_2": "model"}
        rows.annotations.append({**shared, **outputs, "annotator": "recorded", "preference": preference})
    return rows


def leaderboard(shared_data: Path, name: str) -> Recorded:
    """A model of the leaderboard; skips where its records are absent."""
    folder = shared_data / "alpaca_eval"
    if not (folder / name).is_dir():
        pytest.skip(f"no recorded AlpacaEval runs at {folder}")

    def rows(path: str) -> Rows:
        return json.loads((folder / path).read_text(encoding="utf-8"))

    return Recorded(
        rows(f"{name}/model_outputs.json"),
        rows("gpt4_1106_preview/model_outputs.json"),
        rows(f"{name}/weighted_alpaca_eval_gpt4_turbo/annotations.json"),
        folder / "df_gamed.csv",
    )
