"""Tiny models, tokenizers and preference data, built on the spot."""

import dataclasses
import random
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

WORDS = "the a cat dog bird sees likes eats small big red blue fish house tree runs sleeps and very well".split()
ASPECTS = ("helpfulness", "honesty", "truthfulness")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


def tiny_tokenizer(*, pad_token: str | None = "<pad>", chat_template: str | None = CHAT_TEMPLATE):
    """A word tokenizer with distinct pad, bos and eos; `pad_token="<eos>"` or `None` for the awkward ones."""
    tokens = ["<unk>", "<pad>", "<bos>", "<eos>", "<user>", "<assistant>", "<system>", *WORDS, ".", "?"]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token=pad_token,
        additional_special_tokens=["<user>", "<assistant>", "<system>"],
        chat_template=chat_template,
    )


def encode_pair(tokenizer, row) -> tuple[list[int], list[int]]:
    """Tokens of both sides of a preference, with its prompt, as scoring makes them."""
    from pd_trl.scoring.encoding import conversations, encode_responses

    chosen, rejected = encode_responses(tokenizer, conversations(tokenizer, [row]), [row, row])
    return chosen, rejected


def tiny_config(**changes) -> LlamaConfig:
    values = dict(
        vocab_size=7 + len(WORDS) + 2,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaConfig(**{**values, **changes})


def tiny_reward_model(seed: int = 0, **changes) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(tiny_config(num_labels=1, **changes)).eval()


def save_tiny_models(folder: Path) -> dict[str, str]:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    paths = {"causal": str(folder / "causal"), "reward": str(folder / "reward")}
    LlamaForCausalLM(tiny_config()).save_pretrained(paths["causal"])
    tiny_reward_model().save_pretrained(paths["reward"])
    for path in paths.values():
        tokenizer.save_pretrained(path)
    return paths


def enable_checkpointing(model) -> None:
    """Gradient checkpointing under the name that this transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def checkpointing_kwargs(**kwargs) -> dict:
    """The training argument for `torch.utils.checkpoint`, under the name that this transformers has for it."""
    names = {item.name for item in dataclasses.fields(TrainingArguments)}
    new = "activation_checkpointing_kwargs"
    return {new if new in names else "gradient_checkpointing_kwargs": kwargs}


def sentence(generator: random.Random, low: int = 2, high: int = 14) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(low, high))) + " ."


def tiny_preferences(count: int = 24, seed: int = 0, *, chat: bool = False, implicit: bool = False) -> Dataset:
    """Preferences in the contract's schema, aspects in turn, chosen and rejected of varied length."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        prompt, chosen, rejected = sentence(generator), sentence(generator), sentence(generator)
        if chat:
            messages = [{"role": "user", "content": prompt}]
            sides = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
        else:
            messages, sides = prompt + " ", [chosen, rejected]
        row = {"pair_id": f"pair{i:04d}", "prompt": messages, "chosen": sides[0], "rejected": sides[1]}
        row["aspect"] = ASPECTS[i % len(ASPECTS)]
        if implicit:
            row["chosen"], row["rejected"] = messages + sides[0], messages + sides[1]
            del row["prompt"]
        rows.append(row)
    return Dataset.from_list(rows)
