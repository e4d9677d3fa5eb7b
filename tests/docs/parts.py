"""Small parts that the code of the pages finds where it looks for them."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rating.scripted import rating, write_pairs
from tests.servers.replay_server import replay

# Models that the pages name, and the tiny one that stands for each.
MODELS = {
    '"Qwen/Qwen2.5-0.5B-Instruct"': "causal",
    '"Qwen/Qwen3-0.6B"': "causal",
    '"Qwen/Qwen3-1.7B"': "causal",
    '"reward:me/rm"': "reward",
}


def with_tiny_models(code: str, models: dict[str, str]) -> str:
    for name, kind in MODELS.items():
        prefix = "reward:" if name.startswith('"reward:') else ""
        code = code.replace(name, f'"{prefix}{models[kind]}"')
    return code


@contextmanager
def no_parts(folder: Path, models: dict[str, str]) -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def rated_by_a_server(folder: Path, models: dict[str, str]) -> Iterator[dict[str, str]]:
    write_pairs(folder / "pairs.jsonl")
    with replay([], rating) as server:
        yield {"http://localhost:8000/v1": server.base_url}


@contextmanager
def scored_pairs(folder: Path, models: dict[str, str]) -> Iterator[dict[str, str]]:
    from tests.publishing.selections import scored_rows

    (folder / "runs/score/scored").mkdir(parents=True)
    scored_rows().to_parquet(folder / "runs/score/scored/part.parquet")
    yield {}


@contextmanager
def scored_pairs_and_a_policy(folder: Path, models: dict[str, str]) -> Iterator[dict[str, str]]:
    import torch
    from transformers import LlamaForCausalLM

    from tests.publishing.selections import scored_rows
    from tests.tiny import tiny_config, tiny_tokenizer

    rows = scored_rows(16)
    (folder / "runs/score/scored").mkdir(parents=True)
    rows.add_column("reward_gap_overall", rows["reward_gap_honesty"]).to_parquet(
        folder / "runs/score/scored/part.parquet"
    )
    torch.manual_seed(1)
    LlamaForCausalLM(tiny_config()).save_pretrained(folder / "runs/dpo")
    tiny_tokenizer().save_pretrained(folder / "runs/dpo")
    yield {}


@contextmanager
def plain_pairs(folder: Path, models: dict[str, str]) -> Iterator[dict[str, str]]:
    from tests.publishing.selections import select_into

    rows = [
        {"prompt": f"What is {i} + 1?", "chosen": f"{i + 1}.", "rejected": f"{i + 2}, I think."} for i in range(12)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("helpful", "honest", "safe"):
        shutil.copytree(models["reward"], folder / "runs/tiny" / name)
    select_into(folder / "runs/selected")
    yield {}


PARTS: dict[str, Callable] = {
    "rate.md": rated_by_a_server,
    "rivals.md": scored_pairs_and_a_policy,
    "scale.md": scored_pairs,
    "plain-pairs.md": plain_pairs,
}
