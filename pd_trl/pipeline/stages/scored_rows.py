"""What `score` is given: preferences, plain pairs, or single responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...data import aspects_of, effective_labels, prepare_preferences, read_pairs
from ...data.responses import holds_responses, response_columns
from ...errors import InputError
from ...scoring import score_pairs, score_response_rows, score_response_shard, score_shard
from ...scoring.single import REWARD_PREFIX
from ...selection.aspect_columns import GAP_PREFIX, VOTE_PREFIX
from ..mappings import mapping_of
from .inputs import rows_of

# Arguments that single responses do not have.
OF_THE_GAP = ("length_penalty", "length_correction")
_PAIRS = ({"chosen", "rejected"}, {"response_a", "response_b"}, {"chosen_response", "rejected_response"})
_EXAMPLE = "'prompt': '<column>', 'response': '<column>'"


@dataclass
class RowsToScore:
    """
    What is scored.

    Args:
        rows ([`~datasets.Dataset`]): Preferences, or single responses.
        part (`str`): `"pairs"` or `"responses"`.
        mapping (`dict`): Names of the columns of single responses.
        dropped (`dict`): Pairs of the source that give no preference, by reason.
    """

    rows: Dataset
    part: str = "pairs"
    mapping: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> list[str]:
        """Lines on what was dropped before anything was scored."""
        return [f"dropped, {reason}: {count:,}" for reason, count in self.dropped.items() if count]

    @property
    def prefix(self) -> str:
        """What the columns that are added begin with."""
        return GAP_PREFIX if self.part == "pairs" else REWARD_PREFIX

    def score(self, models: Mapping[str, Any], root: Path, settings: dict[str, Any]) -> Dataset:
        """The rows with what was scored."""
        if self.part == "pairs":
            return score_pairs(self.rows, models, output_dir=root, **settings)
        own = {name: value for name, value in settings.items() if name not in OF_THE_GAP}
        return score_response_rows(self.rows, models, column_mapping=self.mapping, output_dir=root, **own)

    def score_shard(self, models: Mapping[str, Any], shard: str, **options: Any) -> dict[str, int]:
        """One job's part of them."""
        if self.part == "pairs":
            return score_shard(self.rows, models, shard, **options)
        return score_response_shard(self.rows, models, shard, column_mapping=self.mapping, **options)


def rows_to_score(name: str | None, column_mapping: Mapping[str, Any] | str | None) -> RowsToScore:
    """
    Preferences as they are, plain pairs with their own label, or single responses: by the columns, or as they are mapped.

    Args:
        name (`str`, *optional*): A stage's folder, a file, or a Hub id.
        column_mapping (mapping or `str`, *optional*): Our names to those of the data.

    Raises:
        InputError: When the rows are neither, or pairs have labels of several aspects.
    """
    given = mapping_of(column_mapping, "column_mapping")
    rows = rows_of(name, "preferences")
    columns = set(rows.column_names)
    paired = any(names <= columns for names in _PAIRS)
    voted = any(column.startswith(VOTE_PREFIX) for column in columns)
    if not given and {"chosen", "rejected"} <= columns and (voted or {"pair_id", "aspect"} <= columns):
        return RowsToScore(rows)
    if holds_responses(rows.column_names, given) and (given or not paired):
        return RowsToScore(rows, "responses", response_columns(rows.column_names, given))
    try:
        pairs, report = read_pairs(rows, column_mapping=given or None)
    except InputError as error:
        if given or paired:
            raise
        raise InputError(
            f"{error} Of single responses, name prompt and response: column_mapping={{{_EXAMPLE}}}."
        ) from None
    if effective_labels(pairs, None) != "own" and aspects_of(pairs):
        raise InputError(
            f"{name} has labels of several aspects, of which each pair must keep one. Choose with `pd-trl prepare "
            f"--dataset_name {name}`, and score the folder that it writes."
        )
    preferences, labels = prepare_preferences(pairs)
    return RowsToScore(preferences, dropped={**report.skipped, **report.dropped, **labels.dropped})
