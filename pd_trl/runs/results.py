"""Results of evaluations as plain records, which cards and tables read."""

import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..safety.schema import anything, read_document, record, sequence
from ..safety.secrets import masked
from .artifacts import write_json
from .forms import RESULT, RESULT_REQUIRED

RESULTS_NAME = "eval_results.json"


@dataclass(frozen=True)
class EvalResult:
    """
    One number of an evaluation, with all that is needed to read it.

    Args:
        task (`str`):
            What was evaluated on, such as `"AlpacaEval 2"`.
        metric (`str`):
            Name of the quantity, such as `"win_rate"`.
        value (`float`):
            Its value.
        num_samples (`int`):
            Number of instructions or pairs behind it.
        standard_error (`float`, *optional*):
            Standard error of `value`, in the same unit. `None` where there is none.
        unit (`str`, *optional*, defaults to `"percent"`):
            `"percent"` (0 to 100), `"share"` (0 to 1), `"score"`, `"words"`, `"tokens"` …
        judge (`str`, *optional*):
            Who judged. Results of different judges never share a table.
        model (`str`, *optional*):
            What was evaluated.
        baseline (`str`, *optional*):
            What it was compared with.
        dataset (`str`, *optional*):
            Hub id or name of the instructions or pairs.
        dataset_revision (`str`, *optional*):
            Revision of `dataset`.
        settings (`dict`, *optional*):
            Anything else that decides the number: decoding, seeds, versions.
        date (`str`, *optional*):
            Day of the evaluation, UTC. Defaults to today.
    """

    task: str
    metric: str
    value: float
    num_samples: int
    standard_error: float | None = None
    unit: str = "percent"
    judge: str | None = None
    model: str | None = None
    baseline: str | None = None
    dataset: str | None = None
    dataset_revision: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"The result {self.metric!r} of {self.task!r} must be a finite number, got {self.value}.")
        if self.num_samples < 1:
            raise InputError(
                f"The result {self.metric!r} of {self.task!r} needs at least one sample, got {self.num_samples}."
            )


def save_results(results: Iterable[EvalResult], path: str | os.PathLike) -> None:
    """Writes results as json; into `eval_results.json` where `path` is a folder."""
    path = Path(path)
    write_json(path / RESULTS_NAME if path.is_dir() else path, [masked(asdict(result)) for result in results])


def load_results(path: str | os.PathLike) -> list[EvalResult]:
    """
    Reads what [`save_results`] wrote.

    Raises:
        InputError: When the file is missing or is no list of results.
    """
    path = Path(path)
    path = path / RESULTS_NAME if path.is_dir() else path
    form = sequence(record(RESULT, required=RESULT_REQUIRED, others=anything))
    entries = read_document(path, form, "a list of results as `pd-trl evaluate` writes it")
    known = {entry.name for entry in fields(EvalResult)}
    return [EvalResult(**{name: value for name, value in entry.items() if name in known}) for entry in entries]
