"""What `score` is given: preferences, plain pairs, or single responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...data import aspects_of, effective_labels, prepare_preferences, read_pairs
from ...data.responses import holds_responses, response_columns
from ...errors import InputError
from ...runs.artifacts import Manifest, replaced_folder, write_rows
from ...runs.identity import data_key
from ...scoring import score_pairs, score_response_rows
from ...scoring.units import FilesToScore, parquet_files, plan_units
from ...selection.aspect_columns import VOTE_PREFIX
from ..mappings import mapping_of
from .inputs import rows_of
from .scored_files import StreamToScore, ToScore

# Arguments that single responses do not have.
OF_THE_GAP = ("length_penalty", "length_correction")
_PAIRS = ({"chosen", "rejected"}, {"response_a", "response_b"}, {"chosen_response", "rejected_response"})
_EXAMPLE = "'prompt': '<column>', 'response': '<column>'"


@dataclass
class RowsToScore(ToScore):
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
    def digest(self) -> str:
        """What tells these rows from others."""
        return data_key(self.rows)

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return len(self.rows)

    def score(
        self, models: Mapping[str, Any], root: Path, settings: dict[str, Any], manifest: Manifest, **how: Any
    ) -> "ScoredRows":
        """Scores what is left of the rows, with shards in a stage's folder."""
        if self.part == "pairs":
            scored = score_pairs(self.rows, models, output_dir=root, **settings)
        else:
            own = {name: value for name, value in settings.items() if name not in OF_THE_GAP}
            scored = score_response_rows(self.rows, models, column_mapping=self.mapping, output_dir=root, **own)
        moments: dict[str, tuple[float, ...]] = {}
        for aspect in models:
            values = scored.with_format("numpy")[f"{self.prefix}{aspect}"][:]
            moments[aspect] = (float(values.mean()), float(values.std()), float((values > 0).mean()))
        return ScoredRows(scored, len(self.rows) + sum(self.dropped.values()), len(scored), moments)


@dataclass
class ScoredRows:
    """
    What scoring rows gave.

    Args:
        rows ([`~datasets.Dataset`]): The rows with what was scored.
        total (`int`): Rows that were there.
        kept (`int`): Rows that were scored.
        moments (`dict`): Mean, standard deviation and share above 0 by each model.
    """

    rows: Dataset
    total: int
    kept: int
    moments: dict[str, tuple[float, ...]]

    def write(self, root: Path) -> dict[str, str]:
        """Writes the rows into a stage's folder. No digest is known yet."""
        with replaced_folder(root / "scored") as folder:
            write_rows(self.rows, folder)
        return {}


def what_to_score(
    name: str | None, column_mapping: Mapping[str, Any] | str | None, engine: str, rows_per_unit: int
) -> RowsToScore | StreamToScore:
    """
    Parquet files that are scored in a stream, or the rows of anything else.

    Args:
        name (`str`, *optional*): A stage's folder, a file, a pattern or address of parquet files, or a Hub id.
        column_mapping (mapping or `str`, *optional*): Our names to those of the data.
        engine (`str`): What scores them.
        rows_per_unit (`int`): See [`plan_units`].

    Raises:
        InputError: When the data cannot be scored, or not by `engine`.
    """
    files = parquet_files(name)
    plan = plan_units(files, rows_per_unit) if files is not None else None
    found = FilesToScore.of(plan, mapping_of(column_mapping, "column_mapping")) if plan is not None else None
    if found is not None:
        return StreamToScore(found)
    if engine == "ray" or (name and "://" in name):
        why = f"has the columns {', '.join(plan.schema.names)}" if plan is not None else "names no parquet files"
        raise InputError(
            "Files at an address, and files that Ray scores, must be parquet with pair_id, prompt, chosen, rejected and aspect, or "
            f"with single responses, but {name} {why}. Run `pd-trl prepare` first, and score the folder that it writes."
        )
    return rows_to_score(name, column_mapping)


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
