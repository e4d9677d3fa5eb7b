"""How outputs are decoded."""

from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class DecodingConfig:
    """
    Everything that decides an output beside the model and the prompt.

    Args:
        max_new_tokens (`int`, *optional*, defaults to `2048`):
            Longest output, in tokens.
        temperature (`float`, *optional*, defaults to `0.0`):
            0 takes the likeliest token.
        top_p (`float`, *optional*, defaults to `1.0`):
            Draw from the smallest set of likeliest tokens with this probability.
        top_k (`int`, *optional*, defaults to `0`):
            Draw from this many likeliest tokens; 0 is all.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the draws.
        system_prompt (`str`, *optional*):
            System message before each instruction. Needs a chat template.
        use_chat_template (`bool`, *optional*):
            Whether instructions are wrapped by the tokenizer's chat template. `None` is yes where it has one.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template, such as `{"enable_thinking": False}`.

    Raises:
        InputError: When a value is out of range.
    """

    max_new_tokens: int = 2048
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 42
    system_prompt: str | None = None
    use_chat_template: bool | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"`max_new_tokens` must be at least 1, got {self.max_new_tokens}.")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"`temperature` must be 0 (greedy) or positive, but got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"`top_p` must be in (0, 1], got {self.top_p}.")
        if self.top_k < 0:
            raise InputError(f"`top_k` must be 0 (all tokens) or positive, got {self.top_k}.")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k):
            raise InputError(
                "`top_p` and `top_k` have no effect at temperature 0. Set `temperature`, or leave them out."
            )
