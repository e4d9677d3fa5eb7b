"""The numbers of an AlpacaEval run, and their records."""

import importlib.metadata
from dataclasses import dataclass, field
from typing import Any

from ...runs.artifacts import library_versions
from ...runs.results import EvalResult
from ...text.tables import table
from .judging import ANNOTATOR, CHAT_MODEL, OFFLINE
from .length_control import GLM_NAME, LengthControl

_LIBRARIES = ("alpaca_eval", "openai", "scikit-learn", "pandas", "patsy")


@dataclass(frozen=True)
class AlpacaResult:
    """
    Result of [`evaluate_alpaca`]; rates in percent.

    Args:
        task (`str`): `"AlpacaEval 2"`, or what was compared instead.
        model (`str`): Name of the model.
        reference (`str`): Name of the reference.
        judge (`str`): Who judged.
        judge_kind (`str`): `"annotator"`, `"chat model"`, `"offline judge"` or `"recorded annotations"`.
        win_rate (`float`): Mean preference for the model.
        standard_error (`float`, *optional*): Its standard error over instructions.
        discrete_win_rate (`float`): Share of instructions on which the model is preferred, ties counted half.
        discrete_standard_error (`float`, *optional*): Its standard error.
        length_control ([`LengthControl`], *optional*): The length-controlled win rate.
        no_length_control (`str`, *optional*): Why there is none.
        num_wins (`int`): Instructions on which the model is preferred.
        num_losses (`int`): Instructions on which the reference is preferred.
        num_ties (`int`): Instructions on which neither is preferred.
        num_judged (`int`): Instructions with a preference.
        average_length (`float`): Mean length of the model's outputs, in characters.
        reference_length (`float`): Mean length of the reference's outputs.
        problems (`dict`): Counts of the problems of outputs and judgements.
        not_comparable (`list` of `str`): Why the numbers cannot be compared with the leaderboard's; empty if they can.
        settings (`dict`): Other settings that decide the numbers.
    """

    task: str
    model: str
    reference: str
    judge: str
    judge_kind: str
    win_rate: float
    standard_error: float | None
    discrete_win_rate: float
    discrete_standard_error: float | None
    length_control: LengthControl | None
    no_length_control: str | None
    num_wins: int
    num_losses: int
    num_ties: int
    num_judged: int
    average_length: float
    reference_length: float
    problems: dict[str, int] = field(default_factory=dict)
    not_comparable: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def length_controlled_win_rate(self) -> float | None:
        """Length-controlled win rate in percent."""
        return self.length_control.win_rate if self.length_control else None

    @property
    def judge_label(self) -> str:
        """The judge's name, and its kind unless it is an annotator of alpaca_eval."""
        return f"{self.judge} ({self.judge_kind})" if self.judge_kind in (CHAT_MODEL, OFFLINE) else self.judge

    def records(self) -> list[EvalResult]:
        """The numbers as records that cards and tables read."""
        shared = {
            **self.settings,
            "judge_kind": self.judge_kind,
            "problems": self.problems,
            "official_comparable": not self.not_comparable,
            "not_comparable": self.not_comparable,
            "versions": versions(),
        }

        def record(metric: str, value: float, error: float | None, unit: str = "percent", **more: Any) -> EvalResult:
            return EvalResult(
                task=self.task,
                metric=metric,
                value=float(value),
                num_samples=self.num_judged,
                standard_error=error,
                unit=unit,
                judge=self.judge_label,
                model=self.model,
                baseline=self.reference,
                dataset=shared.get("dataset"),
                dataset_revision=shared.get("dataset_revision"),
                settings={**shared, **more},
            )

        found = [
            record("win_rate", self.win_rate, self.standard_error),
            record("discrete_win_rate", self.discrete_win_rate, self.discrete_standard_error),
            record("average_length", self.average_length, None, "characters"),
        ]
        lc = self.length_control
        if lc is not None:
            how = (
                f"bootstrap over instructions, {lc.num_resamples} samples, GLM refitted to each at the chosen penalty"
            )
            more: dict[str, Any] = {
                "glm": GLM_NAME,
                "standard_error_by": how,
                "lc_standard_error_of_alpaca_eval": lc.predicted_standard_error,
                "difficulty_sha256": lc.difficulty_sha256,
                "glm_weights": lc.weights,
            }
            found.insert(1, record("length_controlled_win_rate", lc.win_rate, lc.standard_error, **more))
        return found

    def __str__(self) -> str:
        rows = [["", "value", "standard error"]]
        rows.append(["win rate", f"{self.win_rate:.2f} %", _error(self.standard_error)])
        if self.length_control is not None:
            lc = self.length_control
            rows.append(["length-controlled win rate", f"{lc.win_rate:.2f} %", _error(lc.standard_error)])
        rows.append(["discrete win rate", f"{self.discrete_win_rate:.2f} %", _error(self.discrete_standard_error)])
        rows.append(["average length, characters", f"{int(self.average_length)}", ""])
        lines = [f"{self.task}: {self.model} against {self.reference}, judged by {self.judge_label}", *table(rows)]
        lines.append(
            f"{self.num_judged} instructions: {self.num_wins} wins, {self.num_losses} losses, {self.num_ties} ties; "
            f"the reference's average length is {int(self.reference_length)}"
        )
        counts = ", ".join(f"{count} {kind}" for kind, count in self.problems.items() if count)
        lines += [f"Left out or wrong: {counts}"] if counts else []
        if self.no_length_control:
            lines.append(f"No length-controlled win rate: {self.no_length_control}.")
        if self.not_comparable:
            lines.append(f"Not comparable to the leaderboard: {'; '.join(self.not_comparable)}.")
        elif self.judge_kind == ANNOTATOR:
            served = ", ".join(self.settings.get("endpoints") or [])
            lines.append(
                f"Comparable to the leaderboard (its judge, reference and instructions), if {served or 'the server'} serves what it names."
            )
        return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of the libraries that decide the numbers."""
    found = library_versions()
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _error(value: float | None) -> str:
    return "-" if value is None else f"± {value:.2f}"
