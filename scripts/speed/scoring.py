"""
Scoring: our engine against a loop of TRL's `RewardTrainer.predict` over one proxy of each aspect, tokenisation included.

The model is a Llama of 4 layers. All ways score the same pairs; the largest difference of their gaps stands in the details.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

from pd_trl import score_pairs
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.loading import has_native_bfloat16

WORDS = [f"w{i}" for i in range(500)]
ASPECTS = ("a", "b", "c", "d")
CPU = {"use_cpu": not torch.cuda.is_available(), "bf16": False, "gradient_checkpointing": False, "report_to": "none"}


def tokenizer() -> PreTrainedTokenizerFast:
    """A word tokenizer of 500 words."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<pad>", "<bos>", "<eos>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def config(hidden: int, layers: int = 4, **changes: int) -> LlamaConfig:
    """A Llama with heads of 64 and the MLP of its larger sisters."""
    return LlamaConfig(
        vocab_size=504, hidden_size=hidden, intermediate_size=8 * hidden // 3 // 64 * 64, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, max_position_embeddings=2048, pad_token_id=1,
        bos_token_id=2, eos_token_id=3, **changes,
    )  # fmt: skip


def save_models(folder: Path, hidden: int) -> tuple[dict[str, str], dict[str, str]]:
    """A proxy of each aspect, and one model with a head of each."""
    separate = {}
    for seed, aspect in enumerate(ASPECTS):
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config(hidden, num_labels=1)).save_pretrained(folder / aspect)
        tokenizer().save_pretrained(folder / aspect)
        separate[aspect] = str(folder / aspect)
    LlamaModel(config(hidden)).save_pretrained(folder / "backbone")
    MultiAspectRewardModel.from_backbone(folder / "backbone", ASPECTS).save_pretrained(folder / "heads")
    tokenizer().save_pretrained(folder / "heads")
    return separate, dict.fromkeys(ASPECTS, str(folder / "heads"))


def varied(generator: random.Random, longest: int) -> str:
    """Words, their number log-uniform from 4 up to `longest`."""
    return " ".join(generator.choices(WORDS, k=int(np.exp(generator.uniform(np.log(4), np.log(longest))))))


def fixed(generator: random.Random, count: int) -> str:
    """`count` words."""
    return " ".join(generator.choices(WORDS, k=count))


def pairs_of(num_prompts: int, prompt: Callable, answer: Callable, answers: int = 4, shared: bool = True) -> Dataset:
    """All pairs of `answers` responses to each prompt, or as many pairs that share nothing."""
    rows = []
    for _ in range(num_prompts):
        question, given = prompt(), [answer() for _ in range(answers)]
        for i in range(answers):
            for j in range(i + 1, answers):
                if not shared:
                    question, given = prompt(), [answer() for _ in range(answers)]
                rows.append({"prompt": question + " ", "chosen": given[i] + " ", "rejected": given[j] + " "})
    return Dataset.from_list([{"pair_id": f"{n:06d}", "aspect": ASPECTS[n % 4], **row} for n, row in enumerate(rows)])


def trl_loop(data: Dataset, paths: dict[str, str], folder: Path, batch_size: int = 8) -> dict[str, np.ndarray]:
    """The gaps of each proxy as a user of TRL would get them: a trainer for each, and `predict`."""
    gaps = {}
    for aspect, path in paths.items():
        # A column that differs each time, so that no round finds the tokens of an earlier one in a cache.
        fresh = data.add_column("round", [time.perf_counter()] * len(data))
        args = RewardConfig(
            str(folder / "out"), per_device_eval_batch_size=batch_size, disable_tqdm=True, max_length=2048, **CPU
        )
        trainer = RewardTrainer(path, args=args, train_dataset=fresh)
        logits = trainer.predict(trainer.train_dataset).predictions.reshape(-1)
        sizes = [min(batch_size, len(data) - i) for i in range(0, len(data), batch_size)]
        parts = np.split(logits, np.cumsum([2 * size for size in sizes])[:-1])
        gaps[aspect] = np.concatenate([part[: len(part) // 2] - part[len(part) // 2 :] for part in parts])
    return gaps


def alternate(ways: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each way, in turn, after a first round that does not count; and the last results."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for round_number in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return seconds, results


def ratio_of(baseline: list[float], ours: list[float]) -> float:
    """Median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(baseline, ours, strict=True))


def row(what: str, against: str, ratio: float, least: float, details: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "what": what,
        "against": against,
        "ratio": ratio,
        "bar": f"at least {least:g}",
        "met": ratio >= least,
        "details": details,
    }


def difference(gaps: dict[str, np.ndarray], scored: Dataset) -> float:
    """Largest difference of the gaps of two ways."""
    return max(float(np.abs(gaps[a] - np.asarray(scored[f"reward_gap_{a}"][:])).max()) for a in gaps)


def against_trl(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Pairs of shared responses, and pairs that share nothing, of varied lengths."""
    hidden, prompts, repeats = (128, 8, 5) if quick else (256, 12, 5)
    separate, heads = save_models(folder, hidden)
    generator = random.Random(0)
    rows = []
    for shared in (True, False):
        data = pairs_of(prompts, lambda: varied(generator, 200), lambda: varied(generator, 400), shared=shared)
        ways = {
            "TRL": lambda data=data: trl_loop(data, separate, folder),
            "separate": lambda data=data: score_pairs(data, separate),
            "heads": lambda data=data: score_pairs(data, heads),
        }
        if shared and has_native_bfloat16():
            ways["heads, bfloat16"] = lambda data=data: score_pairs(data, heads, dtype="auto")
        seconds, results = alternate(ways, repeats)
        details = {
            "pairs": len(data), "hidden size": hidden, "repeats": repeats,
            **{f"{name}, pairs per second": len(data) / statistics.median(s) for name, s in seconds.items()},
            "largest difference, separate": difference(results["TRL"], results["separate"]),
        }  # fmt: skip
        name = "six pairs of four responses" if shared else "pairs that share nothing"
        loop = "TRL's predict loop over four proxies"
        rows.append(row(f"scoring, {name}: one backbone, four heads", loop, ratio_of(seconds["TRL"], seconds["heads"]),
                        10 if shared else 4, details))  # fmt: skip
        if "heads, bfloat16" in ways:
            rows.append(row(f"scoring, {name}: one backbone, four heads, bfloat16", loop,
                            ratio_of(seconds["TRL"], seconds["heads, bfloat16"]), 60, details))  # fmt: skip
        if shared:
            rows.append(
                row(f"scoring, {name}: four proxies", loop, ratio_of(seconds["TRL"], seconds["separate"]), 3, details)
            )
    return rows


def prefix_sharing(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The engine with and without prefix sharing, one model."""
    hidden, prompts, repeats = (128, 4, 5) if quick else (256, 12, 5)
    separate, _ = save_models(folder, hidden)
    models = {"a": separate["a"]}
    generator = random.Random(0)
    rows = []
    for name, long, answers, least in (
        ("512 + 128 tokens, four responses", 512, 4, 1.7),
        ("512 + 128 tokens, two responses", 512, 2, 1.7),
        ("64 + 128 tokens, four responses", 64, 4, 1.0),
        ("64 + 128 tokens, two responses", 64, 2, 1.0),
    ):
        count = prompts * (6 if answers == 2 else 2)
        data = pairs_of(count, lambda long=long: fixed(generator, long), lambda: fixed(generator, 127), answers)
        ways = {
            "whole": lambda data=data: score_pairs(data, models, share_prefix=False),
            "shared": lambda data=data: score_pairs(data, models),
        }
        seconds, results = alternate(ways, repeats)
        gaps = [np.asarray(results[way]["reward_gap_a"][:]) for way in ways]
        details = {
            "pairs": len(data), "hidden size": hidden, "repeats": repeats,
            "largest difference": float(np.abs(gaps[0] - gaps[1]).max()),
            "without, seconds": statistics.median(seconds["whole"]), "with, seconds": statistics.median(seconds["shared"]),
        }  # fmt: skip
        rows.append(row(f"prefix sharing, {name}", "the same engine without", ratio_of(seconds["whole"], seconds["shared"]), least, details))  # fmt: skip
    return rows


def matmul_peak(size: int = 2048, repeats: int = 5) -> float:
    """FLOPs per second of a float32 product of square matrices: the best of `repeats`."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_share(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """FLOPs of the model over the seconds of `score_pairs`, tokenisation and all, as a share of the product's."""
    hidden, prompts, repeats = (512, 4, 5) if quick else (512, 8, 5)
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config(hidden, 6, num_labels=1)).eval()
    generator = random.Random(0)
    data = pairs_of(prompts, lambda: varied(generator, 200), lambda: varied(generator, 400), shared=False)
    words = [len(r[side].split()) + len(r["prompt"].split()) + 1 for r in data for side in ("chosen", "rejected")]
    tokens = np.array(words)
    weights = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    # Two for each weight and token, and in each layer two products of half a square of tokens.
    flops = float(2 * weights * tokens.sum() + 6 * 2 * hidden * (tokens.astype(float) ** 2).sum())
    shares, seconds = [], []
    for round_number in range(repeats + 1):
        peak = matmul_peak()
        start = time.perf_counter()
        score_pairs(data, {"a": (model, tokenizer())}, share_prefix=False)
        if round_number:
            seconds.append(time.perf_counter() - start)
            shares.append(flops / seconds[-1] / peak)
    share = statistics.median(shares)
    details = {
        "hidden size": hidden, "layers": 6, "pairs": len(data), "tokens": int(tokens.sum()), "repeats": repeats,
        "tokens per second": float(tokens.sum()) / statistics.median(seconds), "peak, GFLOP/s": matmul_peak() / 1e9,
    }  # fmt: skip
    return [
        row(
            "share of the matmul peak while scoring, hidden 512",
            "a float32 product of 2,048 x 2,048",
            share,
            0.6,
            details,
        )
    ]


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """All rows."""
    rows = []
    for part in (against_trl, prefix_sharing, peak_share):
        with tempfile.TemporaryDirectory() as folder:
            rows += part(Path(folder), quick)
    return rows
