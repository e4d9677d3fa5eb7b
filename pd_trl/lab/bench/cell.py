"""One cell of a benchmark: its world, preferences, proxies and gaps, each computed once and kept on disk."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from filelock import FileLock

from ...data.preferences import to_preferences
from ...runs.artifacts import read_json, read_rows, replaced_folder, write_json, write_rows
from ..simulation.data import simulate_corpus, simulate_pairs, simulate_prompts
from ..simulation.world import SimulatedWorld
from .settings import BenchSettings, CellSettings, ProxySettings

# What every training here shares; a model this small gains nothing from a GPU.
TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 32, "gradient_checkpointing": False, "lr_scheduler_type": "cosine", "warmup_steps": 5,
    "max_length": 256, "save_strategy": "no", "logging_steps": 50, "report_to": "none", "disable_tqdm": True,
    "use_cpu": True, "bf16": False, "dataloader_num_workers": 0,
}  # fmt: skip


@dataclass
class Cost:
    """
    What something took.

    Args:
        seconds (`float`): CPU seconds of this process.
        flops (`float`): Floating-point operations: 2 for each token and weight forward, 6 forward and backward, the
            input embedding not counted.
    """

    seconds: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.flops + other.flops)


class Cell:
    """
    The preferences of one world at one level of conflict, and what is computed from them.

    Args:
        settings ([`CellSettings`]): The world and the labels.
        bench ([`BenchSettings`]): Training arguments.
        root (`Path`): Folder of the benchmark.
    """

    def __init__(self, settings: CellSettings, bench: BenchSettings, root: Path):
        self.settings, self.bench = settings, bench
        self.root, self.folder = root, root / "cells" / settings.name
        self.world = SimulatedWorld(
            seed=settings.seed, num_aspects=settings.num_aspects, conflict=settings.tradeoff,
            noise=settings.noise, length_bias=settings.length_bias,
        )  # fmt: skip

    @cached_property
    def pairs(self) -> Dataset:
        """Pairs with the labels of every annotator and the gold rewards."""
        pairs = simulate_pairs(self.settings.num_pairs, world=self.world)
        if self.settings.adversarial is not None:
            column = f"pref_{self.settings.adversarial}"
            flipped = [1.0 - value for value in pairs[column]]
            pairs = pairs.remove_columns(column).add_column(column, flipped)
        return pairs

    @cached_property
    def preferences(self) -> Dataset:
        """Each pair with the label of one aspect, at the wanted share of conflict."""
        return self.relabelled(None)

    def relabelled(self, relabel: str | None) -> Dataset:
        """The same pairs with the labels `"overall"`, `"mean"`, `"truth"` (the overall label without error), or one aspect's."""
        pairs = self.pairs
        options: dict[str, Any] = {"conflict": self.settings.conflict, "seed": self.settings.seed}
        if relabel != "truth":
            return to_preferences(pairs, relabel=relabel, **options)  # type: ignore[arg-type]
        chosen = self.relabelled(None)
        gaps = np.asarray(chosen["gold_overall_chosen"]) - np.asarray(chosen["gold_overall_rejected"])
        swapped = [
            {**row, "chosen": row["rejected"], "rejected": row["chosen"], "aspect": "truth"} if gap < 0
            else {**row, "aspect": "truth"}
            for row, gap in zip(chosen.select_columns(["pair_id", "prompt", "chosen", "rejected"]), gaps, strict=True)
            if abs(gap) > 1e-9
        ]  # fmt: skip
        return Dataset.from_list(swapped)

    @cached_property
    def prompts(self) -> list[str]:
        """Prompts for evaluation; no training pair has one of them."""
        return simulate_prompts(self.settings.num_prompts, self.settings.seed)

    @cached_property
    def conflicts(self) -> np.ndarray:
        """Whether a pair's label contradicts the gold overall reward, shape `(num_pairs,)`; a tie does not."""
        columns = (f"gold_overall_{side}" for side in ("chosen", "rejected"))
        chosen, rejected = (np.asarray(self.preferences[name]) for name in columns)
        return np.asarray(chosen - rejected < -1e-9)

    def model(self, hidden_size: int = 64) -> Path:
        """Folder of the model pretrained on the world's texts: the SFT policy, and where proxies and policies start."""
        from ..simulation.model import pretrain

        folder = self.root / "models" / f"{self.settings.model_key}-width{hidden_size}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / "config.json").is_file():
                corpus = simulate_corpus(self.settings.num_texts, world=self.world)
                with replaced_folder(folder) as temporary:
                    pretrain(corpus, temporary, seed=self.settings.seed, hidden_size=hidden_size)
        return folder

    def scored(self, proxy: ProxySettings) -> tuple[Dataset, Cost]:
        """The preferences with `reward_gap_*` of the proxies, and what training and scoring took."""
        folder = self.folder / "scored" / proxy.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / "cost.json").is_file():
                self._score(proxy, folder)
        saved = read_json(folder / "cost.json")
        return read_rows(folder), Cost(saved["seconds"], saved["flops"])

    def _score(self, proxy: ProxySettings, folder: Path) -> None:
        from ...scoring import score_pairs

        with replaced_folder(folder) as temporary:
            with measured() as cost:
                models, metrics = self._train_proxies(proxy, temporary / "proxies")
                scored = score_pairs(self.preferences, models)
                tokens = self.tokens(self.preferences)
                width = self.model(proxy.hidden_size)
                trained = tokens * self.bench.reward["num_train_epochs"] * proxy.train_share * 6
                passes = 1 if proxy.heads else len(models)
                cost.flops = (trained + 2 * tokens * passes) * num_weights(width)
            write_rows(scored, temporary)
            write_json(temporary / "metrics.json", metrics)
            write_json(temporary / "cost.json", {**asdict(cost), "settings": asdict(proxy)})

    def proxies(self, proxy: ProxySettings) -> dict[str, str]:
        """Folder of each proxy."""
        self.scored(proxy)
        folder = self.folder / "scored" / proxy.name / "proxies"
        if proxy.heads:
            from ...trainers.reward.aspects import HEADS_FOLDER

            return dict.fromkeys(sorted(self.proxy_metrics(proxy)), str(folder / HEADS_FOLDER))
        return {path.name: str(path) for path in sorted(folder.iterdir())}

    def proxy_metrics(self, proxy: ProxySettings) -> dict[str, dict[str, float]]:
        """Held-out metrics of the proxies."""
        self.scored(proxy)
        return dict(read_json(self.folder / "scored" / proxy.name / "metrics.json"))

    def _train_proxies(self, proxy: ProxySettings, folder: Path) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
        from ...trainers.reward.aspects import train_aspect_rewards
        from ...trainers.reward.config import PDRewardConfig

        rows = self.preferences
        if proxy.unified:
            rows = rows.remove_columns("aspect").add_column("aspect", ["overall"] * len(rows))
        args = PDRewardConfig(
            str(folder), length_penalty=proxy.length_penalty, length_correction=proxy.length_correction,
            length_balance_temperature=proxy.temperature, train_share=proxy.train_share,
            seed=self.settings.seed + proxy.seed_offset, **TRAINING, **self.bench.reward,
        )  # fmt: skip
        # A penalty of 'auto' needs held-out pairs, which all proxies have, so that their accuracies compare.
        start = str(self.model(proxy.hidden_size))
        rewards = train_aspect_rewards(rows, start, folder, args=args, heads=proxy.heads)
        return {k: r.path for k, r in rewards.items()}, {k: r.metrics for k, r in rewards.items()}

    def tokens(self, rows: Dataset) -> int:
        """Tokens of both sides of all rows, the prompt counted on each."""
        texts = (p + r for side in ("chosen", "rejected") for p, r in zip(rows["prompt"], rows[side], strict=True))
        return sum(len(ids) for ids in self.tokenizer(list(texts))["input_ids"])

    @cached_property
    def tokenizer(self) -> Any:
        """Tokenizer of the world's models."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model())


def num_weights(folder: Path) -> int:
    """Weights of a model that take part in a multiplication for every token: all but the input embedding."""
    from transformers import AutoModelForCausalLM

    return int(AutoModelForCausalLM.from_pretrained(folder).num_parameters(exclude_embeddings=True))


@contextmanager
def measured() -> Iterator[Cost]:
    """Measures the CPU seconds of a block, which other processes on the machine do not change."""
    cost = Cost()
    start = time.process_time()
    yield cost
    cost.seconds += time.process_time() - start
