"""[`score_files`]: scores parquet files in a stream, by this process and others like it, or on Ray."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...data.responses import holds_responses, response_columns
from ...data.validation import RESERVED_ASPECTS, check_aspect_names, column_aspects, short_names
from ...errors import InputError
from ...models.named import ModelOutput
from ...runs.on_ray import on_ray
from ...runs.throughput import Progress
from ..pairs import NO_PAIR_LEFT, check_length_terms, check_models_of
from ..reward_models import check_reward_models
from ..run import describe
from ..settings import ScoringSettings
from .folder import UnitFolder
from .plan import Plan, Unit
from .scorer import UnitScorer, UnitWork

logger = logging.getLogger(__name__)

# Units that an actor is given at a time: it reads the next while it scores one. More would make the end uneven.
_UNITS_PER_TASK = 4
_OF_PAIRS = {"pair_id", "chosen", "rejected", "aspect"}
_PAIRED = ({"chosen", "rejected"}, {"response_a", "response_b"}, {"chosen_response", "rejected_response"})


@dataclass(frozen=True)
class FilesToScore:
    """
    Parquet files of preferences, or of single responses.

    Args:
        plan ([`Plan`]): Their units.
        part (`str`): `"pairs"` or `"responses"`.
        mapping (`dict`): Names of the columns of single responses.
    """

    plan: Plan
    part: str = "pairs"
    mapping: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, mapping: Mapping[str, Any]) -> "FilesToScore | None":
        """What the columns say; `None` where ids or labels must first be made, for which all rows are needed."""
        columns = list(plan.schema.names)
        if not mapping and _OF_PAIRS <= set(columns):
            return cls(plan)
        paired = any(names <= set(columns) for names in _PAIRED)
        if holds_responses(columns, mapping) and (mapping or not paired):
            return cls(plan, "responses", response_columns(columns, mapping))
        return None


def score_files(
    files: FilesToScore,
    models: Mapping[str, ModelOutput],
    root: Path,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    engine: str = "process",
    num_actors: int | None = None,
) -> UnitFolder:
    """
    Scores files unit by unit into `root/scored`, one parquet file for each unit. After a kill, the same call goes on; several
    processes that make it share the units.

    Args:
        files ([`FilesToScore`]): What is scored.
        models (`dict` of `str` to [`ModelOutput`]): A model for each aspect, by its name.
        root (`Path`): A stage's folder.
        identity (mapping): What decides the result.
        settings (mapping): The fields of [`ScoringSettings`], `length_penalty` and `length_correction`.
        engine (`str`, *optional*, defaults to `"process"`): `"process"` is this process, `"ray"` a cluster.
        num_actors (`int`, *optional*): Actors on Ray, see [`on_ray`].

    Returns:
        [`UnitFolder`]: All units, finished.

    Raises:
        InputError: On unusable data, models or settings, or when `root` holds units of another run.
    """
    own = {name: value for name, value in settings.items() if name not in ("length_penalty", "length_correction")}
    ScoringSettings(**own)
    check_reward_models(models)
    if files.part == "pairs":
        check_length_terms(models, settings.get("length_penalty"), settings.get("length_correction"))
        _check_aspects(files.plan, models)
    else:
        check_aspect_names(models)
    work = UnitWork(
        str(root.resolve()), len(files.plan.units), dict(identity), _placed(models), own, files.part, files.mapping,
        settings.get("length_penalty"), settings.get("length_correction"),
    )  # fmt: skip
    folder = work.folder()
    left = [unit for unit in files.plan.units if not folder.is_done(unit.index)]
    if left:
        rows = [unit.num_rows for unit in files.plan.units]
        with contextlib.closing(
            Progress(files.plan.num_rows, lambda: sum(rows[index] for index in folder.marked()), files.part)
        ) as progress:
            if engine == "ray":
                units = [asdict(unit) for unit in left]
                for result in on_ray(work, units, num_actors, items_per_task=_UNITS_PER_TASK):
                    progress.add(result)
            else:
                _score_here(work, files.plan.units, folder, progress)
    _tell(folder, files, models)
    return folder


def _placed(models: Mapping[str, ModelOutput]) -> dict[str, ModelOutput]:
    """The models, folders by their whole path: actors work in another folder."""
    folders = {aspect: Path(str(model.model)).expanduser() for aspect, model in models.items()}
    return {
        aspect: replace(model, model=str(folders[aspect].absolute())) if folders[aspect].is_dir() else model
        for aspect, model in models.items()
    }


def _score_here(work: UnitWork, units: list[Unit], folder: UnitFolder, progress: Progress) -> None:
    def claimed() -> Iterator[Unit | None]:
        for index in folder.claimed():
            yield None if index is None else units[index]

    with contextlib.closing(UnitScorer(work, folder)) as scorer:
        for result in scorer.each(claimed()):
            progress.add(result)


def _check_aspects(plan: Plan, models: Mapping[str, ModelOutput]) -> None:
    table, whole = plan.sample(["aspect"])
    found = set(table.column("aspect").unique().to_pylist()) - {None}
    short_names({str(name): "column 'aspect'" for name in found})
    names = {*found, *column_aspects(plan.schema.names)} - set(RESERVED_ASPECTS)
    check_models_of(sorted(names), models, whole)


def _tell(folder: UnitFolder, files: FilesToScore, models: Mapping[str, ModelOutput]) -> None:
    """Says what scoring took, and how many rows were cut or dropped."""
    counts = folder.counts()
    logger.info("%s", describe(list(models), counts, files.part))
    if counts.get("truncated"):
        logger.warning(
            "%d %s, counted for each model, are longer than it takes and were scored without the start of their prompt.",
            counts["truncated"], files.part,
        )  # fmt: skip
    if counts.get("dropped"):
        logger.warning("%d of %d %s are too long and are dropped.", counts["dropped"], files.plan.num_rows, files.part)
        if counts["dropped"] == files.plan.num_rows:
            raise InputError(NO_PAIR_LEFT)
