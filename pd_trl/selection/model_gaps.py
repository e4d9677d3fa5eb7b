"""Missing gaps, computed by the reward models of a [`PDFilter`]."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..runs.identity import data_key
from .aspect_columns import GAP_PREFIX

# Rows of a stream that are scored together.
STREAM_ROWS = 10_000
_TEXT_COLUMNS = ("pair_id", "prompt", "chosen", "rejected", "tools", "chat_template_kwargs")


class ModelGaps:
    """
    Adds the gaps that are missing.

    Args:
        reward_models (`dict` or `str`, *optional*): A reward model for each aspect, or one name for all outputs of a model.
        output_dir (`str`, *optional*): Folder for the shards. Each data set gets a subfolder.
        chat (`bool`, *optional*, defaults to `False`): Whether strings are scored as messages.
    """

    def __init__(
        self,
        reward_models: Mapping[str, Any] | str | os.PathLike | None,
        output_dir: str | os.PathLike | None,
        chat: bool = False,
    ):
        self.reward_models = _by_aspect(reward_models)
        self.output_dir, self.chat = output_dir, chat
        self._loaded: dict[tuple[str, ...], list[Any]] = {}

    def missing(self, column_names: Sequence[str]) -> list[str]:
        """The aspects without a gap column."""
        return [aspect for aspect in self.reward_models if f"{GAP_PREFIX}{aspect}" not in column_names]

    def add(self, dataset: Dataset) -> Dataset:
        """`dataset` with the gaps. The models are loaded one after the other."""
        missing = self.missing(dataset.column_names)
        return self._score(dataset, missing) if missing else dataset

    def add_to_part(self, rows: Dataset) -> Dataset:
        """A part of a stream, with the gaps. All models are loaded once and stay in memory for the next part."""
        missing = self.missing(rows.column_names)
        if not missing:
            return rows
        key = tuple(missing)
        if key not in self._loaded:
            from ..scoring.backends import scorers_of

            self._loaded[key] = list(scorers_of({name: self.reward_models[name] for name in missing}, "engine"))
        return self._score(rows, missing, scorers=self._loaded[key])

    def _score(self, dataset: Dataset, missing: Sequence[str], **options: Any) -> Dataset:
        from .. import scoring

        folder = None
        if self.output_dir is not None:
            texts = dataset.select_columns([name for name in _TEXT_COLUMNS if name in dataset.column_names])
            folder = Path(self.output_dir) / data_key(texts)[:16]
        models = {name: self.reward_models[name] for name in missing}
        return scoring.score_pairs(dataset, models, output_dir=folder, chat=self.chat, **options)


def _by_aspect(reward_models: Mapping[str, Any] | str | os.PathLike | None) -> dict[str, Any]:
    if isinstance(reward_models, (str, os.PathLike)):
        from ..scoring.reward_models import named_models

        return dict(named_models(reward_models))
    return dict(reward_models or {})
