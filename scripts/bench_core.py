"""
Times what the core adds or saves, as ratios in one run on one machine: a step of our trainers against TRL's, and
`score_pairs` against a loop of TRL's `RewardTrainer.predict` over the proxies. And the seconds of PD on 10 million pairs.

    python scripts/bench_core.py                  # both, prints tables and writes bench_core.json
    python scripts/bench_core.py --only scoring
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import datasets
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from pd_trl import PDDPOConfig, PDDPOTrainer, PDRewardConfig, PDRewardTrainer, preference_divergence, score_pairs
from pd_trl.artifacts import library_versions
from pd_trl.report_text import table

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


def config(hidden: int, **changes: int) -> LlamaConfig:
    """A two-layer Llama."""
    return LlamaConfig(
        vocab_size=504, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, pad_token_id=1, bos_token_id=2, eos_token_id=3, **changes,
    )  # fmt: skip


def text(generator: random.Random, longest: int) -> str:
    """Words, their number log-uniform up to `longest`."""
    return " ".join(generator.choices(WORDS, k=int(np.exp(generator.uniform(np.log(4), np.log(longest))))))


def preferences(num_prompts: int, longest: int, shared: bool) -> datasets.Dataset:
    """Six pairs of four responses for each prompt, or as many pairs that share nothing."""
    generator = random.Random(0)
    rows = []
    for _ in range(num_prompts):
        prompt, answers = text(generator, longest // 2), [text(generator, longest) for _ in range(4)]
        for i in range(4):
            for j in range(i + 1, 4):
                if not shared:
                    prompt, answers = text(generator, longest // 2), [text(generator, longest) for _ in range(4)]
                rows.append({"prompt": prompt + " ", "chosen": answers[i] + " ", "rejected": answers[j] + " "})
    return datasets.Dataset.from_list(
        [{"pair_id": f"{n:06d}", "aspect": ASPECTS[n % 4], **row} for n, row in enumerate(rows)]
    )


def bench_scoring(folder: Path, rounds: int) -> list[dict]:
    """Pairs per second of both ways, tokenisation included, and the largest difference of their gaps."""
    paths = {}
    for seed, aspect in enumerate(ASPECTS):
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config(128, num_labels=1)).save_pretrained(folder / aspect)
        tokenizer().save_pretrained(folder / aspect)
        paths[aspect] = str(folder / aspect)
    results = []
    for shared in (True, False):
        # A multiple of the batch size: TRL's `predict` cuts the predictions of a last, smaller batch short.
        data = preferences(48, 400, shared)
        baseline, ours, gaps = [], [], {}
        for round_number in range(rounds + 1):
            start = time.perf_counter()
            for aspect, path in paths.items():
                # A name of its own each time, so that no round finds the tokens of an earlier one in a cache.
                fresh = data.add_column("round", [round_number + len(baseline)] * len(data))
                args = RewardConfig(str(folder / "out"), per_device_eval_batch_size=8, disable_tqdm=True, **CPU)
                trainer = RewardTrainer(path, args=args, train_dataset=fresh)
                logits = trainer.predict(trainer.train_dataset).predictions.reshape(-1)
                batches = [min(8, len(data) - i) for i in range(0, len(data), 8)]
                parts = np.split(logits, np.cumsum([2 * size for size in batches])[:-1])
                gaps[aspect] = np.concatenate([part[: len(part) // 2] - part[len(part) // 2 :] for part in parts])
            middle = time.perf_counter()
            scored = score_pairs(data, paths)
            if round_number:
                baseline.append(middle - start)
                ours.append(time.perf_counter() - middle)
        difference = max(float(np.abs(gaps[a] - np.array(scored[f"reward_gap_{a}"])).max()) for a in ASPECTS)
        results.append(
            {
                "data": "six pairs of four responses" if shared else "pairs that share nothing",
                "pairs": len(data),
                "trl_seconds": statistics.median(baseline),
                "pd_trl_seconds": statistics.median(ours),
                "ratio": statistics.median(a / b for a, b in zip(baseline, ours, strict=True)),
                "largest_difference": difference,
            }
        )
    return results


def bench_maths(rounds: int) -> list[dict]:
    """Seconds of PD on 10 million pairs of four aspects, in memory."""
    generator = np.random.default_rng(0)
    gaps = generator.normal(size=(10_000_000, 4)).astype(np.float32)
    aspects = generator.integers(0, 4, len(gaps))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        preference_divergence(gaps, aspects)
        seconds.append(time.perf_counter() - start)
    return [{"pairs": len(gaps), "aspects": 4, "seconds": statistics.median(seconds)}]


def step_seconds(trainer) -> list[float]:
    """Seconds of each training step, without the first three."""
    times: list[float] = []
    step = trainer.training_step

    def timed(*args, **kwargs):
        start = time.perf_counter()
        result = step(*args, **kwargs)
        times.append(time.perf_counter() - start)
        return result

    trainer.training_step = timed
    trainer.train()
    return times[3:]


def bench_trainers(folder: Path, rounds: int) -> list[dict]:
    """
    Seconds of a step of TRL's trainers and of ours, in turn, and the median over all steps of the ratio on the same batch:
    length balancing is off, and the budget keeps all pairs, so that both see the same batches in the same order.
    """
    torch.manual_seed(0)
    LlamaForCausalLM(config(128)).save_pretrained(folder / "causal")
    LlamaForSequenceClassification(config(128, num_labels=1)).save_pretrained(folder / "reward")
    for name in ("causal", "reward"):
        tokenizer().save_pretrained(folder / name)
    data = preferences(60, 100, True)
    for aspect in ASPECTS:
        data = data.add_column(f"reward_gap_{aspect}", np.zeros(len(data), dtype=np.float32))
    data = data.add_column("pd", np.linspace(-1, 1, len(data)).astype(np.float32))
    common = {**CPU, "per_device_train_batch_size": 8, "max_steps": 40, "save_strategy": "no", "disable_tqdm": True}
    common |= {"logging_strategy": "no"}
    pairs = [
        ("reward, length penalty", "reward", RewardTrainer, RewardConfig, {}, PDRewardTrainer, PDRewardConfig,
         {"length_balance_temperature": None}),
        ("DPO, pd_budget=1.0", "causal", DPOTrainer, DPOConfig, {}, PDDPOTrainer, PDDPOConfig, {"pd_budget": 1.0}),
        ("DPO, pd_loss='dfpo'", "causal", DPOTrainer, DPOConfig, {}, PDDPOTrainer, PDDPOConfig, {"pd_loss": "dfpo"}),
    ]  # fmt: skip
    results = []
    for name, model, trl_class, trl_config, trl_extra, our_class, our_config, our_extra in pairs:
        theirs: list[float] = []
        ours: list[float] = []
        for _ in range(rounds):
            for into, trainer, arguments, extra in (
                (theirs, trl_class, trl_config, trl_extra),
                (ours, our_class, our_config, our_extra),
            ):
                args = arguments(str(folder / "out"), **common, **extra)
                into += step_seconds(trainer(model=str(folder / model), args=args, train_dataset=data))
        results.append(
            {
                "trainer": name,
                "steps": len(ours),
                "trl_seconds": statistics.median(theirs),
                "pd_trl_seconds": statistics.median(ours),
                "ratio": statistics.median(b / a for a, b in zip(theirs, ours, strict=True)),
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["scoring", "trainers", "maths"], help="one of them")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median is taken (default 5)")
    parser.add_argument("--output", default="bench_core.json", help="where the numbers go (default bench_core.json)")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    found: dict = {"versions": library_versions(), "threads": torch.get_num_threads(), "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "maths"):
            found["maths"] = bench_maths(options.rounds)
            print(f"PD of 10,000,000 pairs, 4 aspects: {found['maths'][0]['seconds']:.2f} s", end="\n\n")
        if options.only in (None, "scoring"):
            found["scoring"] = bench_scoring(Path(folder), options.rounds)
            rows = [["scoring, 4 proxies", "pairs", "TRL, s", "pd_trl, s", "times faster", "largest difference"]]
            rows += [
                [r["data"], str(r["pairs"]), f"{r['trl_seconds']:.2f}", f"{r['pd_trl_seconds']:.2f}", f"{r['ratio']:.2f}",
                 f"{r['largest_difference']:.1e}"]
                for r in found["scoring"]
            ]  # fmt: skip
            print("\n".join(table(rows)), end="\n\n")
        if options.only in (None, "trainers"):
            found["trainers"] = bench_trainers(Path(folder), options.rounds)
            rows = [["seconds of a step", "TRL", "pd_trl", "ratio"]]
            rows += [
                [r["trainer"], f"{r['trl_seconds']:.4f}", f"{r['pd_trl_seconds']:.4f}", f"{r['ratio']:.3f}"]
                for r in found["trainers"]
            ]
            print("\n".join(table(rows)))
    Path(options.output).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
