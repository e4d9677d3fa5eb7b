"""The cost of a recipe as text."""

from ...text.tables import percent, table
from .estimate import RecipeCost
from .parts import StageCost


def cost_lines(found: RecipeCost, device_memory: float | None) -> list[str]:
    """Lines of a cost: the stages, what the selection saves, and the assumptions."""
    lines = [f"Predicted for {found.device}", "", *_stage_lines(found)]
    if found.savings():
        lines += ["", *_saving_lines(found)]
    for cost in found.stages:
        if cost.memory and device_memory and cost.memory.total > device_memory:
            needed, there = _bytes(cost.memory.total), _bytes(device_memory)
            lines += [
                "",
                f"WARNING: '{cost.name}' needs {needed}, the device has {there}: docs/costs.md says what saves memory.",
            ]
    return [*lines, "", *(f"- {text}" for text in found.assumptions)]


def _stage_lines(found: RecipeCost) -> list[str]:
    rows = [["stage", "model", "pairs", "tokens", "padding", "FLOP", found.unit, "memory"]]
    costs = [*found.stages, *([found.all_pairs] if found.all_pairs else [])]
    for cost in costs:
        rows.append([
            cost.name, _short(cost.model), f"{cost.pairs:,}" if cost.pairs else "-", _tokens(cost), _padding(cost),
            _flops(cost.flops) if cost.flops else "-", _time(cost.seconds, found.unit) if cost.flops else "-",
            _bytes(cost.memory.total) if cost.memory else "-",
        ])  # fmt: skip
    requests = [f"{cost.name}: {cost.requests:,} requests to its judge" for cost in costs if cost.requests]
    return [*table(rows), *requests]


def _saving_lines(found: RecipeCost) -> list[str]:
    saved = found.savings()
    rows = [["", "FLOP", found.unit]]
    for label, name in (
        ("selection: proxies and scores", "selection"), (f"training on {percent(found.budget)}", "training"),
        ("with selection", "with_selection"), ("training on all pairs", "all_pairs"), ("saved", "saved"),
    ):  # fmt: skip
        rows.append([label, _flops(saved[f"{name}_flops"]), _time(saved[f"{name}_seconds"], found.unit)])
    point = saved["break_even_budget_seconds"]
    told = (
        f"Selecting costs less than training on all pairs if at most {percent(point)} of them are kept."
        if point > 0
        else "Selecting costs more than training on all pairs, no matter how few are kept."
    )
    return [*table(rows), told]


def _short(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2] or "-"


def _tokens(cost: StageCost) -> str:
    if not cost.tokens:
        return "-"
    return f"{cost.tokens:,}" + (f" ± {cost.token_error:,.0f}" if cost.token_error else "")


def _padding(cost: StageCost) -> str:
    return percent(1 - cost.tokens / cost.padded) if cost.padded and cost.padded >= cost.tokens else "-"


def _time(seconds: float, unit: str) -> str:
    return f"{seconds / 3600:,.2f}" if unit == "GPU h" else f"{seconds:,.1f}"


def _flops(value: float) -> str:
    scale, letter = next(((s, c) for s, c in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if abs(value) >= s), (1e9, "G"))
    return f"{value / scale:,.1f} {letter}"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e9:,.1f} GB" if value >= 1e9 else f"{value / 1e6:,.0f} MB"
