"""
Compares what `scripts/plan_this_machine.py` predicts with real runs on this machine: CPU seconds, tokens and peak memory of reward
training, scoring, DPO and generation, for models and data of two sizes.

    OMP_NUM_THREADS=1 python scripts/check_plan.py [--output_dir runs/check_plan] [--quick]
    python scripts/check_plan.py --paper          # the recipe of the paper's main setting, without its data, on paper

Seconds are those of the process on the CPU, of the stage alone (a run of it with a tiny model comes first, so that imports are
not in them). Tokens are counted in the batches that reach the models. Memory is the peak of the tensors' bytes as torch's profiler
counts them, in a run of its own: the resident set of a process on a CPU also holds what the allocator keeps.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("reward", "score", "dpo", "generate")
SIZES: dict[str, dict[str, int]] = {
    "short": {"hidden": 128, "layers": 4, "pairs": 2000, "longest": 60, "batch": 16, "prompts": 384, "new_tokens": 48},
    "long": {"hidden": 256, "layers": 4, "pairs": 600, "longest": 240, "batch": 8, "prompts": 192, "new_tokens": 96},
}
ASPECTS = ("helpfulness", "honesty", "truthfulness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/check_plan")
    parser.add_argument("--quick", action="store_true", help="a quarter of the pairs")
    parser.add_argument("--only", default=",".join(SIZES), help="sizes, with commas between")
    parser.add_argument(
        "--paper", action="store_true", help="plan the recipe of the paper's setting with its variants"
    )
    parser.add_argument("--child", nargs=3, metavar=("RECIPE", "STAGE", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.child:
        print(json.dumps(measure(*options.child)))
        return
    root = Path(options.output_dir)
    if options.paper:
        print(paper(root))
        return
    rows = [row for name in options.only.split(",") for row in compare(name, root / name, 4 if options.quick else 1)]
    (root / "check.json").write_text(json.dumps(rows, indent=2))
    print(as_table(rows))


def compare(name: str, root: Path, less: int) -> list[dict[str, Any]]:
    """Prediction and measurement of every stage of one size."""
    recipe = make_inputs(root, {**SIZES[name], "pairs": SIZES[name]["pairs"] // less})
    run("run", "--config", recipe, "--stages", "prepare", "--overwrite")
    new_tokens = str(SIZES[name]["new_tokens"])
    text = output_of(
        ROOT / "scripts" / "plan_this_machine.py", "--config", recipe, "--json", "--new_tokens", new_tokens
    )
    predicted = {cost["stage"]: cost for cost in json.loads(text)["stages"]}
    rows = []
    for stage in STAGES:
        if stage == "dpo":
            run("run", "--config", recipe, "--stages", "select", "--overwrite")
        measured = child(recipe, stage, "seconds") | child(recipe, stage, "memory")
        cost = predicted[stage]
        rows.append({
            "size": name, "stage": stage, "seconds": measured["seconds"], "predicted seconds": cost["seconds"],
            "tokens": measured["tokens"], "predicted tokens": cost["tokens"], "computed": measured["computed"],
            "predicted computed": cost["padded"], "memory": measured["memory"], "predicted memory": cost["memory"]["total"],
        })  # fmt: skip
        print(as_table(rows[-1:]), file=sys.stderr)
    return rows


def child(recipe: Path, stage: str, what: str) -> dict[str, float]:
    """What a process of its own measures."""
    command = [sys.executable, __file__, "--child", str(recipe), stage, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def run(*arguments: Any) -> str:
    """The output of a command of pd-trl."""
    return output_of("-m", "pd_trl", *arguments)


def output_of(*arguments: Any) -> str:
    """The output of a Python program."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def make_inputs(root: Path, size: dict[str, int]) -> Path:
    """Pairs of random words with ratings, prompts, a random model with a tokenizer, and the recipe."""
    root.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 9))) for _ in range(3000)]

    def text(longest: int) -> str:
        return " ".join(generator.choice(words) for _ in range(generator.randint(longest // 6, longest)))

    prompts, rows = [], []
    while len(rows) < size["pairs"]:
        prompt = text(size["longest"] // 2) + " "
        prompts.append(prompt)
        responses = [text(size["longest"]) for _ in range(4)]
        for a in range(4):
            for b in range(a + 1, 4):
                row = {"prompt": prompt, "response_a": responses[a], "response_b": responses[b]}
                for aspect in ASPECTS:
                    first = generator.randint(1, 5)
                    second = generator.choice([rating for rating in range(1, 6) if rating != first])
                    row |= {f"rating_{aspect}_a": float(first), f"rating_{aspect}_b": float(second)}
                rows.append(row)
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[: size["pairs"]]))
    instructions = [{"instruction": text(size["longest"] // 2)} for _ in range(size["prompts"])]
    (root / "prompts.json").write_text(json.dumps(instructions))
    make_model(root / "model", words, size["hidden"], size["layers"])
    make_model(root / "tiny", words, 16, 1)
    training = {
        "num_train_epochs": 1, "per_device_train_batch_size": size["batch"], "gradient_checkpointing": False, "max_length": 1024,
        "save_strategy": "no", "logging_steps": 10, "learning_rate": 1e-4,
    }  # fmt: skip
    recipe = {
        "output_dir": str((root / "run").absolute()), "seed": 0, "budget": 0.5,
        "dataset_name": str((root / "pairs.jsonl").absolute()), "model_name_or_path": str((root / "model").absolute()),
        "prepare": {}, "reward": {"heldout": 0.1, **training}, "score": {}, "select": {}, "dpo": training,
        "generate": {"instructions": str((root / "prompts.json").absolute()), "max_new_tokens": size["new_tokens"]},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(json.dumps(recipe, indent=2))
    return root / "recipe.yaml"


def make_model(folder: Path, words: list[str], hidden: int, layers: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        PreTrainedTokenizerFast,
        set_seed,
    )

    tokens = ["<unk>", "<pad>", "<bos>", "<eos>", *words]
    backend = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(dict.fromkeys(tokens))}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    for place in (folder, folder / "reward"):
        tokenizer.save_pretrained(place)


def measure(recipe_path: str, stage: str, what: str) -> dict[str, float]:
    """Runs a stage in this process, after a run of it with a tiny model."""
    from pd_trl.cli.run import load_recipe, parse_step
    from pd_trl.cli.stage_commands import set_up_logging
    from pd_trl.pipeline.recipe import steps_of
    from pd_trl.pipeline.registry import STAGES

    set_up_logging()
    run_stage = STAGES[stage].load().run
    step = next(step for step in steps_of(load_recipe(recipe_path)[0]) if step.stage == stage)
    outputs = parse_step(step, {**step.section, "overwrite": True})
    shutil.rmtree(step.output_dir, ignore_errors=True)
    if what == "memory":
        return {"memory": peak_bytes(lambda: run_stage(*outputs))}
    small = warm_up(step.section, stage, Path(recipe_path).parent)
    run_stage(*parse_step(step, {**small, "overwrite": True}))
    counts = {"tokens": 0, "computed": 0}
    count_batches(counts)
    start = time.process_time()
    run_stage(*outputs)
    seconds = time.process_time() - start
    if stage == "generate":
        counts["tokens"] += json.loads((Path(step.output_dir) / "decoding.json").read_text())["counts"]["tokens"]
    if stage == "score":
        shards = [json.loads(path.read_text()) for path in Path(step.output_dir).glob("shards/*/*.done")]
        names = (("tokens", "tokens"), ("computed", "cells"))
        counts = {name: sum(shard[key] for shard in shards) for name, key in names}
    return {"seconds": seconds, **counts}


def peak_bytes(work: Any) -> int:
    """Most bytes that tensors had at once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def warm_up(section: dict[str, Any], stage: str, root: Path) -> dict[str, Any]:
    """The section with a tiny model and few rows, into another folder."""
    from pd_trl.runs.artifacts import read_rows, write_rows

    small = {**section, "output_dir": str(root / "warm_up" / stage)}
    if stage == "score":
        small["reward_models"] = {aspect: str(root / "tiny" / "reward") for aspect in ASPECTS}
    else:
        small["model_name_or_path"] = str(root / "tiny")
    if stage == "generate":
        few = json.loads((root / "prompts.json").read_text())[:2]
        (root / "few.json").write_text(json.dumps(few))
        return {**small, "instructions": str(root / "few.json"), "max_new_tokens": 2}
    part = {"dpo": "selected"}.get(stage, "preferences")
    write_rows(read_rows(Path(section["dataset_name"]) / part).select(range(40)), root / f"few_{stage}")
    small["dataset_name"] = str(root / f"few_{stage}")
    return small if stage == "score" else {**small, "max_steps": 2, "per_device_train_batch_size": 2}


def count_batches(counts: dict[str, int]) -> None:
    """Counts the tokens of the batches that trainers, scorers and the decoder are given."""
    from pd_trl.generation import decoding
    from pd_trl.trainers.dpo.trainer import PDDPOTrainer
    from pd_trl.trainers.reward.trainer import PDRewardTrainer

    def counting(kind: Any) -> Any:
        inner = kind.compute_loss

        def compute_loss(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            # A policy without stored reference log-probabilities reads the batch twice.
            passes = 2 if kind is PDDPOTrainer and "ref_chosen_logps" not in inputs else 1
            counts["tokens"] += passes * int(inputs["attention_mask"].sum())
            counts["computed"] += passes * inputs["input_ids"].numel()
            return inner(self, model, inputs, *args, **kwargs)

        return compute_loss

    for kind in (PDRewardTrainer, PDDPOTrainer):
        kind.compute_loss = counting(kind)
    generate = decoding._generate

    def counted(model: Any, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        counts["tokens"] += sum(map(len, prompts))
        return generate(model, prompts, *args, **kwargs)

    decoding._generate = counted


_LORA = {"use_peft": True, "lora_r": 32, "lora_target_modules": ["all-linear"]}
# Variants of the paper's main setting: name, and what changes in the sections `reward` and `dpo` of the recipe.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the recipe: a 1B proxy per aspect": ({}, {}),
    "reference model at each step": ({}, {"precompute_ref_log_probs": False}),
    "one 1B backbone with 4 heads": ({"heads": True}, {}),
    "LoRA policy": ({}, _LORA),
    "heads; LoRA for both": ({"heads": True, **_LORA}, _LORA),
    "a 3B proxy per aspect": ({"model_name_or_path": "LLAMA_3B"}, {}),
    "an 8B proxy per aspect": ({"model_name_or_path": "LLAMA_8B"}, {}),
    "one 8B backbone with 4 heads": ({"model_name_or_path": "LLAMA_8B", "heads": True}, {}),
}
# 63,967 prompts of four responses, of which some pairs tie on every aspect; tokens of a pair by Llama's tokenizer, assumed.
PAPER_DATA = [
    "--num_pairs",
    "340000",
    "--tokens_per_pair",
    "1100",
    "--conversations_per_pair",
    "0.667",
    "--num_aspects",
    "4",
]


def paper(root: Path) -> str:
    """What the plan says of the recipe of the paper's main setting, from the published sizes of the models."""
    import yaml
    from transformers import LlamaConfig

    root = root.absolute()
    sizes = {
        "LLAMA_1B": (2048, 8192, 16, 32, True),
        "LLAMA_3B": (3072, 8192, 28, 24, True),
        "LLAMA_8B": (4096, 14336, 32, 32, False),
    }
    for name, (hidden, inner, layers, heads, tied) in sizes.items():
        LlamaConfig(
            vocab_size=128256, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=8, max_position_embeddings=131072, tie_word_embeddings=tied, pad_token_id=128004,
        ).save_pretrained(root / name)  # fmt: skip
    lines = [
        "| variant | reward | score | DPO on 30 % | with PD | DPO on all | saved | break-even | memory reward / DPO |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    recipe = yaml.safe_load((ROOT / "scripts" / "recipes" / "ultrafeedback-llama-3.1-8b.yaml").read_text())
    for name, (reward, dpo) in VARIANTS.items():
        changed = {**recipe, "reward": {**recipe["reward"], "model_name_or_path": "LLAMA_1B", **reward}}
        changed["dpo"] = {**recipe["dpo"], "model_name_or_path": "LLAMA_8B", **dpo}
        for section in (changed["reward"], changed["dpo"]):
            section["model_name_or_path"] = str((root / section["model_name_or_path"]).absolute())
        (root / "recipe.yaml").write_text(yaml.safe_dump(changed))
        found = json.loads(run("plan", "--config", root / "recipe.yaml", "--device", "h100", "--json", *PAPER_DATA))
        cost = {stage["stage"]: stage for stage in found["stages"]}
        saved = found["savings"]
        hours = [f"{cost[stage]['seconds'] / 3600:.1f}" for stage in ("reward", "score", "dpo")]
        hours += [
            f"{saved[key] / 3600:.1f}" for key in ("with_selection_seconds", "all_pairs_seconds", "saved_seconds")
        ]
        memory = " / ".join(f"{cost[stage]['memory']['total'] / 1e9:.0f} GB" for stage in ("reward", "dpo"))
        lines.append(f"| {name} | {' | '.join(hours)} | {100 * saved['break_even_budget_seconds']:.0f} % | {memory} |")
    return "\n".join(lines)


def as_table(rows: list[dict[str, Any]]) -> str:
    """Predicted over measured."""
    lines = [
        "| size | stage | CPU s | predicted | ratio | tokens | predicted | ratio | memory MB | predicted | ratio |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["size"], row["stage"]]
        for name, form, scale in (("seconds", "{:.1f}", 1), ("tokens", "{:,.0f}", 1), ("memory", "{:.0f}", 1e6)):
            measured, predicted = row[name] / scale, row[f"predicted {name}"] / scale
            cells += [
                form.format(measured),
                form.format(predicted),
                f"{predicted / measured:.2f}" if measured else "-",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
