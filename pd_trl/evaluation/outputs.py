"""Outputs of two models to several sets of instructions, aligned by instruction."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..generation import OUTPUTS_NAME
from ..runs.artifacts import digest_of
from .alpaca.outputs import AlignedOutputs, ModelOutputs, align, check_problems, read_outputs

logger = logging.getLogger(__name__)


def load_output_sets(
    source: Any, role: str = "model outputs", generator: str | None = None
) -> dict[str, ModelOutputs]:
    """
    Outputs of one model to one or several sets of instructions, by set.

    Args:
        source: What [`~alpaca.outputs.read_outputs`] takes; a mapping of set to it; or a folder with a subfolder for each set.
        role (`str`, *optional*, defaults to `"model outputs"`): Name in messages.
        generator (`str`, *optional*): Name of the model, instead of that of the rows.

    Raises:
        InputError: When outputs are missing or unusable.
    """
    if isinstance(source, Mapping):
        if not source:
            raise InputError(f"The {role} are an empty mapping: name at least one set.")
        return {
            str(name): value
            if isinstance(value, ModelOutputs)
            else read_outputs(value, f"{role} of '{name}'", generator)
            for name, value in source.items()
        }
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source).expanduser()
        if folder.is_dir() and not (folder / OUTPUTS_NAME).is_file():
            found = sorted(path.parent for path in folder.glob(f"*/{OUTPUTS_NAME}"))
            if found:
                return {path.name: read_outputs(path, f"{role} of '{path.name}'", generator) for path in found}
            raise InputError(
                f"{folder} has no {OUTPUTS_NAME}, nor have its subfolders. Make it with `pd-trl generate`."
            )
    outputs = source if isinstance(source, ModelOutputs) else read_outputs(source, role, generator)
    datasets = set(outputs.datasets.values())
    name = datasets.pop() if len(datasets) == 1 else Path(outputs.source).stem
    return {name if name.isprintable() else "custom": outputs}


def outputs_digest(sets: Mapping[str, ModelOutputs]) -> str:
    """Hash of names, instructions and outputs, in any order."""
    return digest_of({name: dict(sorted(entry.outputs.items())) for name, entry in sorted(sets.items())})


def align_sets(
    sets_a: Mapping[str, ModelOutputs], sets_b: Mapping[str, ModelOutputs], max_problem_share: float
) -> dict[str, AlignedOutputs]:
    """
    Outputs of A (`output_2`) and B (`output_1`) to the same instructions, by set.

    Raises:
        InputError: When the sets differ, or more than `max_problem_share` of a set's instructions are answered by one model only or
            repeatedly.
    """
    if len(sets_a) == len(sets_b) == 1:
        # Names of single files need not agree; their instructions must.
        sets_b = dict(zip(sets_a, sets_b.values(), strict=True))
    if sets_a.keys() != sets_b.keys():
        raise InputError(
            f"Both models must answer the same sets, but A has {', '.join(sets_a)} and B has {', '.join(sets_b)}."
        )
    aligned = {}
    for name, outputs in sets_a.items():
        pair = align(outputs, sets_b[name])
        # An empty output is an answer, and a judge's to mark down.
        barred = {kind: count for kind, count in pair.problems.items() if not kind.startswith("empty")}
        check_problems(replace(pair, problems=barred), max_problem_share)
        aligned[name] = pair
    return aligned
