"""[`score_responses`]: rewards of single responses, by the engine that scores pairs."""

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..data.responses import response_texts
from ..data.sources import require_dataset
from ..data.validation import check_aspect_names
from ..errors import InputError, InputTypeError
from .backends import Scorer
from .pairs import scoring_folder, with_columns
from .reward_models import RewardModel, check_reward_models, named_models
from .run import Scores, ScoringRun
from .settings import ScoringSettings

logger = logging.getLogger(__name__)

REWARD_PREFIX = "reward_"


def score_responses(
    prompts: Sequence[Any] | None,
    responses: Sequence[Any],
    reward_models: Mapping[str, RewardModel] | str | os.PathLike,
    *,
    chat: bool = False,
    max_length: int | None = None,
    tokens_per_batch: int | None = None,
    on_long: str = "truncate",
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | str | None = None,
    share_prefix: bool = True,
    backend: str = "engine",
    engine_kwargs: Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    torch_compile: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """
    Rewards of responses to prompts, as they are: a length term that a model was trained with is not subtracted. The difference
    of two of them is the raw gap of [`score_pairs`].

    Example:

    ```python
    >>> from pd_trl import score_responses

    >>> rewards = score_responses(
    ...     ["What is 2 + 2?", "Name a colour."], [["4", "5"], ["Blue."]], {"quality": "me/reward-model"}, chat=True
    ... )
    >>> rewards["quality"][0].argmax()
    0
    ```

    Args:
        prompts (sequence of `str` or of lists of messages, *optional*):
            The prompts. `None` where each response is a whole conversation.
        responses (sequence of `str`, of lists of messages, or of lists of these):
            A response to each prompt, or a list of responses to each.
        reward_models (`dict`):
            Name to reward model: the path or Hub id of a model or LoRA adapter, a model, or a tuple of a model and its tokenizer.
            The name of one model, and no dict, is all its outputs by their names, see [`score_pairs`].
        chat (`bool`, *optional*, defaults to `False`):
            Whether strings become messages of the user and the assistant, which the chat template of each model then formats.
            Otherwise a prompt and its response are joined as they are.
        on_long (`str`, *optional*, defaults to `"truncate"`):
            What to do with more than `max_length` tokens: `"truncate"` the start of the prompt and count it, or raise an `"error"`.
        max_length, tokens_per_batch, tokenizer, dtype, share_prefix, backend, engine_kwargs, attn_implementation, torch_compile, trust_remote_code:
            See [`score_pairs`].

    Returns:
        `dict` of `str` to `np.ndarray`: rewards by each model (nats, float32), in the order of `responses`, shape
        `(num_responses,)`. Where these are lists, a list of such arrays, one for each prompt.

    Raises:
        InputError: On unusable texts or models.
    """
    if on_long == "drop":
        raise InputError("`on_long` must be 'truncate' or 'error' here, since each response gets a reward.")
    settings = ScoringSettings(
        max_length=max_length, tokens_per_batch=tokens_per_batch, on_long=on_long, tokenizer=tokenizer, dtype=dtype,
        share_prefix=share_prefix, backend=backend, engine_kwargs=engine_kwargs, attn_implementation=attn_implementation,
        torch_compile=torch_compile, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    reward_models = named_models(reward_models, trust_remote_code)
    check_reward_models(reward_models)
    flat, texts, sizes = _flattened(prompts, responses)
    rows = response_texts(_as_rows(flat, texts, chat))
    rewards, _ = _rewards(rows, reward_models, settings, None)
    if sizes is None:
        return dict(rewards)
    ends = np.cumsum(sizes)[:-1]
    return {name: np.split(values, ends) for name, values in rewards.items()}


def score_response_rows(
    rows: Dataset,
    reward_models: Mapping[str, RewardModel] | str | os.PathLike,
    *,
    column_mapping: Mapping[str, str] | None = None,
    output_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> Dataset:
    """
    The rows of a data set of single responses with `reward_<name>` (float32, nats) by each model beside their columns.

    Args:
        rows ([`~datasets.Dataset`]): See [`~data.responses.response_texts`], as `column_mapping`.
        reward_models (`dict`): Name to reward model, see [`score_pairs`].
        column_mapping (`dict`, *optional*): Our names `prompt`, `response` and `messages` to those of the data.
        output_dir (`str`, *optional*): Folder for shards, from which the same call goes on. `None` keeps nothing.
        settings: The fields of [`ScoringSettings`].
    """
    reward_models = named_models(reward_models, settings.get("trust_remote_code", False))
    check_reward_models(reward_models)
    check_aspect_names(reward_models)
    texts = response_texts(require_dataset(rows, "rows"), column_mapping)
    rewards, kept = _rewards(texts, reward_models, ScoringSettings(**settings), output_dir)
    scored = rows
    if not kept.all():
        logger.warning("%d of %d responses are too long and are dropped.", (~kept).sum(), kept.size)
        scored = scored.select(np.flatnonzero(kept))
        if not len(scored):
            raise InputError("No response is left: all are longer than `max_length`. Use on_long='truncate'.")
    columns = {f"{REWARD_PREFIX}{name}": values for name, values in rewards.items()}
    for name in set(columns) & set(scored.column_names):
        logger.warning("The data have a column %r already: the new rewards take its place.", name)
    return with_columns(scored, columns, kept)


def _rewards(
    texts: Dataset,
    reward_models: Mapping[str, RewardModel],
    settings: ScoringSettings,
    output_dir: str | os.PathLike | None,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Rewards by each model, in the order of `reward_models`, and whether each row is kept."""
    with scoring_folder(output_dir) as folder, contextlib.closing(ScoringRun(texts, settings, folder)) as run:
        rewards, kept = reward_columns(run.each(run.scorers(reward_models)), len(texts))
    return {name: rewards[name] for name in reward_models}, kept


def reward_columns(
    found: Iterable[tuple[Scorer, Scores]], num_rows: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Rewards by each model, and whether each row is kept."""
    columns: dict[str, NDArray[np.float32]] = {}
    kept = np.ones(num_rows, dtype=bool)
    for scorer, (rewards, _, inside) in found:
        kept &= inside
        columns |= {name: rewards[:, k] for k, name in enumerate(scorer.aspects)}
        # The next model is loaded while the loop still holds this one.
        del scorer
    return columns, kept


def _flattened(
    prompts: Sequence[Any] | None, responses: Sequence[Any]
) -> tuple[list[Any] | None, list[Any], list[int] | None]:
    """One prompt and one response a row, and how many responses each prompt has, where they are lists."""
    for name, values in (("prompts", prompts), ("responses", responses)):
        if values is not None and (isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__")):
            raise InputTypeError(f"`{name}` must be a list, one entry for each prompt, got {type(values).__name__}.")
    prompts, responses = (None if values is None else list(values) for values in (prompts, responses))  # type: ignore[assignment]
    if not responses:
        raise InputError("There is nothing to score: `responses` is empty.")
    if prompts is not None and len(prompts) != len(responses):
        raise InputError(
            f"`prompts` and `responses` must be of one length, one response or list of responses to each prompt, got {len(prompts)} "
            f"and {len(responses)}."
        )
    nested = [_is_several(response) for response in responses]
    if not any(nested):
        return list(prompts) if prompts is not None else None, list(responses), None
    if not all(nested):
        row = nested.index(False)
        raise InputError(
            f"`responses` mixes single responses and lists of them: entry {row} is a single one. Make it a list of one."
        )
    sizes = [len(several) for several in responses]
    flat = [prompt for prompt, size in zip(prompts, sizes, strict=True) for _ in range(size)] if prompts else None
    texts = [response for several in responses for response in several]
    if not texts:
        raise InputError("There is nothing to score: all lists of responses are empty.")
    return flat, texts, sizes


def _is_several(response: Any) -> bool:
    """Whether this is a list of responses, and not one in messages."""
    return isinstance(response, (list, tuple)) and not any(isinstance(part, Mapping) for part in response)


def _as_rows(prompts: list[Any] | None, responses: list[Any], chat: bool) -> Dataset:
    columns = {"response": responses} if prompts is None else {"prompt": prompts, "response": responses}
    for name, values in columns.items():
        bad = [i for i, value in enumerate(values) if not isinstance(value, (str, list, tuple)) or not value]
        if bad:
            raise InputError(
                f"A {name} must be a text that is not empty, or a list of messages, but number {bad[0]} is {str(values[bad[0]])[:60]!r}."
            )
    if prompts is None and any(isinstance(response, str) for response in responses):
        raise InputError(
            "Without `prompts`, each response must be a whole conversation in messages, and some are texts."
        )
    if chat or any(not isinstance(value, str) for values in columns.values() for value in values):
        roles = {"prompt": "user", "response": "assistant"}
        columns = {name: [_messages(value, roles[name]) for value in values] for name, values in columns.items()}
    return Dataset.from_dict(columns)


def _messages(value: Any, role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)
