"""Tokenizers with the templates of three model families, and preferences in five forms, made on the spot."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

# As Qwen2.5's template writes them, tools included.
CHATML = """{%- if messages[0].role == 'system' %}{%- set system = messages[0].content %}{%- set turns = messages[1:] %}
{%- else %}{%- set system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}{%- set turns = messages %}{%- endif %}
{{- '<|im_start|>system\n' + system }}
{%- if tools %}
{{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}
{{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in turns %}
{%- if message.role == 'tool' %}{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- elif message.tool_calls %}{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls %}{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

LLAMA3 = """{{- bos_token }}
{%- if tools %}{{- '<|start_header_id|>system<|end_header_id|>\n\nYou may call functions:' }}
{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}{{- '<|eot_id|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|start_header_id|>' + ('ipython' if message.role == 'tool' else message.role) + '<|end_header_id|>\n\n' }}
{%- if message.tool_calls %}{%- for call in message.tool_calls %}
{{- '{"name": "' + call.function.name + '", "parameters": ' + (call.function.arguments | tojson) + '}' }}{%- endfor %}
{%- else %}{{- message.content }}{%- endif %}{{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""

GEMMA = """{{- bos_token }}
{%- if messages[0].role == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) or message.tool_calls %}{{- raise_exception('Conversation roles must alternate') }}{%- endif %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' + message.content + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"""

# Template, special tokens, BOS and EOS of each family.
FAMILIES: dict[str, tuple[str, list[str], str | None, str]] = {
    "chatml": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    "llama3": (
        LLAMA3,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "gemma": (GEMMA, ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
}  # fmt: skip
_SPLIT = r"'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = (
    "the a quick brown fox jumps over lazy dog naïve café Straße Москва 東京 price of 3 apples is 12.50 euros def f(x): return x**2 "
    "see https://example.org/a?b=c#d <b>bold</b> {braces} and 'quotes' \"double\" 🙂 élan vital tab\tand dash–dash ok"
).split(" ")
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather in a city, now or later.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip


def save_tokenizer(family: str, folder: Path) -> Path:
    """Saves a byte-level tokenizer with the family's special tokens and template."""
    template, special, bos, eos = FAMILIES[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    generator = random.Random(0)
    backend.train_from_iterator((text(generator) for _ in range(2000)), trainer)
    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=special[0], chat_template=template
    )
    tokenizer.save_pretrained(folder)
    return folder


def text(generator: random.Random, low: int = 2, high: int = 30) -> str:
    """Words in several scripts, with lines."""
    words = [generator.choice(_WORDS) for _ in range(generator.randint(low, high))]
    return "".join(w + generator.choice([" ", " ", " ", ", ", ".\n", "\n\n"]) for w in words[:-1]) + words[-1] + "."


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _strings(generator: random.Random) -> dict[str, Any]:
    prompt = f"Human: {text(generator)}\n\nAssistant:"
    return {"prompt": prompt, "chosen": f" {text(generator)}", "rejected": f" {text(generator)}"}


def _chat(generator: random.Random, turns: int = 1, system: bool = False) -> dict[str, Any]:
    prompt = [_message("system", text(generator))] if system else []
    for turn in range(2 * turns - 1):
        prompt.append(_message("user" if turn % 2 == 0 else "assistant", text(generator)))
    sides = {name: [_message("assistant", text(generator))] for name in ("chosen", "rejected")}
    return {"prompt": prompt, **sides}


def _call(generator: random.Random) -> dict[str, Any]:
    city = {"name": "weather", "arguments": {"city": text(generator, 1, 2)}}
    days = {"name": "weather", "arguments": {"city": text(generator, 1, 2), "days": generator.randint(1, 9)}}
    call = generator.choice([city, days, {"name": "now", "arguments": {}}])
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}


def _tools(generator: random.Random) -> dict[str, Any]:
    row = _chat(generator, system=generator.random() < 0.5)
    if generator.random() < 0.5:
        row["chosen"] = [_call(generator)]
    if generator.random() < 0.5:
        answer = json.dumps({"sky": text(generator, 1, 3)}, ensure_ascii=False)
        row["prompt"] += [_call(generator), _message("tool", answer)]
    return {**row, "tools": json.dumps(_TOOLS, ensure_ascii=False)}


FORMS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "strings": _strings,
    "chat": _chat,
    "multi-turn": lambda generator: _chat(generator, generator.randint(2, 4)),
    "system": lambda generator: _chat(generator, generator.randint(1, 2), system=True),
    "tools": _tools,
}


def rows(form: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Preferences in a form, all different."""
    generator = random.Random(f"{form}{seed}")
    return [{**FORMS[form](generator), "pair_id": f"{form}-{i}"} for i in range(count)]
