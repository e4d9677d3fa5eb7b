"""The sections `generate` and `evaluate` of a recipe: which outputs are made, and what is done with them."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..errors import InputError, InputTypeError
from ..text.names import did_you_mean
from .registry import kinds_of

EVALUATIONS = tuple(kinds_of("evaluate"))
PD = "PD"


def evaluations_of(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    The arguments of each evaluation, in order. `pairwise.judge`, as the command line writes it, is `judge` of `pairwise`.

    Raises:
        InputError: When a key is no evaluation.
    """
    nested: dict[str, dict[str, Any]] = {}
    for key, value in section.items():
        kind, dot, argument = str(key).partition(".")
        if kind not in EVALUATIONS:
            hint = did_you_mean(kind, EVALUATIONS)
            raise InputError(
                f"Unknown evaluation '{key}' in the section 'evaluate'.{hint} There are {', '.join(EVALUATIONS)}."
            )
        if not dot and not isinstance(value, (Mapping, type(None))):
            raise InputTypeError(f"'{kind}' in the section 'evaluate' must be a mapping, got {value!r}.")
        nested.setdefault(kind, {}).update({argument: value} if dot else deepcopy(dict(value or {})))
    return {kind: nested[kind] for kind in EVALUATIONS if kind in nested}


def output_folders(policies: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Where the outputs of each policy are, in the folder of all."""
    return {name: str(folder / name) for name in policies}


def generate_sections(
    section: Mapping[str, Any], policies: Mapping[str, str], folders: Mapping[str, str], world: str | None
) -> dict[str, dict[str, Any]]:
    """The arguments of `pd-trl generate` for each policy, whose outputs go into a folder of `folders`."""
    if not policies:
        raise InputError("`generate` writes the outputs of the policy of the section 'dpo', which the recipe lacks.")
    shared = {"instructions": str(Path(world) / "prompts.json")} if world else {}
    return {
        name: {
            **shared,
            **deepcopy(dict(section)),
            "model_name_or_path": path,
            "generator": name,
            "output_dir": folders[name],
        }
        for name, path in policies.items()
    }


def evaluate_sections(
    section: Mapping[str, Any], outputs: Mapping[str, str], world: str | None, seed: Any, folders: Mapping[str, Path]
) -> dict[str, dict[str, Any]]:
    """The arguments of each evaluation, with what it takes from the stages before it: each policy's outputs, and the folders of stages."""
    main = outputs.get(PD)
    others = {name: folder for name, folder in outputs.items() if name != PD}
    defaults: dict[str, dict[str, Any]] = {
        "alpaca": {"outputs": main},
        "pairwise": {"outputs": main, "reference_outputs": others, "judge": world and f"gold:{world}", "seed": seed},
        "rewards": {"reward_models": str(folders["reward"])},
    }
    filled = {}
    for kind, arguments in evaluations_of(section).items():
        known = {key: value for key, value in defaults[kind].items() if value}
        for old, new in {"model_outputs": "outputs", "baselines": "reference_outputs"}.items():
            if old in arguments:  # the old word, which the stage's parser notes
                known.pop(new, None)
        own = arguments.pop("output_dir", None)
        place = Path(str(own)).expanduser() if own else folders["evaluate"] / kind
        filled[kind] = {"output_dir": str(place), **known, **arguments}
    return filled
