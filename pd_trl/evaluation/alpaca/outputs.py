"""Outputs of two models, aligned by instruction."""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data import load_source
from ...data.encoding import read_json_rows
from ...errors import InputError
from ...generation.instructions import ALPACA_FILE, ALPACA_REPOSITORY, ALPACA_REVISION, instruction_text
from ...hub import download_file
from ...safety.media import without_media

logger = logging.getLogger(__name__)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ModelOutputs:
    """
    One model's outputs.

    Args:
        generator (`str`): Name of the model.
        outputs (`dict`): Output of each instruction.
        datasets (`dict`): The data set of each instruction.
        num_duplicates (`int`): Rows left out because their instruction occurred before.
        source (`str`): Where they come from.
    """

    generator: str
    outputs: dict[str, str]
    datasets: dict[str, str]
    num_duplicates: int
    source: str


@dataclass(frozen=True)
class AlignedOutputs:
    """
    Outputs of a model and of the reference to the same instructions.

    Args:
        rows (`list` of `dict`):
            `instruction`, `dataset`, `output_1` and `generator_1` of the reference, `output_2` and `generator_2` of the model,
            sorted by instruction.
        problems (`dict`):
            Number of instructions that are missing, extra, duplicate, or have an empty output.
        num_instructions (`int`):
            Instructions to compare.
    """

    rows: list[dict[str, str]]
    problems: dict[str, int] = field(default_factory=dict)
    num_instructions: int = 0


def read_outputs(source: Any, role: str, generator: str | None = None) -> ModelOutputs:
    """
    Reads a model's outputs.

    Args:
        source (`str`, path, `Dataset`, `DataFrame`, or list of `dict`):
            Rows with `instruction` and `output`, and optionally `input` and `system` (parts of the instruction),
            `generator` and `dataset`; or a json, jsonl or parquet file, or a folder of `pd-trl generate`.
        role (`str`):
            Name in messages.
        generator (`str`, *optional*):
            Name of the model, instead of that in the rows.

    Raises:
        InputError: If a row has no instruction or no output, or the rows come from several models.
    """
    rows, name = _rows_of(source, role)
    if not rows:
        raise InputError(f"The {role} ({name}) have no rows.")
    outputs: dict[str, str] = {}
    datasets: dict[str, str] = {}
    for i, row in enumerate(rows):
        instruction, output = _fields(row, i, role, name)
        if instruction not in outputs:
            outputs[instruction] = output
            datasets[instruction] = _text(row.get("dataset")) or "custom"
    found = sorted({_text(row.get("generator")) for row in rows} - {""})
    if generator is None and len(found) > 1:
        raise InputError(
            f"The {role} ({name}) come from {len(found)} models ({', '.join(found[:3])}). Give the outputs of one model, "
            "or its name as `generator`."
        )
    fallback = "model" if role == "model outputs" else "reference"
    return ModelOutputs(
        generator or (found[0] if found else fallback), outputs, datasets, len(rows) - len(outputs), name
    )


def read_reference(source: Any) -> ModelOutputs:
    """The reference's outputs. `None` is those of `gpt4_1106_preview` to AlpacaEval's 805 instructions, from the Hub."""
    if source is None:
        source = download_file(ALPACA_REPOSITORY, ALPACA_FILE, revision=ALPACA_REVISION)
        if source is None:
            raise InputError(f"The data set {ALPACA_REPOSITORY} has no file {ALPACA_FILE}: pass `reference_outputs`.")
    return read_outputs(source, "reference outputs")


def align(model: ModelOutputs, reference: ModelOutputs, subset: bool = False) -> AlignedOutputs:
    """
    Pairs the outputs by instruction, in any order. Differences of white space are ignored.

    Args:
        model ([`ModelOutputs`]): The evaluated model's.
        reference ([`ModelOutputs`]): Outputs to compare with. Its instructions are those to answer.
        subset (`bool`, *optional*, defaults to `False`): Whether to leave out instructions that the model has not
            answered, instead of counting them as a problem.

    Raises:
        InputError: If no instruction is in both.
    """
    by_normal = {_normal(instruction): instruction for instruction in model.outputs}
    rows = []
    for instruction in sorted(reference.outputs):
        found = instruction if instruction in model.outputs else by_normal.get(_normal(instruction))
        if found is None:
            continue
        rows.append(
            {
                "instruction": instruction,
                "dataset": reference.datasets[instruction],
                "output_1": reference.outputs[instruction],
                "generator_1": reference.generator,
                "output_2": model.outputs[found],
                "generator_2": model.generator,
            }
        )
    if not rows:
        raise InputError(
            f"None of the {len(model.outputs)} instructions of the model outputs is among the {len(reference.outputs)} of the "
            "reference. Pass `reference_outputs` to the same instructions."
        )
    missing = 0 if subset else len(reference.outputs) - len(rows)
    problems = {
        "missing": missing,
        "extra": len(model.outputs) - len(rows),
        "duplicate": model.num_duplicates + reference.num_duplicates,
        "empty": sum(not row["output_2"].strip() for row in rows),
        "empty in the reference": sum(not row["output_1"].strip() for row in rows),
    }
    return AlignedOutputs(rows, problems, len(rows) + missing)


def check_problems(aligned: AlignedOutputs, max_share: float) -> None:
    """Logs the problems of the outputs; raises `InputError` if more than `max_share` have one kind of problem."""
    found = {kind: count for kind, count in aligned.problems.items() if count}
    if not found:
        return
    text = ", ".join(f"{count} {kind}" for kind, count in found.items())
    worst = max(found.values()) / aligned.num_instructions
    message = f"Of {aligned.num_instructions} instructions: {text}."
    if worst > max_share:
        hint = (
            " Generate them, or pass `subset` to evaluate without them."
            if aligned.problems["missing"] / aligned.num_instructions > max_share
            else ""
        )
        raise InputError(f"{message} The largest allowed share is {max_share:g} (`max_problem_share`).{hint}")
    logger.warning("%s", message)


def normal_instruction(text: str) -> str:
    """An instruction in the form that is compared: each run of white space is one space."""
    return _normal(text)


def _normal(text: str) -> str:
    return " ".join(text.split())


def _rows_of(source: Any, role: str) -> tuple[list[Mapping[str, Any]], str]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        path = path / "model_outputs.json" if (path / "model_outputs.json").is_file() else path
        if not path.exists():
            raise InputError(f"The {role} {path} do not exist. Make them with `pd-trl generate`.")
        rows: Any = read_json_rows(path) if path.suffix == ".json" else without_media(load_source(str(path))).to_list()
        name = str(path)
    else:
        name = f"a {type(source).__name__}"
        if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame
            rows = source.to_dict(orient="records")
        elif hasattr(source, "to_list"):
            rows = source.to_list()
        else:
            rows = list(source) if isinstance(source, Iterable) and not isinstance(source, Mapping) else None
    if not isinstance(rows, list):
        raise InputError(f"The {role} ({name}) must be a list of rows with `instruction` and `output`.")
    return rows, name


def _fields(row: Any, position: int, role: str, name: str) -> tuple[str, str]:
    if not isinstance(row, Mapping):
        raise InputError(
            f"Row {position} of the {role} ({name}) must be a mapping with `instruction` and `output`, but is "
            f"a {type(row).__name__}."
        )
    missing = [key for key in ("instruction", "output") if key not in row]
    if missing:
        raise InputError(
            f"Row {position} of the {role} ({name}) lacks {' and '.join(missing)}; it has "
            f"{', '.join(map(str, list(row)[:8]))}."
        )
    instruction = row["instruction"] if not isinstance(row["instruction"], str) else instruction_text(row)
    if not isinstance(instruction, str) or not instruction.strip():
        raise InputError(
            f"Row {position} of the {role} ({name}) must have a text as `instruction`, got {instruction!r:.60}."
        )
    output = row["output"]
    if output is None or (isinstance(output, float) and math.isnan(output)):
        output = ""
    if not isinstance(output, str):
        raise InputError(f"Row {position} of the {role} ({name}) must have a text as `output`, got {output!r:.60}.")
    return instruction, output


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
