"""[`ScoringSettings`]: how pairs are scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..models.loading import model_dtype
from .backends import check_backend

PAIRS_PER_SHARD = 2048


@dataclass(frozen=True)
class ScoringSettings:
    """How pairs are scored. [`score_pairs`] says what each means."""

    max_length: int | None = None
    tokens_per_batch: int | None = None
    on_long: str = "truncate"
    tokenizer: PreTrainedTokenizerBase | None = None
    dtype: torch.dtype | str | None = None
    pairs_per_shard: int = PAIRS_PER_SHARD
    share_prefix: bool = True
    backend: str = "engine"
    engine_kwargs: Mapping[str, Any] | None = None
    attn_implementation: str | None = None
    torch_compile: bool = False
    trust_remote_code: bool = False
    chat: bool = False

    def __post_init__(self) -> None:
        check_backend(self.backend, self.engine_kwargs)
        model_dtype(self.dtype)
        if self.on_long not in ("truncate", "drop", "error"):
            raise InputError(f"`on_long` must be 'truncate', 'drop' or 'error', got {self.on_long!r}.")
        for name in ("max_length", "tokens_per_batch", "pairs_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1, got {value}.")
