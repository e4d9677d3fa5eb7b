"""Decoding with vLLM, on the same prompt tokens as with transformers."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from ..errors import InputError
from .decoding import Decoded
from .policies import PolicySource
from .settings import DecodingConfig

# Prompts handed over at once, after which finished outputs are kept; vLLM forms its own batches among them.
PROMPTS_PER_CALL = 256


def decode_with_vllm(
    source: PolicySource,
    prompts: Sequence[list[int]],
    keys: Sequence[str],
    config: DecodingConfig,
    engine_kwargs: dict[str, Any] | None = None,
) -> Iterator[Decoded]:
    """
    Outputs of a model by vLLM. Draws have a seed for each prompt, but come from vLLM's own generator, so they differ from those
    of [`decode`], and vLLM's kernels do not promise the same rounding for other batches.

    Args:
        source ([`PolicySource`]): The model, a folder or a Hub id; LoRA adapters are applied to their base.
        prompts (sequence of `list` of `int`): Token ids of each prompt.
        keys (sequence of `str`): What the seed of each prompt depends on.
        config ([`DecodingConfig`]): How to decode.
        engine_kwargs (`dict`, *optional*): Further arguments of `vllm.LLM`, such as `{"tensor_parallel_size": 2}`.

    Yields:
        [`Decoded`]: each output, in the order of the prompts.

    Raises:
        InputError: When vLLM is not installed, or the model is in memory.
    """
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise InputError(f"vLLM cannot be imported ({error}). Install it with `pip install pd_trl[vllm]`.") from None
    options: dict[str, Any] = {"dtype": str(source.resolved_dtype).removeprefix("torch."), "seed": config.seed}
    lora = None
    if source.base is not None:
        options |= {"enable_lora": True, "max_lora_rank": _rank_of(source)}
        lora = LoRARequest("policy", 1, str(source.folder))
    engine = LLM(
        model=str(source.base or source.folder),
        trust_remote_code=source.trust_remote_code,
        # Without it, the temperature and penalties of the model's generation_config.json would count.
        generation_config="vllm",
        **{**options, **(engine_kwargs or {})},
    )
    ends = _ends(source)
    for start in range(0, len(prompts), PROMPTS_PER_CALL):
        rows = range(start, min(len(prompts), start + PROMPTS_PER_CALL))
        sampling = [
            SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k,
                max_tokens=config.max_new_tokens,
                seed=_seed(config.seed, keys[i]),
                stop_token_ids=ends,
            )
            for i in rows
        ]
        requests = [{"prompt_token_ids": prompts[i]} for i in rows]
        for i, result in zip(
            rows, engine.generate(requests, sampling, lora_request=lora, use_tqdm=False), strict=True
        ):
            output = result.outputs[0]
            tokens = list(output.token_ids)
            end = next((k for k, token in enumerate(tokens) if token in ends), None)
            yield Decoded(i, tokens[:end], output.finish_reason == "stop")


def _rank_of(source: PolicySource) -> int:
    from peft import PeftConfig

    rank = int(getattr(PeftConfig.from_pretrained(str(source.folder)), "r", 16))
    # vLLM takes these ranks only.
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _ends(source: PolicySource) -> list[int]:
    from transformers import GenerationConfig

    folder = source.base or source.folder
    own = None
    if (folder / "generation_config.json").is_file():
        own = GenerationConfig.from_pretrained(str(folder)).eos_token_id
    ends = {token for token in (own if isinstance(own, list) else [own]) if token is not None}
    if source.tokenizer.eos_token_id is not None:
        ends.add(source.tokenizer.eos_token_id)
    return sorted(ends)


def _seed(seed: int, key: str) -> int:
    return int.from_bytes(blake2b(repr((seed, key)).encode(), digest_size=4).digest(), "big")
