"""Whether padding, other prompts of a batch or later tokens change what a language model writes."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ..errors import InputError
from ..models.heads.configuration import is_encoder
from ..models.inputs import num_embeddings
from ..models.positions import positions_of
from ..models.probes import agree, ordinary_tokens, rounding

logger = logging.getLogger(__name__)

# Tokens of the two prompts that the model is tried on.
_SHORT, _LONG, _NEW = 3, 15, 2


def check_language_model(config: Any, name: str) -> None:
    """Raises `InputError` unless a configuration is that of a decoder."""
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.is_encoder_decoder or not own_code and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = "an encoder with a decoder" if config.is_encoder_decoder else "no language model"
        raise InputError(
            f"{name} is {kind} ({config.model_type}). Outputs are made by decoders only, such as Llama or Qwen."
        )


def check_reads_back_only(model: Any, name: str) -> None:
    """Raises `InputError` where the model is an encoder, such as BERT: tokens to come change what it predicts before them."""
    if not is_encoder(model.config):
        return
    first, second, *_ = _ordinary_tokens(model, ())
    rows = torch.tensor([[first, second, first], [first, second, second]], device=model.device)
    with torch.no_grad():
        one, other = (_logits(model, row[None])[0, :2] for row in rows)
    if not agree(one, other, rounding(model.dtype)):
        raise InputError(
            f"{name} ({model.config.model_type}) is an encoder: what it predicts depends on later tokens, so it cannot write text. "
            "Use a decoder, such as Llama or Qwen."
        )


def _logits(model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits.float()


def batches_for(model: Any, ends: Sequence[int], pad: int) -> str:
    """
    Which batches give each prompt the output that it has alone: `"padded"` ones, those of prompts whose lengths are `"alike"`
    (padding runs through the state of some recurrent models), or none: each prompt `"alone"`.

    It is found by trying the model on two short prompts.
    """
    first, second, *others = _ordinary_tokens(model, (*ends, pad))
    limit = positions_of(model)
    length = _LONG if limit is None else min(_LONG, limit - _NEW)
    if length <= _SHORT:
        return "alike"
    words = [first, second, *others]
    short, long, same = (
        [words[(k * i + k) % len(words)] for i in range(n)] for k, n in ((1, _SHORT), (2, length), (3, _SHORT))
    )
    alone = _scores(model, [short], pad, pad)
    padded = _scores(model, [short, long], pad, pad)
    tolerance = rounding(model.dtype)
    # What stands in place of padding must not matter at all. The rest is rounding.
    filled = _scores(model, [short, long], first, pad)
    if agree(padded, filled, 1e-6 if model.dtype == torch.float32 else tolerance):
        if agree(alone, padded, tolerance):
            return "padded"
    together = agree(alone, _scores(model, [short, same], pad, pad), tolerance)
    logger.warning(
        "What %s writes depends on %s: %s. This takes longer.",
        model.config.model_type,
        "padding" if together else "the other prompts of a batch",
        "only prompts of one length are batched" if together else "each prompt has a batch of its own",
    )
    return "alike" if together else "alone"


def _ordinary_tokens(model: Any, special: Sequence[int]) -> list[int]:
    size = num_embeddings(model)
    tokens = ordinary_tokens(size, special)
    if len(tokens) < 2:
        raise InputError(f"The model has {size or 0} token embeddings. A model that writes text has more.")
    return tokens


def left_padded(prompts: Sequence[list[int]], filler: int, device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of prompts, with `filler` before the shorter ones."""
    width = max(map(len, prompts))
    ids = [[filler] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


@torch.no_grad()
def _scores(model: Any, prompts: list[list[int]], filler: int, pad: int) -> torch.Tensor:
    """Logits of the first new tokens of the first prompt, with `filler` before the shorter ones."""
    recorder = _Recorder(prompts[0][0])
    model.generate(
        **left_padded(prompts, filler, model.device),
        generation_config=GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=_NEW, pad_token_id=pad, eos_token_id=None
        ),
        logits_processor=LogitsProcessorList([recorder]),
    )
    return torch.stack(recorder.seen)


class _Recorder(LogitsProcessor):
    """Keeps the logits of the first row, and makes each row go on with `token`."""

    def __init__(self, token: int):
        self.token = token
        self.seen: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.seen.append(scores[0].float().clone())
        forced: Any = torch.full_like(scores, -torch.inf)
        forced[:, self.token] = 0
        return forced
