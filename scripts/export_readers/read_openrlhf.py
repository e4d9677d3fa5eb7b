"""What OpenRLHF reads of exports: its flags, its loader, and its data set of preferences."""

import argparse
import shlex
import types
from collections.abc import Iterator

from common import Job, Tokens, run, split
from openrlhf.datasets.reward_dataset import RewardDataset
from openrlhf.datasets.utils import blending_datasets
from transformers import AutoTokenizer


def _flags(script: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in (
        "data.dataset",
        "data.prompt_key",
        "data.chosen_key",
        "data.rejected_key",
        "model.model_name_or_path",
    ):
        parser.add_argument(f"--{name}")
    parser.add_argument("--data.max_samples", type=int)
    parser.add_argument("--data.max_len", type=int)
    parser.add_argument("--data.apply_chat_template", action="store_true")
    words = shlex.split(script.partition("openrlhf.cli.train_dpo")[2].replace("\\\n", " "))
    given = vars(parser.parse_args(words))
    data = {name.removeprefix("data."): value for name, value in given.items() if name.startswith("data.")}
    return argparse.Namespace(data=argparse.Namespace(**data), use_ms=False)


def read(job: Job) -> Iterator[Tokens]:
    args = _flags(job.text("openrlhf.sh"))
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    strategy = types.SimpleNamespace(args=args, print=lambda *words: None, is_rank_0=lambda: False)
    rows = blending_datasets(args.data.dataset, None, strategy, max_count=args.data.max_samples)
    data = RewardDataset(rows, tokenizer, args.data.max_len, strategy, is_dpo=True, num_processors=1)
    for i in range(len(data)):
        chosen, _, rejected, _, start = data[i]
        yield split(chosen[0].tolist(), rejected[0].tolist(), start)


if __name__ == "__main__":
    run(read)
