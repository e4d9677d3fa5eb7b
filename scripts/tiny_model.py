"""
Makes a tiny language model with a tokenizer trained on a data set's own texts: a stand-in to try the pipeline with where no
pretrained model can be had. Its proxies start from nothing and learn little; take a real model for real work.

    python scripts/tiny_model.py my-data.parquet runs/tiny
    python scripts/tiny_model.py sample runs/tiny --rewards helpful honest        # and reward models, whose votes are noise
    python scripts/tiny_model.py mine.jsonl runs/tiny --column_mapping '{prompt: question}'
"""

import argparse
import sys
from pathlib import Path

import datasets
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from pd_trl import load_pairs
from pd_trl.data.validation import check_aspect_names
from pd_trl.errors import InputError
from pd_trl.pipeline.mappings import mapping_of

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="file, folder or Hub id that `load_pairs` reads")
    parser.add_argument("output", help="folder of the model")
    parser.add_argument("--split", help="split of the data set")
    parser.add_argument("--column_mapping", help="names of the columns, as of `load_pairs`: a mapping in YAML or json")
    parser.add_argument("--rewards", nargs="+", default=[], help="names of reward models to make in the same folder")
    parser.add_argument("--vocab_size", type=int, default=2000)
    parser.add_argument("--hidden_size", type=int, default=32)
    parser.add_argument("--num_layers", type=int, default=1)
    parser.add_argument("--max_length", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    try:
        check(options)
        mapping = mapping_of(options.column_mapping, "column_mapping") or None
        split = {"split": options.split} if options.split else {}
        pairs = load_pairs(options.dataset, column_mapping=mapping, on_invalid="drop", **split)
        if not len(pairs):
            raise InputError(f"{options.dataset} has no pair that can be used: see the reasons above.")
    except InputError as error:
        print(f"tiny_model.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    backend = Tokenizer(models.BPE(byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (str(row[name]) for row in pairs for name in ("prompt", "response_a", "response_b"))
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=options.max_length,
    )
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden_size,
        intermediate_size=2 * options.hidden_size,
        num_hidden_layers=options.num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=options.max_length,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens: {options.output}")
    config.num_labels = 1
    for seed, name in enumerate(options.rewards, options.seed + 1):
        torch.manual_seed(seed)
        folder = Path(options.output) / name
        LlamaForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        print(f"a reward model with random weights: {folder}")


def check(options: argparse.Namespace) -> None:
    """Raises `InputError` on sizes and names that no model can have."""
    if options.hidden_size < 2 or options.hidden_size % 4:
        raise InputError(
            f"--hidden_size must be a multiple of 4, for two heads of even size, got {options.hidden_size}."
        )
    for name in ("vocab_size", "num_layers", "max_length"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(options, name)}.")
    check_aspect_names(options.rewards)


if __name__ == "__main__":
    main()
