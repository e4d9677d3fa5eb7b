"""[`evaluate_rewards`]: how often reward models are right about pairs, and whether length alone would be."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from ..data import load_source
from ..errors import InputError
from ..hub import split_revision
from ..runs.artifacts import digest_of
from ..runs.progress import Bar
from ..runs.results import save_results
from ..runs.row_log import RowLog
from ..safety.schema import number, sequence
from ..scoring.responses import conversation, score_conversations
from ..scoring.reward_models import RewardModel, load_scorers
from ..scoring.scorer import RewardModelScorer
from ..text.tables import printable
from .reward_accuracy import Accuracy, RewardEvaluation, accuracies_of
from .reward_bench import section_accuracies
from .reward_data import Examples, to_examples

logger = logging.getLogger(__name__)

# What a kill can lose.
CONVERSATIONS_PER_CALL = 512


def evaluate_rewards(
    reward_models: Mapping[str, RewardModel],
    dataset: str | os.PathLike | Dataset = "allenai/reward-bench-2",
    *,
    split: str = "test",
    revision: str | None = None,
    name: str | None = None,
    chat: bool | None = None,
    max_length: int | None = None,
    tokens_per_batch: int | None = None,
    output_dir: str | os.PathLike | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool = False,
) -> RewardEvaluation:
    """
    Accuracy of reward models on pairs, by subset, beside what guessing and "longer wins" would give.

    A pair counts as right where the reward of the right response is higher; equal rewards are wrong, as in RewardBench. One right
    response among several is right where it has the highest reward; equal highest ones share the point. Several right ones are
    right where each is above all wrong ones. (RewardBench 2 weighs its subset Ties in another way for its leaderboard.)

    Of RewardBench's subsets, the sections Chat, Chat Hard, Safety and Reasoning are given too, weighed as on its leaderboard, and
    "RewardBench score", their mean; "all" is the mean over the examples.

    Rewards are raw: a length term that a model was trained with is not subtracted. Test on pairs that the models were not trained
    on.

    Args:
        reward_models (`dict`):
            Name to reward model: the path or Hub id of a model or LoRA adapter, a model, or a tuple of a model and its tokenizer.
        dataset (`str`, path, or [`~datasets.Dataset`], *optional*, defaults to `"allenai/reward-bench-2"`):
            Pairs or preferences in the data contract, or the columns of allenai/reward-bench or reward-bench-2.
        split (`str`, *optional*, defaults to `"test"`):
            Split of a data set on the Hub; allenai/reward-bench has `filtered` and `raw`.
        revision (`str`, *optional*):
            Revision of a data set on the Hub.
        name (`str`, *optional*):
            Name of the data set in the results. `None` is its id or path.
        chat (`bool`, *optional*):
            Whether strings become messages of the user and the assistant. `None` is yes for RewardBench's columns where the
            tokenizer has a chat template, and as the data is for ours.
        max_length (`int`, *optional*):
            Most tokens; the start of a longer conversation is cut. `None` is what each model has positions for.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted.
        output_dir (`str`, *optional*):
            Folder for `eval_results.json` and the rewards, which are not computed twice. `None` keeps nothing.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.

    Returns:
        [`RewardEvaluation`]: an accuracy for each model and subset, and for all examples.

    Raises:
        InputError: On unusable data or models.
    """
    rows = dataset
    if not isinstance(dataset, Dataset):
        source, pinned = (str(dataset), None) if Path(dataset).exists() else split_revision(str(dataset))
        name, revision = name or source, revision or pinned
        rows = load_source(source, split=split, revision=revision)
    examples = to_examples(rows)
    if any(examples.left_out.values()):
        logger.warning(
            "Left out of the test: %s.", ", ".join(f"{n} {why}" for why, n in examples.left_out.items() if n)
        )
    entries: list[Accuracy] = []
    digests: dict[str, str] = {}
    for scorer in load_scorers(reward_models, dtype=dtype, trust_remote_code=trust_remote_code):
        rewards = _rewards(scorer, examples, chat, max_length, tokens_per_batch, output_dir)
        for k, model in enumerate(scorer.aspects):
            accuracies = accuracies_of(model, examples.examples, [(r[:, k], w[:, k]) for r, w in rewards])
            entries += accuracies + (section_accuracies(accuracies) if examples.benchmark else [])
            digests[model] = scorer.digest
    counts = {"examples": len(examples.examples), **examples.left_out}
    result = RewardEvaluation(_in_order(entries, list(reward_models)), name or "custom", revision, counts, digests)
    if output_dir is not None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_results(result.results(), output_dir)
    return result


def _in_order(entries: list[Accuracy], models: list[str]) -> list[Accuracy]:
    return sorted(entries, key=lambda entry: models.index(entry.model))


def _rewards(
    scorer: RewardModelScorer,
    examples: Examples,
    chat: bool | None,
    max_length: int | None,
    tokens_per_batch: int | None,
    output_dir: str | os.PathLike | None,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Rewards of the right and of the wrong responses of each example, shapes `(num_responses, num_aspects)`."""
    if chat and not scorer.tokenizer.chat_template:
        raise InputError(f"The tokenizer of {', '.join(scorer.aspects)} has no chat template, which `chat` needs.")
    templated = (examples.benchmark and bool(scorer.tokenizer.chat_template)) if chat is None else chat
    texts = [
        [conversation(scorer, e.prompt, response, chat=templated) for response in (*e.right, *e.wrong)]
        for e in examples.examples
    ]
    keys = [[digest_of(text) for text in group] for group in texts]
    distinct: dict[str, tuple[str, Any]] = {}
    for i, (ks, ts) in enumerate(zip(keys, texts, strict=True)):
        for key, text in zip(ks, ts, strict=True):
            distinct.setdefault(key, (f"a response of example {i} ({examples.examples[i].subset})", text))
    scored = _score_distinct(scorer, distinct, max_length, tokens_per_batch, output_dir)
    table = [np.array([scored[key] for key in group], dtype=np.float64) for group in keys]
    return [(rows[: len(e.right)], rows[len(e.right) :]) for rows, e in zip(table, examples.examples, strict=True)]


def _score_distinct(
    scorer: RewardModelScorer,
    distinct: Mapping[str, tuple[str, Any]],
    max_length: int | None,
    tokens_per_batch: int | None,
    output_dir: str | os.PathLike | None,
) -> dict[str, list[float]]:
    """Rewards of each distinct conversation, given by its key with what to call it; those in the log of `output_dir` are not computed again."""
    label = "+".join(scorer.aspects)
    if output_dir is None:
        return _score_missing(scorer, distinct, {}, None, max_length, tokens_per_batch)
    identity = {"model": scorer.digest, "aspects": scorer.aspects, "max_length": max_length}
    form = sequence(number(), length=len(scorer.aspects))
    with RowLog(Path(output_dir) / f"rewards-{_file_name(label)}.jsonl", identity, form) as log:
        return _score_missing(scorer, distinct, dict(log.rows), log, max_length, tokens_per_batch)


def _names(distinct: Mapping[str, tuple[str, Any]], keys: Sequence[str]) -> Callable[[int], str]:
    return lambda index: distinct[keys[index]][0]


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.+-]", "_", label)


def _score_missing(
    scorer: RewardModelScorer,
    distinct: Mapping[str, tuple[str, Any]],
    done: dict[str, list[float]],
    log: RowLog | None,
    max_length: int | None,
    tokens_per_batch: int | None,
) -> dict[str, list[float]]:
    missing = [key for key in distinct if key not in done]
    cut = 0
    label = f"Scoring {', '.join(scorer.aspects)}"
    with Bar(
        total=len(distinct), initial=len(distinct) - len(missing), desc=printable(label), unit="text", disable=None
    ) as bar:
        for start in range(0, len(missing), CONVERSATIONS_PER_CALL):
            keys = missing[start : start + CONVERSATIONS_PER_CALL]
            rewards, truncated = score_conversations(
                scorer,
                [distinct[key][1] for key in keys],
                max_length=max_length,
                tokens_per_batch=tokens_per_batch,
                progress=bar.update,
                name=_names(distinct, keys),
            )
            cut += truncated
            for key, row in zip(keys, rewards.tolist(), strict=True):
                done[key] = row
                if log is not None:
                    log.add(key, row)
    if cut:
        logger.warning(
            "%d conversations are longer than %s takes; their start is cut.", cut, ", ".join(scorer.aspects)
        )
    return done
