"""Tables of the card of a scored data set, from the numbers of a selection report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..method.accuracy import verdict
from ..selection.wording import said_of, wording_of
from ..text.names import MAX_MATRIX
from .facts import DatasetFacts, ProxyFacts
from .text import Safe, accuracy, code, count, number, percent, repo_link, table


def statistics_table(divergence: Mapping[str, Any] | None) -> Safe:
    """Range, quantiles and means of the PD."""
    if not divergence:
        return Safe("")
    quantiles = divergence.get("quantiles", {})
    header = [
        "",
        "lowest",
        *[f"{100 * float(q):.0f} %" for q in quantiles],
        "highest",
        "mean",
        "mean of kept",
        "mean of dropped",
    ]
    values = [divergence["min"], *quantiles.values(), divergence["max"], divergence["mean"], divergence["mean_kept"],
              divergence["mean_dropped"]]  # fmt: skip
    return table([header, ["PD", *(number(value, 2) for value in values)]])


def kept_table(groups: Mapping[str, Any] | None, title: str, facts: DatasetFacts | None = None) -> Safe:
    """Kept and total pairs of each group, and of all pairs if `facts` are given."""
    if not groups:
        return Safe("")
    rows: list[Sequence[object]] = [[title, "kept", "total", "share kept"]]
    rows += [[name, count(g["kept"]), count(g["total"]), percent(g["share"])] for name, g in groups.items()]
    if facts is not None and facts.total:
        rows.append(
            [
                Safe("**all**"),
                *(
                    Safe(f"**{v}**")
                    for v in (count(facts.kept), count(facts.total), percent(facts.kept / facts.total))
                ),
            ]
        )
    return table(rows)


def group_table(report: Mapping[str, Any]) -> Safe:
    """Lengths and agreement with labels, of all, kept and dropped pairs."""
    groups = ("all", "kept", "dropped")
    rows: list[Sequence[object]] = [["share or mean", *groups]]
    lengths = report.get("lengths", {})
    for key, label, form in (
        ("chosen_longer", "chosen response is the longer one", percent),
        ("mean_characters_chosen", "mean characters, chosen", lambda value: number(value, 0)),
        ("mean_characters_rejected", "mean characters, rejected", lambda value: number(value, 0)),
    ):
        if key in lengths.get("all", {}):
            rows.append([label, *(form(lengths[group][key]) for group in groups)])
    voters = wording_of(report).voters
    for name, shares in report.get("unseen_labels", {}).items():
        label = {"overall": "the overall label", "other aspects": f"{voters}’ labels"}.get(name, name)
        rows.append([f"agrees with {label}", *(percent(shares[group]) for group in groups)])
    return table(rows) if len(rows) > 1 else Safe("")


def proxy_table(facts: DatasetFacts) -> Safe:
    """Held-out accuracy of each proxy beside the two rules it must beat."""
    if not facts.proxies:
        return Safe("")
    if wording_of(facts.report).label and not any("pair_accuracy" in proxy.metrics for proxy in facts.proxies):
        names: list[Sequence[object]] = [[proxy.aspect, _proxy_model(proxy)] for proxy in facts.proxies]
        return table([["aspect", "reward model"], *names], left=2)
    rows: list[Sequence[object]] = [
        ["aspect", "reward model", "verdict", "training pairs", "held-out pairs", "accuracy ± SE", "“longer wins”"]
    ]
    aspects = facts.report.get("aspects", {})
    for proxy in facts.proxies:
        metrics = proxy.metrics
        pairs = metrics.get("num_pairs")
        rows.append([
            proxy.aspect, _proxy_model(proxy), Safe(_verdict(aspects.get(proxy.aspect, {}))), count(proxy.num_train),
            count(int(pairs) if pairs else None), accuracy(metrics), percent(metrics.get("length_accuracy")),
        ])  # fmt: skip
    return table(rows, left=3)


def _proxy_model(proxy: ProxyFacts) -> Safe:
    words = [said if name is None else f"{said} {code(name)}" for said, name in said_of(proxy.read)]
    return Safe(", ".join([_named_model(proxy), *words]))


def _named_model(proxy: ProxyFacts) -> Safe:
    if proxy.model:
        return repo_link(proxy.model, "model", proxy.revision)
    digest = f", {code(proxy.revision[:10])}" if proxy.revision else ""
    base = f", from {repo_link(proxy.base_model)}" if proxy.base_model else ""
    return Safe(f"not published{digest}{base}")


def _verdict(aspect: Mapping[str, Any]) -> str:
    if aspect.get("weight") == 0:
        return "no vote"
    found = verdict(aspect.get("proxy") or {})
    plain = {"not measured": "not measured", "better": "better than both"}
    return plain.get(found) or f"**{found.replace('than length', 'than “longer wins”')}**"


def scale_table(report: Mapping[str, Any]) -> Safe:
    """Scale, clipped share, agreement and correlation with length of each aspect's gaps."""
    aspects, label = report.get("aspects", {}), wording_of(report).label or "label"
    if not aspects:
        return Safe("")
    rows: list[Sequence[object]] = [
        [
            "aspect",
            "weight of its vote",
            "scale q",
            "gaps clipped",
            f"agrees with the {label}",
            "correlation with length",
        ]
    ]
    for name, entry in aspects.items():
        rows.append([
            name, Safe(f"{entry['weight']:g}"), number(entry["quantile"]), percent(entry["clipped"]), percent(entry["agrees"]),
            number(entry["length_correlation"], 2),
        ])  # fmt: skip
    return table(rows)


def matrix_table(
    matrix: Mapping[str, Mapping[str, float | None]], corner: str, form: Callable[[float | None], Safe]
) -> Safe:
    """A table with a value for every two aspects."""
    if len(matrix) < 2:
        return Safe("")
    names = list(matrix)[:MAX_MATRIX]
    rows: list[Sequence[object]] = [[corner, *names]]
    rows += [[a, *(Safe("·") if a == b else form(matrix[a].get(b)) for b in names)] for a in names]
    cut = f"\n\nThe first {len(names)} of {len(matrix)} aspects." if len(names) < len(matrix) else ""
    return Safe(table(rows) + cut)
