"""
All outputs of a reward model from one pass, beside a loop over its outputs: a random checkpoint with the tensors' names of ArmoRM
scores the same pairs both ways.

    python scripts/bench_published.py                  # 19 outputs, 60 pairs; half a minute on one core
    python scripts/bench_published.py --outputs 5 --pairs 200
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from pd_trl import score_pairs
from pd_trl.models.outputs import voters_of

WORDS = 500
TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {{ eos_token }}{% endfor %}"


def write_checkpoint(folder: Path, outputs: int, hidden: int, layers: int) -> None:
    """A random checkpoint with the tensors' names of ArmoRM, and a tokenizer of words."""
    torch.manual_seed(0)
    special = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>"]
    vocabulary = {token: i for i, token in enumerate([*special, *(f"w{k}" for k in range(WORDS))])}
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        architectures=["LlamaForRewardModelWithGating"],
    )  # fmt: skip
    state = {f"model.{name}": tensor.clone() for name, tensor in LlamaModel(config).state_dict().items()}
    state["regression_layer.weight"] = torch.randn(outputs, hidden)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    content = {**config.to_dict(), "num_objectives": outputs}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", chat_template=TEMPLATE
    ).save_pretrained(folder)


def make_pairs(count: int, length: int) -> Dataset:
    """Conversational pairs of random words, with an overall label."""
    generator = np.random.default_rng(0)

    def text() -> str:
        return " ".join(f"w{k}" for k in generator.integers(0, WORDS, generator.integers(length // 2, length)))

    rows = []
    for i in range(count):
        turn = [{"role": "user", "content": text()}]
        sides = [[{"role": "assistant", "content": text()}] for _ in range(2)]
        rows.append(
            {"pair_id": f"p{i:05d}", "prompt": turn, "chosen": sides[0], "rejected": sides[1], "aspect": "overall"}
        )
    return Dataset.from_list(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=19)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--length", type=int, default=80, help="most words of a text")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(1)
    pairs = make_pairs(options.pairs, options.length)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder, options.outputs, options.hidden, options.layers)
        voters = voters_of(folder, name)
        score_pairs(pairs.select(range(4)), name)
        start = time.process_time()
        together = score_pairs(pairs, name)
        once = time.process_time() - start
        start = time.process_time()
        alone = {
            aspect: score_pairs(pairs, {aspect: given})[f"reward_gap_{aspect}"][:] for aspect, given in voters.items()
        }
        loop = time.process_time() - start
    apart = max(float(np.abs(np.subtract(together[f"reward_gap_{a}"][:], alone[a])).max()) for a in voters)
    print(
        f"{len(voters)} outputs of {len(pairs)} pairs, {options.layers} layers of width {options.hidden}, CPU seconds of one core"
    )
    print(f"one pass for all outputs: {once:.2f} s")
    print(f"a loop over the outputs:  {loop:.2f} s")
    print(f"one pass is {loop / once:.1f} times as fast; largest difference of a gap {apart:.1e}")


if __name__ == "__main__":
    main()
