"""Writes a submission from the files that are there."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...errors import InputError
from ...runs.artifacts import read_json, replaced_folder, write_json
from ...safety.schema import anything, integer, number, optional, read_document, record
from ...safety.secrets import masked
from ..alpaca.instructions import canonical_positions
from ..alpaca.outputs import read_outputs
from ..alpaca.session import alpaca_eval_session
from ..alpaca.summary import ANNOTATIONS_NAME, SUMMARY_NAME
from .layout import LEADERBOARD, LEADERBOARD_COLUMNS, WEIGHT_COLUMNS, WEIGHTS, Layout, checked_name

_WEIGHTS = record(dict.fromkeys(WEIGHT_COLUMNS[1:], number()), required=WEIGHT_COLUMNS[1:], others=anything)
_CONTROL = record(
    {"weights": _WEIGHTS, "win_rate": number(), "predicted_standard_error": number()}, required=("weights",), others=anything
)  # fmt: skip
_COUNTS = ("num_wins", "num_losses", "num_ties", "num_judged")
_MEASURES = ("win_rate", "standard_error", "discrete_win_rate", "average_length")
_SUMMARY = record(
    {**dict.fromkeys(_COUNTS, integer(0)), **dict.fromkeys(_MEASURES, number()), "length_control": optional(_CONTROL)},
    required=(*_COUNTS, *_MEASURES, "length_control"),
    others=anything,
)


def build_submission(
    output_dir: str | os.PathLike,
    *,
    name: str,
    evaluation: str | os.PathLike | None = None,
    model_outputs: Any = None,
    pretty_name: str | None = None,
    link: str | None = None,
    prompt_template: str | None = None,
    fn_completions: str | None = None,
    completions_kwargs: Mapping[str, Any] | None = None,
    repository: str | os.PathLike | None = None,
) -> Path:
    """
    Writes the files that a pull request to AlpacaEval's leaderboard adds or changes, as far as they can be made:
    [`check_submission`] says what is missing.

    Args:
        output_dir (`str`):
            Folder of the submission; an earlier one is replaced.
        name (`str`):
            Name of the model: its folders, its `generator`, its row.
        evaluation (`str`, *optional*):
            Folder of `pd-trl evaluate alpaca`, which holds outputs, annotations and numbers.
        model_outputs (`str`, path, or list of `dict`, *optional*):
            Outputs, before there is an evaluation.
        pretty_name (`str`, *optional*):
            Name shown on the leaderboard. Defaults to `name`.
        link (`str`, *optional*):
            Page of the model.
        prompt_template (`str`, *optional*):
            Text of the prompt's template, with `{instruction}`; or a file of it.
        fn_completions (`str`, *optional*):
            Decoder of alpaca_eval that makes the outputs again; `None` says that there is none.
        completions_kwargs (`dict`, *optional*):
            Its arguments, such as the model's id and the decoding settings.
        repository (`str`, *optional*):
            A checkout of the leaderboard's repository, whose two tables get the new rows. `None` takes the table of the
            installed alpaca_eval, and starts that of the weights.

    Returns:
        `Path`: the folder.

    Raises:
        InputError: When the name is taken or unfit, or the evaluation cannot be read.
    """
    checked_name(name)
    folder = Path(output_dir).expanduser()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "results").is_dir():
        raise InputError(f"`output_dir` {output_dir} holds other files than a submission. Choose another.")
    results = Path(evaluation).expanduser() if evaluation is not None else None
    if results is not None and not (results / SUMMARY_NAME).is_file():
        raise InputError(f"{evaluation} holds no finished `pd-trl evaluate alpaca` ({SUMMARY_NAME} is missing).")
    leaderboard = _table(repository, LEADERBOARD, LEADERBOARD_COLUMNS)
    weights = _table(repository, WEIGHTS, WEIGHT_COLUMNS)
    prompt = _prompt(prompt_template)
    summary = None
    if results is not None:
        summary = read_document(results / SUMMARY_NAME, _SUMMARY, "the summary of `pd-trl evaluate alpaca`")
    if summary is not None and name in _names(leaderboard):
        raise InputError(f"The name {name!r} is on the leaderboard already: choose another.")
    with replaced_folder(folder) as root:
        layout = Layout(root, name)
        _write_config(layout, prompt, fn_completions, completions_kwargs, pretty_name, link)
        source = model_outputs if model_outputs is not None else results
        if source is not None:
            _write_outputs(layout, source)
        if results is not None and summary is not None:
            _write_annotations(layout, read_json(results / ANNOTATIONS_NAME))
            _add_line(layout.leaderboard, leaderboard, _leaderboard_line(name, summary))
            if summary["length_control"]:
                _add_line(layout.weights, weights, [name, *_weights(summary)])
    return folder


def _table(repository: str | os.PathLike | None, path: Path, columns: Sequence[str]) -> str:
    """Text of a table: the checkout's, the installed package's, or its header alone."""
    if repository is not None:
        found = Path(repository).expanduser() / path
        if not found.is_file():
            raise InputError(f"{repository} is no checkout of the leaderboard's repository: it has no {path}.")
        return found.read_text(encoding="utf-8")
    with alpaca_eval_session() as package:
        installed = Path(str(package.__file__)).parent / path.relative_to("src/alpaca_eval")
    return installed.read_text(encoding="utf-8") if installed.is_file() else ",".join(columns) + "\n"


def _names(table: str) -> set[str]:
    return {row[0] for row in csv.reader(io.StringIO(table)) if row}


def _prompt(template: str | None) -> str | None:
    if template is None:
        return None
    text = template
    if "{instruction}" not in template:
        path = Path(template).expanduser()
        if not path.is_file():
            raise InputError(
                f"`prompt_template` must be a text with {{instruction}} or a file of one, got {template[:80]!r}."
            )
        text = path.read_text(encoding="utf-8")
    if "{instruction}" not in text:
        raise InputError(f"The prompt's template {template[:80]!r} has no place for {{instruction}}.")
    return text


def _write_config(
    layout: Layout,
    prompt: str | None,
    fn_completions: str | None,
    completions_kwargs: Mapping[str, Any] | None,
    pretty_name: str | None,
    link: str | None,
) -> None:
    config = {
        "prompt_template": f"{layout.name}/prompt.txt",
        "fn_completions": fn_completions,
        "completions_kwargs": masked(dict(completions_kwargs or {}), public=True),
        "pretty_name": pretty_name or layout.name,
        **({"link": link} if link else {}),
    }
    layout.config.parent.mkdir(parents=True)
    layout.config.write_text(
        yaml.safe_dump({layout.name: config}, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    if prompt is not None:
        layout.prompt.write_text(prompt, encoding="utf-8")


def _write_outputs(layout: Layout, source: Any) -> None:
    outputs = read_outputs(source, "model outputs", layout.name)
    rows = [
        {"dataset": outputs.datasets[i], "instruction": i, "output": output, "generator": layout.name}
        for i, output in outputs.outputs.items()
    ]
    write_json(layout.outputs, _in_order(rows))


def _write_annotations(layout: Layout, annotations: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {k: v for k, v in {**row, "generator_2": layout.name}.items() if v is not None}
        for row in annotations
        if row["preference"] is not None
    ]
    write_json(layout.annotations, _in_order(rows))


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = canonical_positions([row["instruction"] for row in rows])
    ranked = [(len(rows) if place is None else place, i) for i, place in enumerate(places)]
    return [rows[i] for _, i in sorted(ranked)]


def _leaderboard_line(name: str, summary: Mapping[str, Any]) -> list[Any]:
    control = summary["length_control"] or {}
    values = {
        "": name,
        "win_rate": summary["win_rate"],
        "standard_error": summary["standard_error"],
        "n_wins": summary["num_wins"],
        "n_wins_base": summary["num_losses"],
        "n_draws": summary["num_ties"],
        "n_total": summary["num_judged"],
        "discrete_win_rate": summary["discrete_win_rate"],
        "mode": "community",
        "avg_length": int(summary["average_length"]),
        "length_controlled_winrate": control.get("win_rate", ""),
        # The table's column is alpaca_eval's own quantity, not the bootstrap's.
        "lc_standard_error": control.get("predicted_standard_error", ""),
    }
    return [values[column] for column in LEADERBOARD_COLUMNS]


def _weights(summary: Mapping[str, Any]) -> list[str]:
    weights = summary["length_control"]["weights"]
    return [f"{weights[column]:.16f}" for column in WEIGHT_COLUMNS[1:]]


def _add_line(path: Path, table: str, values: Sequence[Any]) -> None:
    """Adds a row at its place by length-controlled win rate, or at the end, and leaves the other lines as they are."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    lines = table.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    place = len(lines)
    header = next(csv.reader([lines[0]]))
    if "length_controlled_winrate" in header and values[header.index("length_controlled_winrate")] != "":
        column = header.index("length_controlled_winrate")
        mine = float(values[column])
        below = (i for i, line in enumerate(lines[1:], 1) if _number(next(csv.reader([line])), column) < mine)
        place = next(below, len(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join([*lines[:place], buffer.getvalue(), *lines[place:]]), encoding="utf-8")


def _number(row: Sequence[str], column: int) -> float:
    try:
        return float(row[column])
    except (IndexError, ValueError):
        return math.inf
