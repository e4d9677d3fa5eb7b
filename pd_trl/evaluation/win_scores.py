"""Win scores as plain records and as text."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runs.results import EvalResult
from ..text.tables import number, table


@dataclass(frozen=True)
class SetScore:
    """
    Win score on one set of instructions.

    Args:
        dataset (`str`): Name of the set.
        score (`float`): `1 + (wins - losses) / n`, in [0, 2].
        standard_error (`float`, *optional*): Its standard error over instructions.
        counts (`dict`): `wins`, `losses`, `ties`; instructions left out because A (`missing`) or B (`extra`) has no answer or a
            judgement never came or could not be read (`unparsed`); `duplicate` and `empty` outputs.
        win_rate (`float`): Mean preference for A over both orders, in [0, 1].
        agreement (`float`): Share of instructions on which both orders give the same verdict.
        first_preferred (`float`): Mean preference for the output that is shown first: 0.5 for a judge without position bias.
        signs (array of shape `(n,)`): 1, 0 or -1 for each instruction.
    """

    dataset: str
    score: float
    standard_error: float | None
    counts: dict[str, int]
    win_rate: float
    agreement: float
    first_preferred: float
    signs: NDArray[np.int8] = field(repr=False)


@dataclass(frozen=True)
class WinScore:
    """
    Win score of A against B, averaged over sets.

    Args:
        value (`float`): Mean of the sets' win scores, in [0, 2]; 1 is a draw.
        standard_error (`float`, *optional*): Its standard error over instructions.
        interval (`tuple` of `float`): Bootstrap interval of 95 %, over instructions within sets.
        sets (`list` of [`SetScore`]): Each set.
        model, baseline (`str`): Names of A and B.
        judge (`str`): Who judged.
        settings (`dict`): What else decides the number.
    """

    value: float
    standard_error: float | None
    interval: tuple[float, float]
    sets: list[SetScore]
    model: str
    baseline: str
    judge: str
    settings: dict[str, Any]

    def results(self) -> list[EvalResult]:
        """One record for each set and, with several, one for the average."""
        common: dict[str, Any] = {"unit": "score", "judge": self.judge, "model": self.model, "baseline": self.baseline}
        records = [
            EvalResult(
                task=f"win score on {entry.dataset}",
                metric="win_score",
                value=entry.score,
                num_samples=len(entry.signs),
                standard_error=entry.standard_error,
                dataset=entry.dataset,
                settings={
                    **self.settings,
                    **entry.counts,
                    "win_rate": entry.win_rate,
                    "agreement": entry.agreement,
                    "first_preferred": entry.first_preferred,
                    **({"interval": list(self.interval)} if len(self.sets) == 1 else {}),
                },
                **common,
            )
            for entry in self.sets
        ]
        if len(self.sets) > 1:
            records.append(
                EvalResult(
                    task=f"average win score over {len(self.sets)} sets",
                    metric="average_win_score",
                    value=self.value,
                    num_samples=sum(len(entry.signs) for entry in self.sets),
                    standard_error=self.standard_error,
                    dataset=", ".join(entry.dataset for entry in self.sets),
                    settings={**self.settings, "interval": list(self.interval)},
                    **common,
                )
            )
        return records

    def lines(self) -> list[str]:
        """A table of the sets, and the average."""
        rows = [["set", "win score", "± SE", "wins", "losses", "ties", "left out", "orders agree"]]
        for entry in self.sets:
            left_out = sum(entry.counts[key] for key in ("missing", "extra", "unparsed"))
            rows.append([
                entry.dataset, number(entry.score), number(entry.standard_error), *(str(entry.counts[key]) for key in ("wins", "losses", "ties")),
                str(left_out), number(entry.agreement, 2),
            ])  # fmt: skip
        low, high = self.interval
        error = f" ± {self.standard_error:.3f}" if self.standard_error is not None else ""
        head = f"Win score of {self.model} against {self.baseline}: {self.value:.3f}{error} (95 % interval {low:.3f} to {high:.3f}; 1 is a draw; judge: {self.judge})"
        return [head, *table(rows)]

    def __str__(self) -> str:
        return "\n".join(self.lines())
