"""Tables of a benchmark, in markdown: means over seeds with their standard errors, and which of the paper's orderings appear."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .measures import mean_and_error
from .rows import ROWS

_ORDER = ("SFT", *ROWS)
# (better, worse) by the paper's table and ablations.
ORDERINGS = (
    ("PD (ours)", "ALL"),
    ("PD (ours)", "RAND"),
    ("PD (ours)", "RAF"),
    ("PD (ours)", "PD (nl)"),
    ("PD (quoted)", "PD (nl)"),
    ("PD (ours)", "PD (rati.)"),
    ("SFT", "PD (high)"),
    ("PD (ours)", "OVA"),
    ("DFPO", "ALL"),
    ("DFPO, beta/kappa", "ALL"),
    ("PD (ours)", "DFPO"),
    ("AVG", "OVA"),
    ("RAF", "ALL"),
)
_CHECKS = (
    ("PD (ours)", "PD (quoted)"),
    ("PD (ours)", "OVA on PD"),
    ("OVA on PD", "OVA on RAND"),
    ("PD (ours)", "ALL, robust"),
    ("PD (ours)", "ALL, WPO"),
)

Cells = Sequence[Mapping[str, Any]]


def _at(cells: Cells, conflict: float | None) -> list[Mapping[str, Any]]:
    done = [cell for cell in cells if "error" not in cell]
    return [cell for cell in done if conflict is None or cell["settings"]["conflict"] == conflict]


def by_seed(cells: Cells, *path: str) -> NDArray[np.float64]:
    """One number a seed: cells of one seed share their world and prompts, so that they are no independent samples."""
    seeds = sorted({cell["settings"]["seed"] for cell in cells})
    return np.array(
        [np.mean([value_of(cell, path) for cell in cells if cell["settings"]["seed"] == seed]) for seed in seeds]
    )


def value_of(cell: Mapping[str, Any], path: Sequence[str]) -> float:
    """The number at a path of keys, NaN where there is none."""
    value: Any = cell
    for key in path:
        value = value.get(key, float("nan"))
    return float(value)


def number(values: ArrayLike, digits: int, scale: float = 1.0, error: bool = True) -> str:
    """Mean and standard error over seeds, as text."""
    mean, se = mean_and_error(scale * np.asarray(values))
    shown = f"{mean:.{digits}f}"
    return f"{shown} ± {se:.{digits}f}" if error and np.isfinite(se) else shown


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def gold_table(cells: Cells) -> str:
    """Gold score of each row at each level of conflict, mean ± SE over seeds."""
    levels = sorted({cell["settings"]["conflict"] for cell in _at(cells, None)})
    rows = []
    for name in _ORDER:
        if any(name in cell["rows"] for cell in _at(cells, None)):
            scores = [number(by_seed(_at(cells, c), "rows", name, "gold"), 2) for c in levels]
            rows.append([name, *scores])
    return markdown(["gold score", *(f"conflict {100 * level:.0f} %" for level in levels)], rows)


def full_table(cells: Cells, conflict: float) -> str:
    """All columns of each row at one level of conflict, mean ± SE over seeds."""
    chosen = _at(cells, conflict)
    baselines = [name for name in ("SFT", "OVA") if f"win_rate_{name}" in chosen[0]["rows"]["SFT"]]
    head = ["row", "gold score"]
    for name in baselines:
        head += [f"win rate vs {name}, %", f"LC win rate vs {name}, %", f"win score vs {name}"]
    head += [
        "words",
        "pairs",
        "conflict in them, %",
        "chosen longer, %",
        "selection, CPU s",
        "training, CPU s",
        "GFLOP",
    ]
    rows = []
    for name in (n for n in _ORDER if n in chosen[0]["rows"]):
        line = [name, number(by_seed(chosen, "rows", name, "gold"), 2)]
        for base in baselines:
            for key, scale, digits in (("win_rate", 100, 1), ("lc_win_rate", 100, 1), ("win_score", 1, 2)):
                line.append(
                    "–" if name == base else number(by_seed(chosen, "rows", name, f"{key}_{base}"), digits, scale)
                )
        line.append(number(by_seed(chosen, "rows", name, "words"), 1, error=False))
        trained = "num_pairs" in chosen[0]["rows"][name]
        for key, digits, scale in (("num_pairs", 0, 1), ("conflict", 1, 100), ("chosen_longer", 1, 100),
                                   ("selection_seconds", 0, 1), ("training_seconds", 0, 1)):  # fmt: skip
            line.append(number(by_seed(chosen, "rows", name, key), digits, scale, error=False) if trained else "–")
        flops = (
            np.add(by_seed(chosen, "rows", name, "selection_flops"), by_seed(chosen, "rows", name, "training_flops"))
            / 1e9
        )
        line.append(f"{flops.mean():.0f}" if trained else "–")
        rows.append(line)
    return markdown(head, rows)


def detection_table(cells: Cells) -> str:
    """How well PD finds the pairs whose label contradicts the gold overall reward."""
    levels = sorted({cell["settings"]["conflict"] for cell in _at(cells, None)})
    rows = []
    for name in _at(cells, None)[0]["detection"]:
        line = [name]
        for level in levels:
            chosen = _at(cells, level)
            line.append(number(by_seed(chosen, "detection", name, "auc"), 3))
            before = by_seed(chosen, "conflict")
            after = by_seed(chosen, "detection", name, "conflict")
            line.append(f"{100 * np.mean(before):.1f} → {100 * np.mean(after):.1f}")
        rows.append(line)
    head = ["PD as a detector"]
    for level in levels:
        head += [f"AUC at {100 * level:.0f} %", f"conflict before → kept, % at {100 * level:.0f} %"]
    return markdown(head, rows)


def orderings(cells: Cells) -> list[dict[str, Any]]:
    """
    For each ordering of the paper: the mean difference of gold scores over seeds and levels, its standard error over
    seeds, and in how many cells it has the paper's sign; then the growth of PD's lead over ALL with conflict.
    """
    chosen = _at(cells, None)
    found = []
    for better, worse in ORDERINGS + _CHECKS:
        having = [cell for cell in chosen if better in cell["rows"] and worse in cell["rows"]]
        if having:
            lead = by_seed(having, "rows", better, "gold") - by_seed(having, "rows", worse, "gold")
            mean, error = mean_and_error(lead)
            in_order = sum(cell["rows"][better]["gold"] > cell["rows"][worse]["gold"] for cell in having)
            found.append({
                "ordering": f"{better} > {worse}", "in_paper": (better, worse) in ORDERINGS, "difference": mean,
                "se": error, "seeds": len(lead), "cells": len(having), "cells_in_order": in_order,
            })  # fmt: skip
    return found + _growth(chosen)


def _growth(cells: Cells) -> list[dict[str, Any]]:
    levels = sorted({cell["settings"]["conflict"] for cell in cells})
    if len(levels) < 2:
        return []
    leads = [
        by_seed(_at(cells, level), "rows", "PD (ours)", "gold") - by_seed(_at(cells, level), "rows", "ALL", "gold")
        for level in (levels[0], levels[-1])
    ]
    growth = leads[1] - leads[0]
    mean, error = mean_and_error(growth)
    name = f"PD's lead over ALL is larger at {100 * levels[-1]:.0f} % conflict than at {100 * levels[0]:.0f} %"
    return [{
        "ordering": name, "in_paper": True, "difference": mean, "se": error, "seeds": len(growth), "cells": len(growth),
        "cells_in_order": int((growth > 0).sum()),
    }]  # fmt: skip


# 97.5 % quantiles of Student's t by the number of seeds.
_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def verdict(entry: Mapping[str, Any]) -> str:
    """Whether an ordering appears or is reversed, by a t-test over seeds at 5 %, or is not clear."""
    difference, error = entry["difference"], entry["se"]
    if not np.isfinite(error):
        return "one seed, no verdict"
    margin = _T.get(entry["seeds"], 2.0) * error
    if difference > margin:
        return "appears"
    return "reversed" if difference < -margin else "not clear"


def ordering_table(cells: Cells) -> str:
    """The orderings as a table."""
    rows = [
        [
            entry["ordering"], "the paper's" if entry["in_paper"] else "ours",
            f"{entry['difference']:+.2f}" + (f" ± {entry['se']:.2f}" if np.isfinite(entry["se"]) else ""),
            f"{entry['cells_in_order']} of {entry['cells']}", verdict(entry),
        ]
        for entry in orderings(cells)
    ]  # fmt: skip
    return markdown(["ordering", "claim", "difference of gold score", "cells in this order", "verdict"], rows)
