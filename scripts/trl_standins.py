"""
Stand-ins for the tiny models and datasets of TRL's tests, made on the spot, so that the tests run without the Hub.

`make_hub_cache` writes models of the same architecture into a folder laid out as the Hub's cache, where
`from_pretrained` finds them under their own ids. `make_datasets` writes folders that `load_dataset` reads.
"""

import json
import re
from pathlib import Path
from typing import Any

ORG = "trl-internal-testing"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]
CHAT_TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\nTools: ' + tools | tojson + '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{%- if message.tool_calls %}{{- message.tool_calls | tojson }}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TINY: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # Mixtures of experts; other architectures ignore these.
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
# 17 rows as in TRL's "zen": prompt, chosen, rejected, of different lengths.
ROWS = [
    ("A river that meets the sea", " slows down.", " speeds up and leaps."),
    ("Bread left in the oven too long", " burns.", " turns blue."),
    ("The shortest day of the year is", " in winter in the north.", " in July."),
    ("Iron left in the rain will", " rust.", " bloom in a week or two."),
    ("To cross the street safely,", " look both ways and wait for the light.", " run."),
    ("A tree that loses its leaves each autumn is", " deciduous.", " broken."),
    ("Water poured on hot oil", " spits dangerously.", " does nothing at all, so pour it."),
    ("Before you paint a wall,", " clean it.", " paint it."),
    ("The moon shines because", " it reflects the light of the sun.", " it burns."),
    ("A good knot", " holds and can be untied.", " is large."),
    ("Seeds need", " water, warmth and air.", " noise."),
    ("If the map and the ground disagree,", " trust the ground.", " trust the map, always."),
    ("Salt in water", " dissolves.", " floats on top for ever."),
    ("A letter without a stamp", " comes back.", " arrives sooner."),
    ("Measure twice,", " cut once.", " cut twice too."),
    ("The lighter the canvas,", " the faster the boat.", " the heavier the anchor must be."),
    ("Cheese keeps best", " cool and wrapped.", " on the radiator."),
]


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer with distinct pad and end tokens and a chat template that knows tools."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([prompt + chosen + rejected for prompt, chosen, rejected in ROWS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token="<|unk|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(name: str, tokenizer: Any) -> Any:
    """
    A randomly initialised model of the class in a name such as `tiny-Qwen2ForCausalLM-2.5`.

    Raises `LookupError` for what has no text-only stand-in.
    """
    import torch
    import transformers

    match = re.match(r"(?:tiny|small)-(\w+For(?:CausalLM|SequenceClassification))", name)
    model_class = getattr(transformers, match.group(1), None) if match else None
    if model_class is None:
        raise LookupError(f"{name}: only ForCausalLM and ForSequenceClassification models have a stand-in")
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    labels = {"num_labels": 1} if name.find("SequenceClassification") > 0 else {}
    config = model_class.config_class(vocab_size=len(tokenizer), **TINY, **special, **labels)
    torch.manual_seed(0)
    return model_class(config)


def make_hub_cache(cache: Path, names: set[str], revisions: set[str]) -> list[str]:
    """
    Writes the models `names` into `cache` as the Hub's cache has them, and each under `revisions` as well.

    Returns one line for each name that has no stand-in.
    """
    tokenizer = make_tokenizer()
    missing = []
    for name in sorted(names):
        repo = cache / f"models--{ORG}--{name}"
        snapshot = repo / "snapshots" / ("0" * 40)
        try:
            model = make_model(name, tokenizer)
        except Exception as error:  # an architecture that the small values do not suit
            missing.append(str(error).splitlines()[0])
            continue
        snapshot.mkdir(parents=True)
        model.save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
        for revision in {"main", *revisions}:
            reference = repo / "refs" / revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(snapshot.name)
    return missing


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text.strip()}]


def _zen_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of every text config of TRL's "zen", by the config's name."""
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(kind: str, **columns: Any) -> None:
        rows.setdefault(kind, []).append(columns)

    for number, (prompt, chosen, rejected) in enumerate(ROWS):
        ask, good, bad = _message("user", prompt), _message("assistant", chosen), _message("assistant", rejected)
        label = number % 2 == 0
        for style, p, c, r in (("standard", prompt, chosen, rejected), ("conversational", ask, good, bad)):
            completion = c if label else r
            add(f"{style}_preference", prompt=p, chosen=c, rejected=r)
            add(f"{style}_implicit_prompt_preference", chosen=p + c, rejected=p + r)
            add(f"{style}_unpaired_preference", prompt=p, completion=completion, label=label)
            add(f"{style}_prompt_completion", prompt=p, completion=c)
            add(f"{style}_prompt_only", prompt=p)
        add("standard_language_modeling", text=prompt + chosen)
        add("conversational_language_modeling", messages=ask + good)
    return rows


def _toolcall_rows() -> dict[str, list[dict[str, Any]]]:
    function = {"name": "weather", "description": "Weather of a place", "parameters": {"type": "object"}}
    rows = [
        {
            "prompt": _message("user", prompt),
            "chosen": _message("assistant", chosen),
            "rejected": _message("assistant", rejected),
            "tools": json.dumps([{"type": "function", "function": function}]),
        }
        for prompt, chosen, rejected in ROWS
    ]
    return {"preference": rows}


def make_datasets(folder: Path) -> None:
    """Writes `zen` and `toolcall` as folders with the Hub's configs, splits (train, test) and columns."""
    for name, configs in (("zen", _zen_rows()), ("toolcall", _toolcall_rows())):
        listing = ["---", "configs:"]
        for config, rows in configs.items():
            (folder / name / config).mkdir(parents=True)
            listing += [f"- config_name: {config}", "  data_files:"]
            for split, part in (("train", rows), ("test", rows[:2])):
                file = f"{config}/{split}.jsonl"
                (folder / name / file).write_text("".join(json.dumps(row) + "\n" for row in part))
                listing += [f"  - split: {split}", f"    path: {file}"]
        (folder / name / "README.md").write_text("\n".join([*listing, "---", ""]))
