"""What heads read of a batch: where the responses are, features that are computed once, and their mean and scale."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ....errors import InputError
from ....models.heads.configuration import MultiAspectRewardConfig
from ....models.heads.reading import StandardizedLinear, response_mask
from ....models.responses import common_start, prompt_ids, split_conversation, template_options

logger = logging.getLogger(__name__)

# Tokens of each response of a prepared row.
RESPONSE_TOKENS = ("chosen_response_tokens", "rejected_response_tokens")
# Pairs on which mean and standard deviation of the features are measured.
MEASURED_PAIRS = 512


def needs_responses(model: Any) -> bool:
    """Whether a model must be told where responses are."""
    config = getattr(model, "config", None)
    return isinstance(config, MultiAspectRewardConfig) and config.pooling == "mean"


def with_response_tokens(dataset: Any, tokenizer: Any, dataset_name: str) -> Any:
    """
    The tokenised rows with `chosen_response_tokens` and `rejected_response_tokens`: tokens of each response, end tokens too.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): Rows with `chosen_ids` and `rejected_ids`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer.
        dataset_name (`str`): Name of the set.

    Raises:
        InputError: Where nothing says where a response begins.
    """

    def counted(row: Mapping[str, Any]) -> dict[str, int]:
        if all(row.get(name) is not None for name in RESPONSE_TOKENS):
            return {name: row[name] for name in RESPONSE_TOKENS}
        if row.get("prompt") is None and row.get("chosen") is None:
            raise InputError(
                f"The heads read the mean over the response, and the {dataset_name} set holds tokens alone. Give the columns "
                f"{' and '.join(map(repr, RESPONSE_TOKENS))}, the number of tokens of each response."
            )
        found = {}
        for name, side in zip(RESPONSE_TOKENS, ("chosen", "rejected"), strict=True):
            prompt = split_conversation(row.get("prompt"), row[side], lambda: f"a row of the {dataset_name} set")
            start = common_start(prompt_ids(tokenizer, prompt, template_options(row)), row[f"{side}_ids"])
            found[name] = max(1, len(row[f"{side}_ids"]) - start)
        return found

    has_all = isinstance(dataset, Dataset) and set(RESPONSE_TOKENS) <= set(dataset.column_names)
    return dataset if has_all else dataset.map(counted)


class ResponseCollator:
    """
    Adds `response_mask` of shape `(2 * num_pairs, width)` to the batches of a collator, the chosen responses first.

    Args:
        collator (callable): Makes a batch of a list of rows.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]):
        self.collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator([{k: v for k, v in row.items() if k not in RESPONSE_TOKENS} for row in examples])
        counts = torch.tensor([row[name] for name in RESPONSE_TOKENS for row in examples])
        return {**batch, "response_mask": response_mask(batch["attention_mask"], counts)}


class FrozenFeatures:
    """
    Features of a backbone that is not trained: of each conversation they are computed once, and kept in memory.

    Args:
        model ([`MultiAspectRewardModel`]): The model.
    """

    def __init__(self, model: Any):
        self.model = model
        self.known: dict[bytes, torch.Tensor] = {}

    def put(self, ids: Any, response_tokens: int, features: torch.Tensor) -> None:
        """Takes features of a conversation that were computed elsewhere, shape `(num_features,)`, such as from a file."""
        self.known[_row_key(np.asarray(ids), response_tokens)] = features

    def of(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Features of a batch, shape `(batch_size, num_features)`, on its device."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        responses = inputs.get("response_mask")
        counts = [0] * len(ids) if responses is None else responses.sum(1).tolist()
        rows = zip(ids.cpu(), mask.cpu(), counts, strict=True)
        keys = [_row_key(row[inside].numpy(), count) for row, inside, count in rows]
        # A batch may hold a conversation twice.
        missing = list({key: i for i, key in enumerate(keys) if key not in self.known}.values())
        if missing:
            names = ("input_ids", "attention_mask", "response_mask")
            part = {name: inputs[name][missing] for name in names if inputs.get(name) is not None}
            for i, row in zip(missing, self.model.read(**part).cpu(), strict=True):
                self.known[keys[i]] = row
        return torch.stack([self.known[key] for key in keys]).to(ids.device)


def _row_key(ids: np.ndarray, response_tokens: int) -> bytes:
    return hashlib.blake2b(ids.astype(np.int64).tobytes() + b"%d" % response_tokens, digest_size=16).digest()


def heads_under(model: Any) -> Any:
    """The model with heads under an adapter and the wrappers of distributed training."""
    while hasattr(model, "module") and not isinstance(getattr(model, "config", None), MultiAspectRewardConfig):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def measure_features(trainer: Any) -> None:
    """
    Sets mean and scale of a standardized head that was not trained yet, from evenly spaced rows of the training set.

    Raises:
        InputError: When the training set is a stream.
    """
    heads = [part for part in trainer.model.modules() if isinstance(part, StandardizedLinear)]
    if not heads or all(head.is_measured for head in heads):
        return
    rows = trainer.train_dataset
    if not isinstance(rows, Dataset):
        raise InputError(
            "Standardized features are measured on the training set before the first step: pass a `Dataset`."
        )
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MEASURED_PAIRS)).astype(int))
    model, size = heads_under(trainer.model), max(1, trainer.args.per_device_train_batch_size)
    found = []
    for start in range(0, len(chosen), size):
        batch = trainer.data_collator([rows[int(i)] for i in chosen[start : start + size]])
        batch = {name: value.to(trainer.args.device) for name, value in batch.items() if hasattr(value, "to")}
        if trainer.frozen_features_ is not None:
            found.append(trainer.frozen_features_.of(batch))
            continue
        names = ("input_ids", "attention_mask", "response_mask")
        found.append(model.read(**{name: batch[name] for name in names if name in batch}))
    features = torch.cat(found)
    for head in heads:
        head.measure(features.to(head.weight.device))
    logger.info("Mean and scale of %d features were measured on %d responses.", features.shape[1], len(features))
