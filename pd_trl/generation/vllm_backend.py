"""Decoding with vLLM, on the same prompt tokens as with transformers."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..models.vllm import import_vllm, vllm_engine
from .decoding import Decoded, end_tokens, prompt_seed, up_to_end
from .policies import PolicySource
from .settings import DecodingConfig

# Prompts handed over at once, after which finished outputs are kept; vLLM forms its own batches among them.
PROMPTS_PER_CALL = 256


class VllmDecoder:
    """
    A model in an engine of vLLM. Draws have a seed for each prompt, but come from vLLM's own generator, so they differ from those
    of [`decode`], and vLLM's kernels do not promise the same rounding for other batches.

    Args:
        source ([`PolicySource`]): The model, a folder or a Hub id; LoRA adapters are applied to their base.
        config ([`DecodingConfig`]): How to decode.
        engine_kwargs (`dict`, *optional*): Further arguments of `vllm.LLM`, such as `{"tensor_parallel_size": 2}`.

    Raises:
        InputError: When vLLM is not installed, or the model is in memory.
    """

    def __init__(self, source: PolicySource, config: DecodingConfig, engine_kwargs: dict[str, Any] | None = None):
        self.vllm, self.config = import_vllm(), config
        defaults: dict[str, Any] = {"seed": config.seed}
        self.lora = None
        if source.base is not None:
            from vllm.lora.request import LoRARequest

            defaults |= {"enable_lora": True, "max_lora_rank": _rank_of(source)}
            self.lora = LoRARequest("policy", 1, str(source.folder))
        self.engine = vllm_engine(
            source.base or source.folder,
            dtype=source.dtype,
            trust_remote_code=source.trust_remote_code,
            engine_kwargs=engine_kwargs,
            defaults=defaults,
            # Without it, the temperature and penalties of the model's generation_config.json would count.
            generation_config="vllm",
        )
        self.ends = end_tokens(_own_ends(source), source.tokenizer)

    def decode(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[Decoded]:
        """
        Outputs in the order of the prompts.

        Args:
            prompts (sequence of `list` of `int`): Token ids of each prompt.
            keys (sequence of `str`): What the seed of each prompt depends on.
        """
        config = self.config
        for start in range(0, len(prompts), PROMPTS_PER_CALL):
            rows = range(start, min(len(prompts), start + PROMPTS_PER_CALL))
            sampling = [
                self.vllm.SamplingParams(
                    temperature=config.temperature,
                    top_p=config.top_p,
                    top_k=config.top_k,
                    max_tokens=config.max_new_tokens,
                    seed=prompt_seed(config.seed, keys[i], num_bytes=4),
                    stop_token_ids=self.ends,
                )
                for i in rows
            ]
            requests = [{"prompt_token_ids": prompts[i]} for i in rows]
            results = self.engine.generate(requests, sampling, lora_request=self.lora, use_tqdm=False)
            for i, result in zip(rows, results, strict=True):
                output = result.outputs[0]
                tokens, _ = up_to_end(list(output.token_ids), self.ends)
                yield Decoded(i, tokens, output.finish_reason == "stop")


def _rank_of(source: PolicySource) -> int:
    from peft import PeftConfig

    rank = int(getattr(PeftConfig.from_pretrained(str(source.folder)), "r", 16))
    # vLLM takes these ranks only.
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _own_ends(source: PolicySource) -> int | list[int] | None:
    from transformers import GenerationConfig

    folder = source.base or source.folder
    if not (folder / "generation_config.json").is_file():
        return None
    return GenerationConfig.from_pretrained(str(folder)).eos_token_id
