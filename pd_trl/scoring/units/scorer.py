"""[`UnitScorer`]: reads, scores and writes units with models that stay loaded. Processes and Ray's actors have one each."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ...data.columnar import dataset_table
from ...data.encoding import broken_text, describe_broken
from ...data.responses import response_texts
from ...data.validation import check_preferences
from ...errors import InputError
from ...hub import local_model_folder
from ...models.loading import model_device
from ...models.named import ModelOutput
from ...runs.folders import OWNER_NAME
from ...runs.identity import digest_of
from ...safety.media import check_media
from ..backends import Scorer, scorers_of
from ..pairs import gap_columns, with_columns
from ..run import Scores, ScoringRun
from ..settings import ScoringSettings
from ..shards import POLL_SECONDS, check_same_run, read_marker
from ..single import REWARD_PREFIX, reward_columns
from .folder import UnitFolder, sums_of
from .plan import Unit

# Part of the memory that the weights of all models may take, so that they stay loaded together.
_RESIDENT = 0.5
_COUNTS = ("truncated", "sequences", "tokens", "computed", "cells", "microseconds")


@dataclass(frozen=True)
class UnitWork:
    """
    What is done with each unit of a run. It travels to other machines, and holds names of models rather than models.

    Args:
        root (`str`): The stage's folder, which all machines see.
        num_units (`int`): Units of the run.
        identity (`dict`): What decides the result.
        models (`dict` of `str` to [`ModelOutput`]): The voters.
        settings (`dict`): The fields of [`ScoringSettings`].
        part (`str`): `"pairs"` or `"responses"`.
        mapping (`dict`): Names of the columns of single responses.
        length_penalty, length_correction: See [`score_pairs`].
    """

    root: str
    num_units: int
    identity: dict[str, Any]
    models: dict[str, ModelOutput]
    settings: dict[str, Any]
    part: str = "pairs"
    mapping: dict[str, str] = field(default_factory=dict)
    length_penalty: float | None = None
    length_correction: str | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are added, but for the length."""
        return [f"{'reward_gap_' if self.part == 'pairs' else REWARD_PREFIX}{name}" for name in self.models]

    def folder(self) -> UnitFolder:
        """Where the units are written. Raises [`OtherRunError`] where those of another run are."""
        return UnitFolder.of(Path(self.root), self.num_units, self.identity)

    def worker(self) -> "ActorScorer":
        """See [`~pd_trl.runs.on_ray.Work`]."""
        return ActorScorer(UnitScorer(self))


@dataclass(frozen=True)
class _Read:
    """A unit that is read and tokenised."""

    unit: Unit
    rows: Dataset
    run: ScoringRun


@dataclass(frozen=True)
class _Done:
    """A unit that another process has finished."""

    unit: Unit


class UnitScorer:
    """
    Args:
        work ([`UnitWork`]): What is done with each unit.
        folder ([`UnitFolder`], *optional*): Where the units are written, if it is open already.
    """

    def __init__(self, work: UnitWork, folder: UnitFolder | None = None):
        self.work = work
        if not (Path(work.root) / OWNER_NAME).is_file():
            raise InputError(
                f"{work.root} is not there on this machine: `output_dir` must be a folder on a disk that all machines share."
            )
        self.folder = folder or work.folder()
        self.settings = ScoringSettings(**work.settings)
        self._scorers: list[Scorer] | None = list(self._loaded()) if self._fit_together() else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._check_alike(self._scorers or ())

    def each(self, units: Iterable[Unit | None]) -> Iterator[dict[str, Any]]:
        """
        Scores units and yields what each took. The next one is read and tokenised while the model works. `None` among them says that
        there is nothing to do for a moment.
        """
        waiting = None
        for unit in units:
            following = None if unit is None else self._thread.submit(self._read, unit)
            if waiting is not None:
                yield self._finish(waiting.result())
            elif following is None:
                time.sleep(POLL_SECONDS)
            waiting = following
        if waiting is not None:
            yield self._finish(waiting.result())

    def close(self) -> None:
        """Ends the thread that reads."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _loaded(self) -> Iterator[Scorer]:
        how = self.settings
        return scorers_of(
            self.work.models, how.backend, torch_compile=how.torch_compile, engine_kwargs=how.engine_kwargs, dtype=how.dtype,
            attn_implementation=how.attn_implementation, trust_remote_code=how.trust_remote_code,
        )  # fmt: skip

    def _fit_together(self) -> bool:
        """Whether all models stay in memory; otherwise they are loaded one after the other for each unit."""
        folders = {local_model_folder(model.model, what="reward model") for model in self.work.models.values()}
        size = sum(path.stat().st_size for folder in folders for path in Path(folder).glob("*.safetensors"))
        return len(folders) == 1 or size <= _RESIDENT * _memory()

    def _check_alike(self, scorers: Iterable[Scorer]) -> None:
        """All processes of a run must have the same models, and round alike."""
        for scorer in scorers:
            name = digest_of(scorer.aspects)[:12]
            found = {"aspects": scorer.aspects, "model": scorer.digest, **scorer.computation}
            check_same_run(self.folder.folder / f"computation-{name}.json", found)

    def _read(self, unit: Unit) -> _Read | _Done:
        if self.folder.is_done(unit.index):
            return _Done(unit)
        with _named(unit):
            rows = check_media(Dataset(unit.read()), str(unit))
            if broken := broken_text(dataset_table(rows)):
                raise InputError(describe_broken(str(unit), (), broken))
            if self.work.part == "pairs":
                check_preferences(rows)
                texts = rows
            else:
                texts = response_texts(rows, self.work.mapping)
            run = ScoringRun(texts, self.settings, None)
            for scorer in self._scorers or ():
                run.read(scorer)
        return _Read(unit, rows, run)

    def _finish(self, read: _Read | _Done) -> dict[str, Any]:
        """Scores and writes a unit, unless another process has: its marker, and what else there is to say of it."""
        index, said = read.unit.index, []
        if isinstance(read, _Read):
            with _named(read.unit), contextlib.closing(read.run):
                if not self.folder.is_done(index):
                    said = self._score(read)
        return {**read_marker(self.folder.marker(index)), "unit": index, "total": read.unit.num_rows, "said": said}

    def _score(self, read: _Read) -> list[str]:
        """Scores and writes a unit: warnings of its models."""
        counts, work = dict.fromkeys(_COUNTS, 0), self.work
        said: list[str] = []

        def each() -> Iterator[tuple[Scorer, Scores]]:
            for scorer in self._scorers if self._scorers is not None else self._loaded():
                if self._scorers is None:
                    self._check_alike([scorer])
                found, took = read.run.alone(scorer)
                for name in _COUNTS:
                    counts[name] += took[name]
                said.extend(filter(None, [read.run.template_warning(scorer)]))
                yield scorer, found
                # The next model is loaded while this frame still holds this one.
                del scorer

        if work.part == "pairs":
            columns, kept = gap_columns(each(), len(read.rows), work.length_penalty, work.length_correction)
            names = [*work.columns, "delta_length"]
        else:
            rewards, kept = reward_columns(each(), len(read.rows))
            columns, names = {f"{REWARD_PREFIX}{name}": values for name, values in rewards.items()}, work.columns
        rows = read.rows if kept.all() else read.rows.select(np.flatnonzero(kept))
        scored = with_columns(rows, {name: columns[name] for name in names}, kept)
        sums = sums_of(scored, work.columns)
        self.folder.finish(read.unit.index, scored, {**counts, "dropped": int((~kept).sum()), "sums": sums})
        return said


class ActorScorer:
    """
    [`UnitScorer`] of units that Ray gives to an actor.

    Args:
        scorer ([`UnitScorer`]): What scores them.
    """

    def __init__(self, scorer: UnitScorer):
        self.scorer = scorer

    def each(self, items: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """See [`UnitScorer.each`]; a unit is given as the mapping of its fields."""
        return self.scorer.each(map(self._begun, items))

    def _begun(self, item: Mapping[str, Any]) -> Unit:
        unit = Unit(**{**item, "row_groups": tuple(item["row_groups"])})
        if not self.scorer.folder.is_done(unit.index):
            # Ray gives a unit to one actor at a time: whoever began before is gone.
            self.scorer.folder.notes.begin(unit.index, anyway=True)
        return unit


@contextlib.contextmanager
def _named(unit: Unit) -> Iterator[None]:
    """Errors say which unit they are of."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{unit}: {error}") from None


def _memory() -> int:
    """Bytes of the device that models are loaded on."""
    device = model_device()
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 1 << 40
