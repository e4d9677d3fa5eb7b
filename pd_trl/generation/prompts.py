"""Token ids of prompts. The chat template is applied once, and no special token is added to its text."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..models.inputs import naming_refused_rows
from .instructions import Instruction
from .settings import DecodingConfig


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, instructions: Sequence[Instruction], config: DecodingConfig
) -> list[list[int]]:
    """
    Token ids of each instruction, as the model reads it.

    Raises:
        InputError: When messages or a system prompt need a chat template that the tokenizer lacks, or the template refuses.
    """
    templated = bool(tokenizer.chat_template) if config.use_chat_template is None else config.use_chat_template
    needs = config.system_prompt or any(not isinstance(item.prompt, str) for item in instructions)
    if (templated or needs) and not tokenizer.chat_template:
        raise InputError(
            "The tokenizer has no chat template, which messages, a system prompt and `use_chat_template` need. Set "
            "`tokenizer.chat_template` as in training, or pass plain instructions."
        )
    if not templated:
        if needs:
            raise InputError("Messages and a system prompt need the chat template: leave `use_chat_template` out.")
        return list(tokenizer([str(item.prompt) for item in instructions], verbose=False)["input_ids"])
    system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
    conversations = [
        system + (item.prompt if isinstance(item.prompt, list) else [{"role": "user", "content": item.prompt}])
        for item in instructions
    ]
    named = (
        (
            f"instruction {i} of {len(conversations)}",
            messages,
            {"add_generation_prompt": True, **config.chat_template_kwargs},
        )
        for i, messages in enumerate(conversations)
    )
    with naming_refused_rows(tokenizer, lambda: named):
        encoded = tokenizer.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **config.chat_template_kwargs,
        )
    return list(encoded["input_ids"])
