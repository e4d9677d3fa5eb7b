"""What the ratings are worth: the judge's agreement with itself, and with labels that the data have."""

from dataclasses import asdict, dataclass, field
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ..data.columnar import dataset_table, to_numpy
from ..data.validation import OVERALL
from ..method.accuracy import share_error
from ..text.tables import number, percent, printable, table
from .asking import Tally
from .columns import labels_of_pairs
from .questions import POINTWISE
from .sheet import Sheet


@dataclass
class RatingReport:
    """
    Report of a rating.

    Args:
        judge (`str`): Who rated.
        rubric (`str`): Name of the rubric.
        rubric_digest (`str`): Digest of the rubric.
        mode (`str`): `"pointwise"` or `"pairwise"`.
        pairs (`int`): Pairs.
        calls (`dict`): Questions asked: `asked`, `all` (those that every aspect of every pair needs), `again` (asked a second time),
            `answered_before`, `unanswered`, `expected`, `saved` (not asked, as they are of a response that is rated in another pair, or
            of equal responses).
        reasons (`dict`): Why questions are without an answer, the most frequent reasons.
        tokens (`dict`): Tokens of questions and answers, as far as the server says; `cost` where prices are known.
        aspects (`dict`): By aspect: `rated` pairs, `mean` and `sd` of the values (pairwise, the preferences for the response shown
            first), `ties`.
        itself (`dict`): By aspect, the agreement of the judge with itself: pointwise when the levels are listed in the other order
            (`same_order`: share of pairs with the same response ahead, `correlation`, `difference`), pairwise between the two orders.
        labels (`dict`): By aspect and label, the share of pairs on which they prefer the same response, its standard error, the number of
            pairs that both decide, and the judge's ties.
        first_preferred (`float`, *optional*): Pairwise, the mean preference for the response shown first; 0.5 is no bias.
        adaptive (`dict`, *optional*): What the adaptive order saved.
    """

    judge: str
    rubric: str
    rubric_digest: str
    mode: str
    pairs: int
    calls: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    aspects: dict[str, dict[str, float]] = field(default_factory=dict)
    itself: dict[str, dict[str, float]] = field(default_factory=dict)
    labels: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    first_preferred: float | None = None
    adaptive: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as json can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        calls = self.calls
        lines = [
            f"{self.pairs:,} pairs rated by {printable(self.judge)} ({self.mode}, rubric {printable(self.rubric)} {self.rubric_digest[:12]})",
            f"questions: {calls['asked']:,} of {calls['all']:,}, and {calls['again']:,} asked again; {calls['answered_before']:,} were answered by "
            f"an earlier run; {calls['expected']:,} answers are expected values",
        ]
        if calls["saved"]:
            lines.append(
                f"saved: {calls['saved']:,} questions, as their responses stand in several pairs or are equal"
            )
        if calls["unanswered"]:
            listed = "; ".join(f"{printable(reason)} ({count:,})" for reason, count in self.reasons.items())
            lines.append(f"without an answer: {calls['unanswered']:,} ({listed})")
        if self.tokens:
            cost = f", ${self.tokens['cost']:.4f}" if "cost" in self.tokens else ""
            lines.append(
                f"tokens: {self.tokens['questions']:,.0f} of questions, {self.tokens['answers']:,.0f} of answers{cost}"
            )
        if self.adaptive:
            lines.append(
                f"adaptive: {percent(calls['asked'] / max(1, calls['all']))} of the questions; {self.adaptive['stopped']:,.0f} pairs were stopped "
                f"before their last aspect, budget {self.adaptive['budget']:g} ({self.adaptive['kept']:,.0f} pairs)"
            )
        if self.first_preferred is not None:
            lines.append(
                f"position bias: the response shown first is preferred by {self.first_preferred:.3f} (0.5 is none)"
            )
        return "\n".join([*lines, "", *table(self._rows())])

    def _rows(self) -> list[list[str]]:
        targets = sorted({label for by_label in self.labels.values() for label in by_label})
        # Pairwise, a value is the preference for the response shown first.
        mean = "mean" if self.mode == POINTWISE else "shown first"
        rows = [["aspect", "rated", mean, "sd", "ties", "with itself", *(f"with {t} label" for t in targets)]]
        for name, entry in self.aspects.items():
            cells = [name, f"{entry['rated']:,.0f}", number(entry.get("mean"), 2), number(entry.get("sd"), 2)]
            cells += [percent(entry.get("ties")), percent(self.itself.get(name, {}).get("same_order"))]
            for target in targets:
                found = self.labels.get(name, {}).get(target)
                cells.append(
                    f"{percent(found['agreement'])} ± {100 * found['error']:.1f} (n={found['pairs']:.0f})"
                    if found
                    else "-"
                )
            rows.append(cells)
        return rows


def rating_report(
    judge: str,
    pairs: datasets.Dataset,
    sheet: Sheet,
    tally: Tally,
    again: tuple[int, NDArray[np.float64]] | None,
    all_calls: int,
) -> RatingReport:
    """
    The report of a filled sheet.

    Args:
        judge (`str`): Name of the judge.
        pairs ([`~datasets.Dataset`]): The pairs before they were rated.
        sheet ([`Sheet`]): Their ratings.
        tally ([`Tally`]): What was asked.
        again (`tuple`, *optional*): Number of questions that were asked again, and their values.
        all_calls (`int`): Questions that every aspect of every pair needs.
    """
    repeated = again[0] if again else 0
    report = RatingReport(judge, sheet.rubric.name, sheet.rubric.digest, sheet.mode, sheet.num_pairs)
    report.calls = {
        "asked": tally.calls - repeated,
        "all": all_calls,
        "again": repeated,
        "answered_before": tally.before,
        "unanswered": tally.unanswered,
        "expected": tally.expected,
        "saved": 2 * sheet.num_pairs * sheet.num_aspects - all_calls + tally.shared,
    }
    report.reasons = dict(tally.reasons.most_common(5))
    if any(tally.tokens):
        report.tokens = {"questions": float(tally.tokens[0]), "answers": float(tally.tokens[1])}
    gaps = sheet.gaps()
    prompts = (
        np.array(pairs["prompt_id"][:]).astype(str) if "prompt_id" in pairs.column_names else np.array(sheet.prompts)
    )
    labels = _labels(pairs, sheet.rubric.names)
    for k, name in enumerate(sheet.rubric.names):
        report.aspects[name] = _spread(sheet, gaps[:, k], k)
        for target, signs in labels.items():
            if target not in sheet.rubric.names or target == name:
                found = _agreement(gaps[:, k], signs, prompts)
                if found:
                    report.labels.setdefault(name, {})["own" if target == name else target] = found
    if sheet.mode == POINTWISE:
        report.itself = _in_other_order(sheet, again[1]) if again else {}
    else:
        report.itself = _between_orders(sheet)
        asked = sheet.values[sheet.rows[~sheet.same]]
        report.first_preferred = float(np.nanmean(asked)) if np.isfinite(asked).any() else None
    means = _agreement_of_mean(gaps, labels.get(OVERALL), prompts)
    if means and len(sheet.rubric.names) > 1:
        report.labels["(mean of aspects)"] = {OVERALL: means}
        report.aspects["(mean of aspects)"] = {"rated": float(np.isfinite(gaps).any(axis=1).sum())}
    return report


def _spread(sheet: Sheet, gaps: NDArray[np.float64], aspect: int) -> dict[str, float]:
    known = gaps[np.isfinite(gaps) & ~sheet.same]
    values = sheet.values[:, aspect]
    values = values[np.isfinite(values)]
    found: dict[str, float] = {"rated": int(np.isfinite(gaps).sum())}
    if values.size:
        found |= {"mean": float(values.mean()), "sd": float(values.std())}
    if known.size:
        found["ties"] = float((known == 0).mean())
    return found


def _labels(pairs: datasets.Dataset, aspects: list[str]) -> dict[str, NDArray[np.float64]]:
    """Labels that the pairs have, by name: 1 for side a, -1 for side b, 0 for none."""
    found = {}
    for name in (OVERALL, *aspects):
        if f"pref_{name}" in pairs.column_names:
            values = to_numpy(dataset_table(pairs.select_columns(f"pref_{name}")).column(0))
            found[name] = np.nan_to_num(2 * values - 1)
    own = labels_of_pairs(pairs)
    if OVERALL not in found and own is not None and (own[0] == OVERALL).any():
        found[OVERALL] = np.where(own[0] == OVERALL, own[1], 0.0)
    return {name: signs for name, signs in found.items() if signs.any()}


def _agreement(
    gaps: NDArray[np.float64], signs: NDArray[np.float64], prompts: NDArray[Any]
) -> dict[str, float] | None:
    labelled = np.isfinite(gaps) & (signs != 0)
    both = labelled & (gaps != 0)
    if not both.any():
        return None
    hits = gaps[both] * signs[both] > 0
    return {
        "agreement": float(hits.mean()),
        "error": share_error(hits, prompts[both]),
        "pairs": int(both.sum()),
        "ties": int((labelled & ~both).sum()),
    }


def _agreement_of_mean(
    gaps: NDArray[np.float64], signs: NDArray[np.float64] | None, prompts: NDArray[Any]
) -> dict[str, float] | None:
    if signs is None:
        return None
    known = np.isfinite(gaps)
    count = known.sum(axis=1)
    mean: NDArray[np.float64] = np.full(len(gaps), np.nan)
    mean[count > 0] = np.where(known, gaps, 0.0).sum(axis=1)[count > 0] / count[count > 0]
    return _agreement(np.round(mean, 9), signs, prompts)


def _in_other_order(sheet: Sheet, again: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    found = {}
    first, second = sheet.gaps(), sheet.gaps(again)
    for k, name in enumerate(sheet.rubric.names):
        rows = np.isfinite(again[:, k]) & np.isfinite(sheet.values[:, k])
        pairs = np.isfinite(first[:, k]) & np.isfinite(second[:, k]) & ~sheet.same
        if not pairs.any():
            continue
        one, other = sheet.values[rows, k], again[rows, k]
        entry = {
            "pairs": int(pairs.sum()),
            "same_order": float((np.sign(first[pairs, k]) == np.sign(second[pairs, k])).mean()),
            "difference": float(np.abs(one - other).mean()),
        }
        if one.std() > 0 and other.std() > 0:
            entry["correlation"] = float(np.corrcoef(one, other)[0, 1])
        found[name] = entry
    return found


def _between_orders(sheet: Sheet) -> dict[str, dict[str, float]]:
    found = {}
    for k, name in enumerate(sheet.rubric.names):
        first, second = sheet.values[sheet.rows[:, 0], k], 1 - sheet.values[sheet.rows[:, 1], k]
        both = np.isfinite(first) & np.isfinite(second) & ~sheet.same
        if both.any():
            same = np.sign(first[both] - 0.5) == np.sign(second[both] - 0.5)
            found[name] = {"pairs": int(both.sum()), "same_order": float(same.mean())}
    return found
