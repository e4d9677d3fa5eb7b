"""The results as markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .results import LENGTH, PD, RAF, RAF_SAME, RANDOM, RATINGS, REFERENCE_BUDGET


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first row is the header."""
    alignment = ["---", *["--:"] * (len(rows[0]) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (rows[0], alignment, *rows[1:])]


def share(measure: dict[str, Any]) -> str:
    """A share in percent."""
    return "-" if measure["mean"] is None else f"{100 * measure['mean']:.1f}"


def difference(measure: dict[str, Any]) -> str:
    """A difference in points with its 95 % interval, bold where the interval excludes 0."""
    if measure["mean"] is None:
        return "-"
    low, high = (100 * v for v in measure["interval"])
    text = f"{100 * measure['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def entry_of(result: dict[str, Any], row: str, budget: float) -> dict[str, Any]:
    """The entry of a row at a budget."""
    return next(e for e in result["rows"] if e["row"] == row and e["budget"] == budget)


def main_rows(result: dict[str, Any], handlings: Sequence[str]) -> list[str]:
    """The rows of the main table that a result has."""
    wanted = [RATINGS, *(f"{PD} [{h}]" for h in handlings), RAF, LENGTH, RANDOM]
    present = {e["row"] for e in result["rows"]}
    return [row for row in wanted if row in present]


def report(found: dict[str, Any], headline: Sequence[str]) -> str:
    """All tables of a run."""
    lines = [
        f"`{found['command']}`",
        "",
        f"{len(found['seeds'])} assignments of aspects to pairs (seeds {', '.join(map(str, found['seeds']))}), {found['folds']} folds "
        f"of prompts, {found['resamples']} bootstrap resamples of prompts. Differences are in points with 95 % intervals, bold "
        "where they exclude 0. `all` is what a random selection keeps in expectation. `equal lengths`: with the shares of pairs whose "
        "chosen response is longer and shorter held as they are in all pairs.",
    ]
    lines += ["", *summary_table(found["results"], headline), "", *handling_summary(found["results"])]
    for result in found["results"]:
        lines += [
            "",
            f"## {result['set']}, proxies: {result['proxy']}",
            "",
            *_about(result),
            "",
            *_main_table(result, headline),
        ]
        lines += ["", *_budget_table(result, headline), "", *_handling_table(result), "", *_aspect_table(result)]
    return "\n".join(lines) + "\n"


def summary_table(results: Sequence[dict[str, Any]], headline: Sequence[str]) -> list[str]:
    """Every rule on every set at the reference budget, in one table."""
    header = ["set", "rule", "proxies", "hidden: kept - all", "equal lengths", "dropped - all"]
    rows = [[*header, "overall: kept - all", "equal lengths", "dropped - all"]]
    shown = set()
    for result in sorted(results, key=lambda r: r["set"]):
        for name in main_rows(result, headline):
            # The ratings and the draw do not depend on the proxies; the ruler does by their tokens, which is not worth a row.
            proxy = "-" if name in (RATINGS, LENGTH, RANDOM) else result["proxy"]
            if (result["set"], name, proxy) in shown:
                continue
            shown.add((result["set"], name, proxy))
            entry = entry_of(result, name, REFERENCE_BUDGET)
            cells = [result["set"], name, proxy]
            for measure in ("hidden", "overall"):
                if measure in entry:
                    cells += [difference(entry[measure]["kept - all"])]
                    cells += [difference(entry[f"{measure}_by_length"]["kept - all"])]
                    cells += [difference(entry[measure]["dropped - all"])]
                else:
                    cells += ["-"] * 3
            rows.append(cells)
    return markdown(rows)


def handling_summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """For every handling and kind of proxies: mean of halves, and what PD gains at the reference budget as it is and at equal lengths."""
    columns = sorted(results, key=lambda r: (r["set"], r["proxy"]))
    rows = [["mean of halves; kept - all; equal lengths", *(f"{r['set']}, {r['proxy']}" for r in columns)]]
    for handling in dict.fromkeys(e["handling"] for r in columns for e in r["handlings"]):
        cells = [handling]
        for result in columns:
            halves = [p["balanced_accuracy"] for p in result["proxies"] if p["handling"] == handling]
            if not halves:
                cells.append("-")
                continue
            entry = entry_of(result, f"{PD} [{handling}]", REFERENCE_BUDGET)
            gains = (entry[measure]["kept - all"]["mean"] for measure in ("hidden", "hidden_by_length"))
            shown = "; ".join("-" if gain is None else f"{100 * gain:+.1f}" for gain in gains)
            cells.append(f"{np.mean(halves):.3f}; {shown}")
        rows.append(cells)
    return markdown(rows)


def _about(result: dict[str, Any]) -> list[str]:
    conflict = result["conflict"]
    if conflict["hidden majority"] is None:
        about = "No pair has labels of two aspects: there are no hidden labels to compare with."
        return [f"{result['pairs']} pairs, {result['prompts']} prompts. {about}"]
    overall = "" if conflict["overall"] is None else f" and {100 * conflict['overall']:.1f} % their overall label"
    return [
        f"{result['pairs']} pairs, {result['prompts']} prompts. {100 * conflict['hidden majority']:.1f} % of the labels contradict "
        f"most of the hidden votes{overall}, where these decide."
    ]


def _main_table(result: dict[str, Any], headline: Sequence[str]) -> list[str]:
    has_overall = any("overall" in e for e in result["rows"])
    header = [f"kept {100 * REFERENCE_BUDGET:.0f} %", "hidden, kept", "kept - all", "equal lengths", "dropped - all"]
    header += ["overall, kept", "kept - all", "equal lengths", "dropped - all"] if has_overall else []
    rows = [[*header, "chosen longer", "AUC hidden", *(["AUC overall"] if has_overall else [])]]
    for name in main_rows(result, headline):
        entry = entry_of(result, name, REFERENCE_BUDGET)
        cells = [name]
        for measure in ("hidden", "overall") if has_overall else ("hidden",):
            found = entry[measure]
            cells += [share(found["kept"]), difference(found["kept - all"])]
            cells += [difference(entry[f"{measure}_by_length"]["kept - all"]), difference(found["dropped - all"])]
        aucs = result["auc"][name]
        cells += [share(entry["longer"]["kept"]), _mean(aucs["hidden majority"])]
        rows.append(cells + ([_mean(aucs["overall"])] if has_overall else []))
    return markdown(rows)


def _mean(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.3f}" if known else "-"


def _budget_table(result: dict[str, Any], headline: Sequence[str]) -> list[str]:
    budgets = sorted({e["budget"] for e in result["rows"]})
    rows = [["hidden, kept - all, at a budget of", *(f"{100 * b:.0f} %" for b in budgets)]]
    for name in main_rows(result, headline):
        rows.append([name, *(difference(entry_of(result, name, b)["hidden"]["kept - all"]) for b in budgets)])
    return markdown(rows)


def _handling_table(result: dict[str, Any]) -> list[str]:
    has_same = any(f"minus {RAF_SAME}" in e for e in result["handlings"])
    has_overall = any("overall" in e for e in result["rows"])
    header = ["length handling", "accuracy", "longer half", "shorter half", "mean of halves", "abs. corr. with length"]
    header += [f"PD keeps {100 * REFERENCE_BUDGET:.0f} %: hidden, kept - all", "minus no handling"]
    header += ["equal lengths, kept - all", "minus no handling"]
    header += ["overall, kept - all"] if has_overall else []
    rows = [[*header, "minus RAF", *(["minus RAF with this handling"] if has_same else []), "chosen longer"]]
    for entry in result["handlings"]:
        name = entry["handling"]
        proxies = [p for p in result["proxies"] if p["handling"] == name]
        kept = entry_of(result, f"{PD} [{name}]", REFERENCE_BUDGET)
        keys = ("pair_accuracy", "pair_accuracy_chosen_longer", "pair_accuracy_chosen_shorter", "balanced_accuracy")
        cells = [name, *(f"{np.mean([p[key] for p in proxies]):.3f}" for key in keys)]
        cells.append(f"{np.mean([abs(p['length_correlation']) for p in proxies]):.2f}")
        for measure in ("hidden", "hidden_by_length"):
            cells.append(difference(kept[measure]["kept - all"]))
            cells.append("-" if name == "none" else difference(entry["minus no handling"][measure]))
        if has_overall:
            cells.append(difference(kept["overall"]["kept - all"]))
        cells.append(difference(entry[f"minus {RAF}"]["hidden"]))
        if has_same:
            same = entry.get(f"minus {RAF_SAME}")
            cells.append("-" if same is None else difference(same["hidden"]))
        rows.append([*cells, share(kept["longer"]["kept"])])
    return markdown(rows)


def _aspect_table(result: dict[str, Any]) -> list[str]:
    rows = [["proxy, no length handling", "held-out pairs", "accuracy", "longer wins", "longer half", "shorter half"]]
    for p in result["proxies"]:
        if p["handling"] == "none":
            keys = ("pair_accuracy", "length_accuracy", "pair_accuracy_chosen_longer", "pair_accuracy_chosen_shorter")
            rows.append([p["aspect"], f"{p['num_pairs']:.0f}", *(f"{p[key]:.3f}" for key in keys)])
    return markdown(rows)
