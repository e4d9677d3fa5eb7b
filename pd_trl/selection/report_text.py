"""A selection report as text."""

from collections.abc import Mapping
from typing import Any

from ..method.accuracy import binomial_error, verdict
from ..method.ranking import SELECTORS
from ..text.names import MAX_MATRIX, display_name, display_names
from ..text.tables import number, percent, table
from .wording import Wording, said_of, wording_of

# The report warns when an aspect's gaps correlate with length more than this.
LENGTH_ALONE = 0.9
_WEAKNESSES = {
    "worse than a coin": "worse than a coin {}: its votes point the wrong way",
    "no better than a coin": "no better than a coin {}",
    "no better than length": "not better than 'longer wins' {}",
}
# Longest name above a column.
MAX_COLUMN = 32


def unseen_name(name: str, words: Wording) -> str:
    """What labels are called that a selection does not see."""
    known = {"overall": "the overall label", "other aspects": f"{words.voters}' labels"}
    return known.get(name) or display_name(name)


def render(numbers: Mapping[str, Any]) -> str:
    """The report of [`selection_report`] as text."""
    share = numbers["kept"] / numbers["total"]
    lines = [
        f"Selection by {numbers['selector']}: {numbers['kept']} of {numbers['total']} pairs kept ({percent(share)})"
    ]
    if "pd" in numbers:
        lines += ["", *_pd_lines(numbers)]
    words = wording_of(numbers)
    for title, key in (("by aspect", "kept_by_aspect"), (f"by votes of {words.voters}", "kept_by_votes")):
        if numbers.get(key) and not (words.label and key == "kept_by_aspect"):
            rows = [[f"kept {title}", "total", "kept", "share"]]
            rows += [
                [display_name(name), str(entry["total"]), str(entry["kept"]), percent(entry["share"])]
                for name, entry in numbers[key].items()
            ]
            lines += ["", *table(rows)]
    lines += ["", *_group_lines(numbers)]
    if numbers["overlap"]:
        overlaps = ", ".join(f"{name} {percent(value)}" for name, value in numbers["overlap"].items())
        lines += ["", f"Shared with selections of the same size by: {overlaps}"]
    warnings = warning_lines(numbers)
    lines += ["", *warnings] if warnings else []
    return "\n".join(lines)


def _pd_lines(numbers: Mapping[str, Any]) -> list[str]:
    divergence = numbers["pd"]
    lines = [
        f"PD from {number(divergence['min'])} to {number(divergence['max'])}, mean {number(divergence['mean'])}; "
        f"kept {number(divergence['mean_kept'])}, dropped {number(divergence['mean_dropped'])}; "
        f"{percent(divergence['share_negative'])} negative"
    ]
    lines += ["", *table(_aspect_rows(numbers)), *_output_lines(numbers)]
    if len(numbers["gap_correlation"]) < 2:
        return lines
    names = list(numbers["gap_correlation"])[:MAX_MATRIX]
    shown = display_names(names, MAX_COLUMN)
    title = "correlation of gaps"
    if len(names) < len(numbers["gap_correlation"]):
        title += f" (the first {len(names)} of {len(numbers['gap_correlation'])} aspects)"
    rows = [[title, *shown.values()]]
    rows += [[shown[a], *(number(numbers["gap_correlation"][a][b], 2) for b in names)] for a in names]
    return [*lines, "", *table(rows)]


def _aspect_rows(numbers: Mapping[str, Any]) -> list[list[str]]:
    """The table of the aspects. Of a label that is none's, agreement with it stands where no proxy was measured."""
    label = wording_of(numbers).label
    measured = any("proxy" in entry for entry in numbers["aspects"].values())
    names = ["own pairs"] * (not label) + ["scale q", "clipped", f"agrees with the {label}" if label else "agrees"]
    names += ["corr. with length"] + ["proxy accuracy"] * (measured or not label)
    rows = [["aspect", "weight", *names]]
    for name, entry in numbers["aspects"].items():
        proxy = entry.get("proxy")
        accuracy = f"{proxy['pair_accuracy']:.3f} ± {proxy.get('pair_accuracy_se', 0.0):.3f}" if proxy else "-"
        cells = [str(entry["own_pairs"])] * (not label) + [number(entry["quantile"]), percent(entry["clipped"])]
        cells += [percent(entry["agrees"]), number(entry["length_correlation"], 2)]
        rows.append([
            display_name(name), f"{entry['weight']:g}", *cells, *[accuracy] * (measured or not label)
        ])  # fmt: skip
    return rows


def _output_lines(numbers: Mapping[str, Any]) -> list[str]:
    """What is read of reward models with several outputs, or of which less is better."""
    lines = []
    for aspect, entry in (numbers.get("outputs") or {}).items():
        words = [said if name is None else f"{said} '{display_name(name)}'" for said, name in said_of(entry)]
        lines.append(f"'{display_name(aspect)}' reads of its reward model: {', '.join(words)}.")
    return lines


def _group_lines(numbers: Mapping[str, Any]) -> list[str]:
    rows = [["", "all", "kept", "dropped"]]
    groups = ("all", "kept", "dropped")
    lengths = numbers["lengths"]
    for key, label, form in (
        ("mean_characters_chosen", "mean characters, chosen", lambda v: number(v, 1)),
        ("mean_characters_rejected", "mean characters, rejected", lambda v: number(v, 1)),
        ("chosen_longer", "chosen is longer", percent),
    ):
        if key in lengths["all"]:
            rows.append([label, *(form(lengths[group][key]) for group in groups)])
    for name, shares in numbers["unseen_labels"].items():
        unseen = unseen_name(name, wording_of(numbers))
        rows.append([f"label agrees with {unseen}", *(percent(shares[group]) for group in groups)])
    return table(rows)


def _agreement_lines(numbers: Mapping[str, Any]) -> list[str]:
    """Of pairs with a label that is no aspect's: which votes agree with it no more often than a coin does."""
    label, aspects = wording_of(numbers).label, numbers.get("aspects", {})
    if not label or not aspects:
        return []
    lines = []
    if not any("proxy" in entry for entry in aspects.values()):
        lines.append(
            f"All pairs carry the {label}, so that no vote is measured on labels of its own aspect, only by how often it "
            f"agrees with the {label}."
        )
    for aspect, entry in aspects.items():
        # Reports of earlier versions have no `decided`: they count a tie as a vote against the label.
        given = numbers["total"] - numbers.get("missing_gaps", {}).get(aspect, 0)
        agrees, pairs = entry["agrees"], entry.get("decided", given)
        if agrees is None or entry["weight"] == 0:
            continue
        error = binomial_error(agrees, pairs)
        among = "the pairs" if pairs == given else f"the {pairs:,} pairs that it decides"
        share = (
            f"'{display_name(aspect)}' agrees with the {label} on {100 * agrees:.1f} ± {100 * error:.1f} % of {among}"
        )
        if agrees + 2 * error < 0.5:
            lines.append(
                f"{share}, less often than a coin: it values something else, or smaller is better in what it gives."
            )
        elif agrees - 2 * error <= 0.5:
            lines.append(f"{share}, no more often than a coin: it values something else, or its votes are noise.")
    return lines


def warning_lines(numbers: Mapping[str, Any]) -> list[str]:
    """Warnings and remarks on the numbers: proxies no better than simple rules, votes left out, missing values."""
    lines = _agreement_lines(numbers)
    for aspect, entry in numbers.get("aspects", {}).items():
        name = display_name(aspect)
        if entry["weight"] == 0:
            lines.append(f"'{name}' has no vote (weight 0).")
        proxy = entry.get("proxy")
        correlation = entry["length_correlation"]
        if correlation is not None and abs(correlation) > LENGTH_ALONE:
            lines.append(
                f"WARNING: the gaps of '{name}' mostly reflect length (correlation {correlation:.2f}). The length "
                "penalty is per token and may be too large for long responses: lower it, or try "
                "length_correction='residual'."
            )
        if proxy and entry["weight"] > 0 and (weakness := _WEAKNESSES.get(verdict(proxy))):
            pairs = f"on {proxy.get('num_pairs', '?')} held-out pairs"
            lines.append(f"WARNING: the reward model of '{name}' is {weakness.format(pairs)}.")
    for name, count in numbers.get("missing_gaps", {}).items():
        lines.append(f"{count} pairs have no rating of '{display_name(name)}'. It has no vote on these pairs.")
    votes = numbers.get("missing_votes") or {}
    if votes.get("none"):
        rule = SELECTORS.get(numbers["selector"])
        left_out = " and are dropped" if rule is not None and "pd" in rule.inputs else ""
        none = "no aspect" if wording_of(numbers).label else "no other aspect"
        lines.append(
            f"WARNING: on {votes['none']} of {numbers['total']} pairs {none} votes; they have no PD{left_out}."
        )
    if votes.get("fewer"):
        lines.append(
            f"{votes['fewer']} of {numbers['total']} pairs have fewer votes than the others, because ratings are "
            "missing. Their PD is the mean of the votes they have, times the number of votes of a complete pair."
        )
    for column, count in (numbers.get("missing_numbers") or {}).items():
        lines.append(
            f"Column '{display_name(column)}' has no number in {count} of {numbers['total']} pairs. The report skips these pairs."
        )
    return lines
