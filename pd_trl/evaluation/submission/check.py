"""Checks a submission against the rules of the leaderboard's repository."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import read_json
from ...safety.schema import parse_yaml
from ..alpaca.instructions import NUM_INSTRUCTIONS, canonical_positions, num_other_references
from ..alpaca.outputs import read_reference
from .layout import (
    ANNOTATION_KEYS,
    BASELINE,
    CONFIG_KEYS,
    JUDGE,
    LEADERBOARD_COLUMNS,
    MAX_MISSING,
    OUTPUT_KEYS,
    WEIGHT_COLUMNS,
    Layout,
    read_table,
)

_FORBIDDEN = ("reference_outputs.json", "leaderboard.csv")


def check_submission(folder: str | os.PathLike, reference_outputs: Any = None) -> list[str]:
    """
    What stands between a folder and the leaderboard's own rules; nothing is asked, so that it costs nothing.

    Args:
        folder (`str`):
            A submission, whole or begun.
        reference_outputs (`str`, path, or list of `dict`, *optional*):
            Outputs of `gpt4_1106_preview`, to compare word by word. `None` compares their digests, which leave spaces aside.

    Returns:
        `list` of `str`: problems, each with what to do; empty when the submission passes.

    Raises:
        InputError: When there is no such folder, or it holds no submission.
    """
    root = Path(folder).expanduser()
    names = sorted(
        {
            path.name
            for part in ("results", "src/alpaca_eval/models_configs")
            for path in (root / part).glob("*")
            if path.is_dir()
        }
    )
    if not names:
        raise InputError(
            f"{folder} holds no submission: there is no results/NAME and no src/alpaca_eval/models_configs/NAME."
        )
    if len(names) > 1:
        return [f"One pull request is of one model, but there are folders of {', '.join(names)}."]
    layout = Layout(root, names[0])
    outputs: dict[str, str] = {}
    problems = [*_config_problems(layout), *_output_problems(layout, outputs)]
    annotations: list[Mapping[str, Any]] = []
    problems += _annotation_problems(layout, outputs, reference_outputs, annotations)
    problems += [*_leaderboard_problems(layout, annotations), *_weight_problems(layout), *_other_files(layout)]
    return problems


def _config_problems(layout: Layout) -> Iterator[str]:
    name = _shown(layout, layout.config)
    if not layout.config.is_file():
        yield f"{name} is missing."
        return
    try:
        content = parse_yaml(layout.config.read_text(encoding="utf-8"), name)
    except (UnicodeDecodeError, InputError) as error:
        yield f"{name} is not YAML: {' '.join(str(error).split())[:120]}."
        return
    if not isinstance(content, dict) or list(content) != [layout.name] or not isinstance(content[layout.name], dict):
        yield f"{name} must have the one top key {layout.name!r} with a mapping."
        return
    config = content[layout.name]
    missing = [key for key in CONFIG_KEYS if key not in config]
    if missing:
        yield f"{name} has no {', '.join(missing)}."
    if not str(config.get("link") or "https://").startswith(("http://", "https://")):
        yield f"The link in {name} must be an address of the web, got {config['link']!r}."
    if not isinstance(config.get("completions_kwargs", {}), dict):
        yield f"`completions_kwargs` in {name} must be a mapping."
    prompt = config.get("prompt_template")
    if prompt == f"{layout.name}/prompt.txt" and not layout.prompt.is_file():
        yield f"{name} names the prompt {prompt}, which is missing: give `prompt_template`."
    elif layout.prompt.is_file() and "{instruction}" not in layout.prompt.read_text(
        encoding="utf-8", errors="replace"
    ):
        yield f"{_shown(layout, layout.prompt)} has no place for {{instruction}}."


def _output_problems(layout: Layout, outputs: dict[str, str]) -> Iterator[str]:
    name = _shown(layout, layout.outputs)
    if not layout.outputs.is_file():
        yield f"{name} is missing: make it with `pd-trl generate`."
        return
    rows = read_json(layout.outputs)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        yield f"{name} must be a list of records."
        return
    incomplete = [i for i, row in enumerate(rows) if any(not isinstance(row.get(key), str) for key in OUTPUT_KEYS)]
    if incomplete:
        yield f"{len(incomplete)} rows of {name} lack a text in {', '.join(OUTPUT_KEYS)} (the first: row {incomplete[0]})."
        return
    outputs.update({row["instruction"]: row["output"] for row in rows})
    if len(rows) != NUM_INSTRUCTIONS:
        yield f"{name} has {len(rows)} rows instead of {NUM_INSTRUCTIONS}."
    if len(outputs) < len(rows):
        yield f"{len(rows) - len(outputs)} rows of {name} repeat an instruction."
    others = sum(place is None for place in canonical_positions(list(outputs)))
    if others:
        yield f"{others} instructions of {name} are not AlpacaEval's."
    empty = [i for i, row in enumerate(rows) if not row["output"].strip()]
    if empty:
        yield f"{len(empty)} outputs in {name} are empty (the first: row {empty[0]})."
    wrong = sum(row["generator"] != layout.name for row in rows)
    if wrong:
        yield f"`generator` of {wrong} rows of {name} is not {layout.name!r}, the folder's name."


def _annotation_problems(
    layout: Layout, outputs: Mapping[str, str], reference: Any, annotations: list[Mapping[str, Any]]
) -> Iterator[str]:
    name = _shown(layout, layout.annotations)
    if not layout.annotations.is_file():
        yield (
            f"{name} is missing: run `pd-trl evaluate alpaca --judge {JUDGE}` on outputs that pass (`--dry-run` shows the cost), then "
            "build again. The leaderboard's judge model is served by OpenAI no longer; ask its maintainers which they accept."
        )
        return
    rows = read_json(layout.annotations)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        yield f"{name} must be a list of records."
        return
    incomplete = [i for i, row in enumerate(rows) if not all(_has(row, key) for key in ANNOTATION_KEYS)]
    if incomplete:
        yield f"{len(incomplete)} rows of {name} lack one of {', '.join(ANNOTATION_KEYS)} (the first: row {incomplete[0]})."
        return
    unread = sum(not _is_preference(row["preference"]) for row in rows)
    if unread:
        yield f"{unread} preferences in {name} are not numbers from 1 to 2."
    annotations += [row for row in rows if _is_preference(row["preference"])]
    distinct = {row["instruction"] for row in rows}
    if len(distinct) < len(rows):
        yield f"{len(rows) - len(distinct)} rows of {name} repeat an instruction."
    missing = NUM_INSTRUCTIONS - len({row["instruction"] for row in annotations})
    if missing > MAX_MISSING:
        yield f"{name} lacks {missing} of {NUM_INSTRUCTIONS} instructions (at most {MAX_MISSING})."
    for key, wanted in (("annotator", JUDGE), ("generator_1", BASELINE), ("generator_2", layout.name)):
        found = sorted({str(row[key]) for row in rows} - {wanted})
        if found:
            yield f"`{key}` in {name} must be {wanted!r} everywhere, but is also {', '.join(map(repr, found[:3]))}."
    changed = sum(outputs.get(row["instruction"]) != row["output_2"] for row in rows) if outputs else 0
    if changed:
        yield f"`output_2` of {changed} rows of {name} is not that of model_outputs.json: evaluate these outputs."
    other = _other_references(rows, reference)
    if other:
        yield f"`output_1` of {other} rows of {name} is not the output of {BASELINE}."


def _has(row: Mapping[str, Any], key: str) -> bool:
    return key in row if key == "preference" else isinstance(row.get(key), str)


def _other_references(rows: list[dict[str, Any]], reference: Any) -> int:
    if reference is None:
        return num_other_references(rows)
    known = read_reference(reference).outputs
    return sum(known.get(row["instruction"]) != row["output_1"] for row in rows)


def _leaderboard_problems(layout: Layout, annotations: list[Mapping[str, Any]]) -> Iterator[str]:
    name = _shown(layout, layout.leaderboard)
    row = yield from _row_of(layout, layout.leaderboard, LEADERBOARD_COLUMNS)
    if row is None:
        return
    if row["mode"] != "community":
        yield f"`mode` of {layout.name} in {name} must be 'community', got {row['mode']!r}."
    if not annotations:
        return
    values = [float(annotation["preference"]) - 1 for annotation in annotations]
    win_rate = 100 * sum(values) / len(values)
    for column, wanted in (("win_rate", win_rate), ("n_total", len(values))):
        if abs(_number(row[column]) - wanted) > 1e-6:
            yield f"`{column}` of {layout.name} in {name} is {row[column]}, but its annotations say {wanted:.6f}."
    if not 0 <= _number(row["length_controlled_winrate"]) <= 100:
        yield f"`length_controlled_winrate` of {layout.name} in {name} is missing."


def _weight_problems(layout: Layout) -> Iterator[str]:
    row = yield from _row_of(layout, layout.weights, WEIGHT_COLUMNS)
    if row is not None and not all(math.isfinite(_number(row[column])) for column in WEIGHT_COLUMNS[1:]):
        yield f"The weights of {layout.name} in {_shown(layout, layout.weights)} must be numbers."


def _row_of(layout: Layout, path: Path, columns: tuple[str, ...]) -> Any:
    """Yields what is wrong with a table, and returns the model's row where there is one."""
    name = _shown(layout, path)
    if not path.is_file():
        yield f"{name} is missing; it comes with an evaluation."
        return None
    found, rows = read_table(path)
    if found != list(columns):
        yield f"{name} must have the columns {', '.join(columns[1:])} after that of the names."
        return None
    own = rows.get(layout.name, [])
    if len(own) != 1:
        yield f"{name} has {len(own)} rows of {layout.name} instead of one."
        return None
    return own[0]


def _other_files(layout: Layout) -> Iterator[str]:
    allowed = layout.files()
    for path in sorted(path for path in layout.root.rglob("*") if path.is_file()):
        if path.name in _FORBIDDEN and layout.root / "results" in path.parents:
            yield f"{_shown(layout, path)} must not be in a submission: remove it."
        elif path not in allowed:
            yield f"{_shown(layout, path)} is no part of a submission: remove it."


def _is_preference(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 2


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _shown(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.root).as_posix()
