"""A second round of training: on the same pairs again, or on new answers of the aligned policy, labelled and selected anew."""

from typing import Any

from datasets import Dataset

from ...data.preferences import to_preferences
from ...selection.filter import PDFilter
from ..simulation.annotators import rate_response
from ..simulation.data import pair_row
from ..simulation.judge import generate_responses
from .cell import Cell
from .settings import DEFAULT_PROXY

_SAMPLES = 4
_TEMPERATURE = 1.0


def second_round(cell: Cell, model: Any, first: Dataset, kind: str) -> Dataset:
    """
    Pairs of a second round.

    Args:
        cell ([`Cell`]): The cell of the first round.
        model (model): The policy after the first round.
        first ([`~datasets.Dataset`]): Pairs of the first round.
        kind (`str`): `"same"` repeats them; `"resampled"` has the policy answer every training prompt four times, labels each
            pair of answers by one aspect's annotator, scores them by the proxies of the first round and keeps as many of
            lowest PD; `"resampled, random"` keeps as many at random.
    """
    if kind == "same":
        return first
    from ...scoring import score_pairs

    fresh = to_preferences(_answer_pairs(cell, model), seed=cell.settings.seed)
    count = min(len(first), len(fresh))
    if kind == "resampled, random":
        return PDFilter(count, selector="random", source="ratings", seed=cell.settings.seed)(fresh)
    return PDFilter(count)(score_pairs(fresh, cell.proxies(DEFAULT_PROXY)))


def _answer_pairs(cell: Cell, model: Any) -> Dataset:
    """All pairs of a policy's different answers to each training prompt, labelled and rated by the world's annotators."""
    prompts = list(dict.fromkeys(cell.preferences["prompt"]))
    answers: dict[str, dict[str, None]] = {prompt: {} for prompt in prompts}
    for sample in range(_SAMPLES):
        seed = 1000 * cell.settings.seed + sample
        for row in generate_responses(model, cell.tokenizer, prompts, seed, temperature=_TEMPERATURE):
            if row["output"]:
                answers[row["instruction"]][row["output"]] = None
    rows = []
    for prompt, texts in answers.items():
        golds = {text: cell.world.gold_rewards(prompt, text) for text in texts}
        rated = {text: (gold, rate_response(cell.world, prompt, text, gold)) for text, gold in golds.items()}
        listed = list(texts)
        for i, a in enumerate(listed):
            for b in listed[i + 1 :]:
                rows.append(pair_row(cell.world, prompt, a, b, rated[a], rated[b]))
    return Dataset.from_list(rows)
