"""The results as markdown."""

from collections.abc import Sequence
from typing import Any

from real_data.tables import markdown

from .measures import mean_and_error

BASE = "ALL"


def points(values: Sequence[float | None], signed: bool = False) -> str:
    """Mean ± standard error over seeds, in percent or points."""
    mean, error = mean_and_error(values)
    if mean is None:
        return "-"
    text = f"{100 * mean:+.1f}" if signed else f"{100 * mean:.1f}"
    return text if error is None else f"{text} ± {100 * error:.1f}"


def value(record: dict[str, Any], measure: str) -> float | None:
    """A measure of a record; `by_aspect/NAME` is one aspect's."""
    name, _, aspect = measure.partition("/")
    found = record["measures"].get(name)
    return found[aspect] if aspect and found is not None else found


def set_table(records: list[dict[str, Any]]) -> list[str]:
    """Each arm of one set: what its labels say of the hidden aspects, what its policy says of held-out pairs, minus ALL's."""
    arms = list(dict.fromkeys(record["arm"] for record in records))
    by_arm = {arm: {r["seed"]: r for r in records if r["arm"] == arm} for arm in arms}
    aspects = list(records[0]["measures"]["by_aspect"])
    shown = ["hidden", "aspects", *(["overall"] if "overall" in records[0]["measures"] else [])]
    compared = [name for name in shown if any(value(r, name) is not None for r in records)]
    header = ["arm", "seeds", "pairs × steps", "training labels, hidden", *compared]
    header += [f"{name} - {BASE}" for name in compared] + [f"`{a}`" for a in aspects]
    rows = [[*header, "longer preferred", "corr. with length", "margin, nats"]]
    for arm in arms:
        found = by_arm[arm]
        same = [seed for seed in found if seed in by_arm.get(BASE, {})]
        first = next(iter(found.values()))["training"]
        cells = [arm, str(len(found)), f"{first['pairs']} × {first['steps']}"]
        cells.append(points([r["training_hidden_agreement"] for r in found.values()]))
        cells += [points([value(r, name) for r in found.values()]) for name in compared]
        for name in compared:
            pairs = [(value(found[s], name), value(by_arm[BASE][s], name)) for s in same]
            gains = [a - b for a, b in pairs if a is not None and b is not None]
            cells.append("-" if arm == BASE else points(gains, signed=True))
        cells += [points([value(r, f"by_aspect/{a}") for r in found.values()]) for a in aspects]
        cells.append(points([value(r, "longer") for r in found.values()]))
        for name in ("length_correlation", "margin"):
            mean, error = mean_and_error([value(r, name) for r in found.values()])
            cells.append("-" if mean is None else f"{mean:.2f}" + ("" if error is None else f" ± {error:.2f}"))
        rows.append(cells)
    return markdown(rows)


def report(found: dict[str, Any]) -> str:
    """All tables of a run."""
    settings = found["settings"]
    lines = [
        f"`{found['command']}`",
        "",
        f"DPO of {found['model']}: {', '.join(f'{k} {v}' for k, v in settings.items())}. Percent of the decided labels of held-out "
        "prompts that the sign of the implicit reward agrees with, mean ± standard error over seeds; each seed has its own "
        "assignment of aspects, held-out fold and training. Differences are paired by seed.",
    ]
    for name in dict.fromkeys(record["set"] for record in found["records"]):
        records = [record for record in found["records"] if record["set"] == name]
        about = records[0]
        lines += [
            "",
            f"## {name}",
            "",
            f"{about['pool']} pairs to choose from, proxies trained on {about['labelled']}, {about['held_out']} held out (seed {about['seed']}); "
            f"{about['too_long']} pairs of the set have more than {settings['max_tokens']} tokens.",
            "",
            *set_table(records),
        ]
    lines += ["", *found["left_out"], *found["missing"]] if found["left_out"] or found["missing"] else []
    return "\n".join(lines) + "\n"
