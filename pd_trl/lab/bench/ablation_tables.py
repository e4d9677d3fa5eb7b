"""Tables of the ablations: each variant's numbers, and its differences from others within a seed."""

import numpy as np

from .measures import mean_and_error
from .tables import Cells, by_seed, markdown, number, value_of

# Title, key, digits and scale of what is compared with the default proxies, where an ablation has it.
_AGREEMENT = (
    ("rank correlation with the default's PD", "pd_spearman", 3, 1),
    ("kept by the default too, %", "kept_overlap", 1, 100),
    ("accuracy of the proxies, %", "mean_accuracy", 1, 100),
    ("of the default ones, %", "mean_accuracy_default", 1, 100),
)


def ablation_table(entries: Cells) -> str:
    """One ablation: each variant's policies and its PD as a detector, mean ± SE over seeds."""
    labels = list(dict.fromkeys(entry["label"] for entry in entries))
    names = list(dict.fromkeys(name for e in entries if "error" not in e for name in e["rows"] if name != "SFT"))
    detections = [e["detection"]["PD (ours)"] for e in entries if "error" not in e]
    compared = _AGREEMENT if any("pd_spearman" in detection for detection in detections) else ()
    rows = []
    for label in labels:
        having = [entry for entry in entries if entry["label"] == label and "error" not in entry]
        if not having:
            reason = next(entry["error"] for entry in entries if entry["label"] == label)
            rows.append(
                [label, *["–"] * (len(names) + 2 + len(compared)), f"cannot be run: {reason}".replace("|", "/")]
            )
            continue
        policies = [number(by_seed(having, "rows", name, "gold"), 2) for name in names]
        first = having[0]["detection"]["PD (ours)"]
        detected = [
            number(by_seed(having, "detection", "PD (ours)", key), digits, scale)
            for key, digits, scale in (("auc", 3, 1), ("conflict", 1, 100), ("chosen_longer", 1, 100))
        ]  # fmt: skip
        agreed = [
            number(by_seed(having, "detection", "PD (ours)", key), digits, scale) if key in first else "–"
            for _, key, digits, scale in compared
        ]
        rows.append([label, *policies, *detected, *agreed])
    head = [
        "",
        *(f"gold score, {name}" for name in names),
        "AUC of PD",
        "conflict in the kept, %",
        "kept, chosen longer, %",
        *(title for title, *_ in compared),
    ]
    return markdown(head, rows)


def difference_table(entries: Cells) -> str:
    """
    Differences within a seed, mean ± SE over seeds: seeds differ more than variants do, so that these tell what a table of
    means cannot. Of each variant from the one that it is compared with, and of PD from the other policies of its world.

    Returns:
        `str`: empty where there is nothing to compare.
    """
    done = [entry for entry in entries if "error" not in entry]
    others = list(dict.fromkeys(name for entry in done for name in entry["rows"] if name not in ("SFT", "PD (ours)")))
    aspect = next((entry["aspect"] for entry in done if entry.get("aspect")), None)
    compared = any(entry.get("against") for entry in done)
    columns: list[tuple[str, str, tuple[str, ...], int]] = []
    if compared:
        columns += [("gold score", "against", ("rows", "PD (ours)", "gold"), 2)]
        columns += [("AUC of PD", "against", ("detection", "PD (ours)", "auc"), 3)]
    if aspect:
        columns += [(f"gold {aspect}", "against", ("rows", "PD (ours)", "gold_of_aspects", aspect), 2)]
    columns += [(f"PD (ours) over {name}", name, ("rows", name, "gold"), 2) for name in others]
    if not columns:
        return ""
    rows = [
        [
            label,
            *([_against(done, label) or "–"] if compared else []),
            *(_difference(done, label, *c[1:]) for c in columns),
        ]
        for label in dict.fromkeys(entry["label"] for entry in done)
    ]
    return markdown(["", *(["against"] if compared else []), *(title for title, *_ in columns)], rows)


def _against(entries: Cells, label: str) -> str | None:
    return next((entry.get("against") for entry in entries if entry["label"] == label), None)


def _difference(entries: Cells, label: str, other: str, path: tuple[str, ...], digits: int) -> str:
    ours = {entry["seed"]: entry for entry in entries if entry["label"] == label}
    reference, their_path, our_path = ours, path, path
    if other == "against":
        reference = {entry["seed"]: entry for entry in entries if entry["label"] == _against(entries, label)}
    else:
        our_path = ("rows", "PD (ours)", "gold")
    differences = [
        value_of(ours[seed], our_path) - value_of(reference[seed], their_path)
        for seed in sorted(set(ours) & set(reference))
    ]
    if not differences or not np.isfinite(differences).all():
        return "–"
    mean, error = mean_and_error(np.array(differences))
    return f"{mean:+.{digits}f}" + (f" ± {error:.{digits}f}" if np.isfinite(error) else "")
