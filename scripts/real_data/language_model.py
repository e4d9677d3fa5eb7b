"""Frozen states of a pretrained language model: of each response's mean and last token, at several layers, kept on disk."""

import copy
import inspect
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pd_trl.errors import InputError
from pd_trl.models.heads.names import other_heads_left_out
from pd_trl.models.responses import common_start, prompt_ids
from pd_trl.runs.artifacts import digest_of
from pd_trl.runs.model_identity import model_key

logger = logging.getLogger(__name__)

# Tokens that are read: the end of a prompt, the start of a response. Length is counted over all tokens of the response.
PROMPT_TOKENS, RESPONSE_TOKENS = 1024, 2048
# What is kept of each layer: states as they leave it, and after the final norm, as heads read the last layer they keep.
KINDS = ("mean", "mean normed", "last", "last normed")
_TOKENS_PER_BATCH = 1024
_PROMPTS_PER_LINE = 10


class FrozenLanguageModel:
    """
    Reads each prompt once and its responses after it.

    Args:
        folder (`Path`): Folder of a decoder with a chat template, such as `scripts/smollm2.py` makes.
        cache (`Path`): Folder for the states.
        layers (sequence of `int`): Layers to keep, counted from 1. What lies behind the last is not computed.
        dtype (`str`, *optional*, defaults to `"float32"`): Of the computation. A CPU with bfloat16 of its own is up to twice
            as fast in `"bfloat16"`, one without is six times slower.
        response_tokens (`int`, *optional*, defaults to 2048): What it reads of the start of a response, in tokens.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        layers: Sequence[int],
        dtype: str = "float32",
        response_tokens: int = RESPONSE_TOKENS,
    ):
        from transformers import AutoTokenizer

        self.folder, self.cache, self.layers = Path(folder), Path(cache), tuple(layers)
        self.response_tokens = response_tokens
        if not (self.folder / "config.json").is_file():
            raise InputError(
                f"{folder} holds no model. Make it with `python scripts/smollm2.py --output_dir {folder}`, name another folder as "
                "--lm, or leave these proxies out: --proxies ngrams."
            )
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.dtype = dtype
        # Without float32 in it, what was read before there was a choice stays valid.
        self.key = model_key(self.folder) + ("" if dtype == "float32" else f" {dtype}")
        self._model: Any = None

    def encoded(self, texts: list[tuple[str, str]]) -> tuple[list[list[int]], NDArray[np.integer]]:
        """Tokens of each conversation, and how many of them are the response's, as [`~pd_trl.PDRewardTrainer`] counts them."""
        prompts = {prompt: prompt_ids(self.tokenizer, _messages(prompt), {}) for prompt, _ in texts}
        ids = [
            self.tokenizer.apply_chat_template(_messages(prompt, response), tokenize=True, return_dict=True)[
                "input_ids"
            ]
            for prompt, response in texts
        ]
        starts = [common_start(prompts[prompt], row) for (prompt, _), row in zip(texts, ids, strict=True)]
        return ids, np.array([len(row) - start for row, start in zip(ids, starts, strict=True)])

    def states(
        self, texts: list[tuple[str, str]], ids: list[list[int]], counts: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """States of shape `(num_texts, len(KINDS), num_layers, hidden_size)`, from disk where they are there."""
        settings = [self.key, self.layers, PROMPT_TOKENS, self.response_tokens]
        # A file a response, so that assignments, folds and sets that share responses share what was read of them.
        paths = [self.cache / f"{digest_of([settings, row, int(n)])}.npy" for row, n in zip(ids, counts, strict=True)]
        groups: dict[str, list[int]] = {}
        for i, (prompt, _) in enumerate(texts):
            if not paths[i].is_file():
                groups.setdefault(prompt, []).append(i)
        self.cache.mkdir(parents=True, exist_ok=True)
        for done, group in enumerate(groups.values()):
            if done % _PROMPTS_PER_LINE == 0:
                logger.info("Reading the responses of prompt %d of %d.", done + 1, len(groups))
            for i, values in zip(group, self._read([ids[i] for i in group], counts[group]), strict=True):
                temporary = paths[i].with_name(f".{os.getpid()}-{paths[i].name}")
                np.save(temporary, values)
                temporary.replace(paths[i])
        return np.stack([np.load(path) for path in paths])

    @torch.inference_mode()
    def _read(self, ids: list[list[int]], counts: NDArray[np.integer]) -> NDArray[np.float32]:
        """States of the responses of one prompt, in batches of similar length after a copy of the prompt's cache."""
        prompt = ids[0][: len(ids[0]) - int(counts[0])][-PROMPT_TOKENS:]
        responses = [row[len(row) - int(n) :][: self.response_tokens] for row, n in zip(ids, counts, strict=True)]
        result = np.empty((len(ids), len(KINDS), len(self.layers), self.model.config.hidden_size), dtype=np.float32)
        order, start, cache = sorted(range(len(ids)), key=lambda i: -len(responses[i])), 0, self._cache_of(prompt)
        while start < len(order):
            size = max(1, _TOKENS_PER_BATCH // len(responses[order[start]]))
            rows, start = order[start : start + size], start + size
            result[rows] = self._batch(len(prompt), cache, [responses[i] for i in rows])
        return result

    def _cache_of(self, prompt: list[int]) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache()
        self.model(input_ids=torch.tensor([prompt]), use_cache=True, **{self._cache_name: cache})
        return cache

    def _batch(self, prompt_tokens: int, prompt: Any, responses: list[list[int]]) -> NDArray[np.float32]:
        # A copy for each batch: a cache that was written into is no longer the prompt's.
        cache = copy.deepcopy(prompt)
        cache.batch_repeat_interleave(len(responses))
        batch = self.tokenizer.pad({"input_ids": responses}, padding_side="right", return_tensors="pt")
        mask = batch["attention_mask"]
        seen = torch.cat([torch.ones(len(mask), prompt_tokens, dtype=mask.dtype), mask], dim=1)
        outputs = self.model(
            input_ids=batch["input_ids"], attention_mask=seen, use_cache=True, output_hidden_states=True,
            **{self._cache_name: cache},
        )  # fmt: skip
        weights, last = mask[:, :, None].float(), mask.sum(1) - 1
        rows, found = torch.arange(len(mask)), []
        for layer in self.layers:
            raw = outputs.hidden_states[layer]
            # transformers gives the state of the whole model's last layer with the norm.
            normed = raw if layer == self.depth else self.model.norm(raw)
            means = [(states.float() * weights).sum(1) / weights.sum(1) for states in (raw, normed)]
            found.append(torch.stack([*means, raw[rows, last].float(), normed[rows, last].float()], dim=1))
        return torch.stack(found, dim=2).numpy()

    @property
    def _cache_name(self) -> str:
        # transformers renames it in 5.40.
        return "cache" if "cache" in inspect.signature(self.model.forward).parameters else "past_key_values"

    @property
    def model(self) -> Any:
        """The model without the layers that are not read, loaded when first needed."""
        if self._model is None:
            from transformers import AutoModel

            with other_heads_left_out():
                self._model = AutoModel.from_pretrained(self.folder, dtype=getattr(torch, self.dtype)).eval()
            self.depth = self._model.config.num_hidden_layers
            # One more layer, since transformers puts the norm on the state of the last.
            kept = min(self.depth, max(self.layers) + 1)
            self._model.layers = self._model.layers[:kept]
            self._model.config.num_hidden_layers = kept
        return self._model


def _messages(prompt: str, response: str | None = None) -> list[dict[str, str]]:
    found = [{"role": "user", "content": prompt}]
    return found if response is None else [*found, {"role": "assistant", "content": response}]


def features_of(
    states: NDArray[np.float32], kept: Sequence[int], pooling: str, layers: Sequence[int]
) -> NDArray[np.float32]:
    """
    What heads read, shape `(num_texts, num_features)`: the last of `layers` after the norm, those before it as they are.

    Args:
        states (array of shape `(num_texts, len(KINDS), num_layers, hidden_size)`): See [`FrozenLanguageModel.states`].
        kept (sequence of `int`): Its layers.
        pooling (`str`): `"mean"` or `"last"`.
        layers (sequence of `int`): Layers to read.
    """
    places = [list(kept).index(layer) for layer in layers]
    raw, normed = KINDS.index(pooling), KINDS.index(f"{pooling} normed")
    parts = [states[:, raw, place] for place in places[:-1]] + [states[:, normed, places[-1]]]
    return np.concatenate(parts, axis=1)
