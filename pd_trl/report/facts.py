"""The page at the filter's own budget: plain values for its template."""

from collections.abc import Mapping
from typing import Any

from ..runs.artifacts import library_versions
from ..selection.filter import PDFilter
from ..selection.report_numbers import GROUPS
from ..selection.report_text import warning_lines
from ..selection.sql import shown_sql
from ..selection.wording import wording_of
from ..text.names import MAX_MATRIX, display_name, display_names
from ..text.tables import number, percent
from .ranked import Matrix, RankedPairs

# Longest name above a column of a matrix.
MAX_HEADING = 60


def page_facts(
    ranked: RankedPairs, pd_filter: PDFilter, numbers: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Values of the page's template.

    Args:
        ranked ([`RankedPairs`]): Pairs in rank order.
        pd_filter ([`PDFilter`]): The filter that decided on them.
        numbers (`dict`): Numbers of its [`SelectionReport`].
        provenance (`dict`): What the manifests know of the source, such as the conflicts of its labels.
    """
    words = wording_of(numbers)
    return {
        "numbers": numbers,
        "voters": words.voters,
        "agrees": f"agrees with the {words.label}" if words.label else "agrees",
        "share": numbers["kept"] / numbers["total"],
        "rule": pd_filter.rule.description,
        "warnings": warning_lines(numbers),
        "groupings": _groupings(ranked, numbers),
        "proxies": _proxies(numbers),
        "group_rows": _group_rows(ranked, numbers),
        "matrices": _matrices(ranked, numbers, provenance, pd_filter.source),
        "has_proxies": any("proxy" in entry for entry in numbers.get("aspects", {}).values()),
        "overlap": {name: percent(value) for name, value in numbers["overlap"].items()},
        "arguments": {name: _plain(value) for name, value in pd_filter.shown().items()},
        "source": {display_name(name): _plain(value) for name, value in (provenance.get("source") or {}).items()},
        "versions": library_versions(),
        "sql": shown_sql(pd_filter),
    }


def _plain(value: Any) -> Any:
    """A value of an argument or of the source, with names and texts in the form that is shown."""
    if isinstance(value, Mapping):
        return {display_name(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return display_name(value) if isinstance(value, str) else value


def _groupings(ranked: RankedPairs, numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of kept pairs by group. The page finds a group by its index."""
    words = wording_of(numbers)
    titles = {
        "aspect": ("By aspect", "Pairs that have the label of this aspect."),
        "votes": ("By votes", f"How many of {words.voters} that vote agree with {words.label_of_pair}."),
    }
    if words.label:
        del titles["aspect"]
    found = []
    for key, (title, note) in titles.items():
        counts = numbers.get(f"kept_by_{key}") or {}
        index = {name: i for i, name in enumerate(ranked.groups.get(key, []))}
        groups = [
            {**counts[name], "name": shown, "index": index.get(name, -1)}
            for name, shown in display_names(counts).items()
        ]
        if groups:
            found.append({"key": key, "title": title, "note": note, "groups": groups})
    return found


def _proxies(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, entry in numbers.get("aspects", {}).items():
        proxy = entry.get("proxy") or {}
        row = {
            "name": display_name(name),
            "weight": f"{entry['weight']:g}",
            "accuracy": f"{proxy['pair_accuracy']:.3f} ± {proxy.get('pair_accuracy_se', 0.0):.3f}" if proxy else "-",
            "held_out": f"{proxy['num_pairs']:,.0f}" if proxy.get("num_pairs") else "-",
            "longer_wins": number(proxy.get("length_accuracy")),
            "beats_coin": proxy.get("beats_coin"),
            "beats_length": proxy.get("beats_length"),
            "scale": number(entry["quantile"]),
            "clipped": percent(entry["clipped"]),
            "expected": percent(entry["clipped_expected"]),
            "agrees": percent(entry["agrees"]),
            "length": number(entry["length_correlation"], 2),
        }
        rows.append(row)
    return rows


def _group_rows(ranked: RankedPairs, numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of all, kept and dropped pairs. The page finds a row by its `key` to count again."""
    lengths, unseen = numbers["lengths"], numbers["unseen_labels"]
    rows: list[dict[str, Any]] = []
    if "decided" in ranked.columns:
        agree, decided = (ranked.columns[name].astype(int) for name in ("agree", "decided"))
        parts = {"all": slice(None), "kept": slice(ranked.kept), "dropped": slice(ranked.kept, None)}
        shares = {
            group: agree[part].sum() / decided[part].sum() if decided[part].sum() else None
            for group, part in parts.items()
        }
        label = f"expected agreement: votes of {wording_of(numbers).voters}"
        rows.append({"key": "agreement", "label": label, **_shares(shares)})
    whose = wording_of(numbers).voters.removeprefix("the ")
    for name, key, shown in (("overall", "overall", "overall"), ("other aspects", "others", whose)):
        if name in unseen:
            rows.append({"key": key, "label": f"hidden labels that agree: {shown}", **_shares(unseen[name])})
    if "chosen_longer" in lengths["all"]:
        shares = {group: lengths[group]["chosen_longer"] for group in GROUPS}
        rows.append({"key": "longer", "label": "chosen response is the longer one", **_shares(shares)})
    for side in ("chosen", "rejected"):
        if f"mean_characters_{side}" in lengths["all"]:
            means = {group: number(lengths[group][f"mean_characters_{side}"], 1) for group in GROUPS}
            rows.append({"key": side, "label": f"mean characters, {side}", "bars": None, "cells": means})
    return rows


def _shares(shares: Mapping[str, float | None]) -> dict[str, Any]:
    return {"cells": {group: percent(shares[group]) for group in GROUPS}, "bars": shares}


def _matrices(
    ranked: RankedPairs, numbers: Mapping[str, Any], provenance: Mapping[str, Any], source: str
) -> list[dict[str, Any]]:
    found = []
    labels: Mapping[str, Mapping[str, float | None]] = provenance.get("conflict") or {}
    if labels:
        names = list(labels)
        values = [[labels[a].get(b) for b in names] for a in names]
        note = (
            "Share of pairs in which two aspects' labels prefer different responses, among the pairs that both decide, "
            "before the selection"
        )
        note += "." if source == "ratings" else ", which does not see these labels."
        found.append(_matrix("Conflict of the labels", note, names, values))
    if ranked.matrix is not None and len(ranked.matrix.names) > 1:
        notes = {
            "all": "Share of pairs in which two aspects prefer different responses by the sign of their gap, among "
            "the pairs that both decide."
            + ("" if wording_of(numbers).label else " A pair's own aspect prefers the chosen response."),
            "kept": "The same among the kept pairs.",
            "dropped": "The same among the dropped pairs.",
        }
        for group, note in notes.items():
            title = f"Conflict of the votes: {group} pairs"
            found.append(_matrix(title, note, ranked.matrix.names, ranked.conflicts[group]))
    correlation = numbers.get("gap_correlation")
    if correlation and len(correlation) > 1:
        names = list(correlation)
        values = [[correlation[a][b] for b in names] for a in names]
        found.append(_matrix("Correlation of the gaps", "Two aspects of high correlation cast nearly the same vote.", names, values, signed=True))  # fmt: skip
    return found


def _matrix(title: str, note: str, names: list[str], values: Matrix, signed: bool = False) -> dict[str, Any]:
    form = (lambda value: number(value, 2)) if signed else percent
    cells = [[{"text": form(value), "value": value} for value in row[:MAX_MATRIX]] for row in values[:MAX_MATRIX]]
    if len(names) > MAX_MATRIX:
        note += f" Of {len(names)} aspects, the first {MAX_MATRIX} are shown."
    shown = list(display_names(names[:MAX_MATRIX], MAX_HEADING).values())
    return {"title": title, "note": note, "names": shown, "cells": cells, "signed": signed}
