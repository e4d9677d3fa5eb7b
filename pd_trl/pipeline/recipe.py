"""Recipes: which stages to run, with which arguments, and what each takes from the ones before it."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, InputTypeError
from ..method.ranking import SELECTORS, check_budget, parse_budget
from ..runs.folders import check_local
from ..text.names import did_you_mean
from .recipe_evaluation import evaluate_sections, evaluations_of, generate_sections, output_folders

# In the order of a run; `compare` repeats `select` and `dpo`.
SECTIONS = (
    "simulate",
    "prepare",
    "rate",
    "reward",
    "score",
    "select",
    "report",
    "dpo",
    "compare",
    "generate",
    "judge",
    "evaluate",
    "publish",
)
TOP_LEVEL = ("output_dir", "seed", "budget", "dataset_name", "model_name_or_path")
_SEEDED = ("simulate", "prepare", "rate", "reward", "select", "dpo", "generate", "judge")


@dataclass
class Step:
    """
    One stage of a run.

    Args:
        name (`str`): Name shown to the user, such as `"compare all: dpo"`.
        stage (`str`): Stage, a key of [`~pd_trl.pipeline.registry.STAGES`].
        section (`dict`): Its arguments.
        needs (`list` of `str`): Folders that must be there before it can run.
    """

    name: str
    stage: str
    section: dict[str, Any]
    needs: list[str] = field(default_factory=list)

    @property
    def output_dir(self) -> str:
        """Folder of the stage's result."""
        return str(self.section["output_dir"])


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises `InputError` on keys that are neither stages nor top-level values, and on sections that are no mappings."""
    for key, value in recipe.items():
        if key not in SECTIONS + TOP_LEVEL:
            hint = did_you_mean(str(key), SECTIONS + TOP_LEVEL)
            raise InputError(
                f"Unknown key '{key}' in the recipe.{hint} Stages are {', '.join(SECTIONS)}; beside them stand "
                f"{', '.join(TOP_LEVEL)}."
            )
        if key in SECTIONS and key != "compare" and not isinstance(value, (Mapping, type(None))):
            raise InputTypeError(f"The section '{key}' of the recipe must be a mapping, got {value!r}.")
    evaluations_of(recipe.get("evaluate") or {})
    if recipe.get("budget") is not None:
        check_budget(parse_budget(recipe["budget"]))
    rivals = recipe.get("compare") or []
    known = ("all", *SELECTORS)
    if not isinstance(rivals, list) or not all(isinstance(rival, str) and rival in known for rival in rivals):
        raise InputError(f"`compare` must be a list of 'all' and selectors ({', '.join(SELECTORS)}), got {rivals!r}.")


def steps_of(recipe: Mapping[str, Any], only: Iterable[str] | None = None) -> list[Step]:
    """
    The steps of a recipe, in order, each with its inputs, output folder and seed filled in.

    Args:
        recipe (mapping): Sections of stages, and `output_dir`, `seed`, `budget`, `dataset_name`, `model_name_or_path`.
        only (iterable of `str`, *optional*): Stages to take. `None` is all that the recipe has.
    """
    check_recipe(recipe)
    output_dir = recipe.get("output_dir")
    if not output_dir:
        raise InputError("The recipe has no `output_dir`: set it there, or with --output_dir.")
    root = Path(str(output_dir)).expanduser()
    sections: dict[str, Any] = {stage: deepcopy(recipe[stage]) or {} for stage in SECTIONS if stage in recipe}
    if not sections:
        raise InputError(f"The recipe has no stages: add a section for at least one of {', '.join(SECTIONS)}.")
    if not isinstance(output_dir, str):
        raise InputTypeError(f"`output_dir` of the recipe must be a path, got {output_dir!r}.")
    check_local(output_dir)
    wanted = list(only) if only is not None else list(sections)
    for name in wanted:
        if name not in sections:
            raise InputError(f"The recipe has no stage '{name}' to run; its stages are {', '.join(sections)}.")
    folders = _folders(sections, root)
    _fill(sections, recipe, folders)
    steps: list[Step] = []
    for stage in (name for name in SECTIONS if name in wanted):
        if stage == "compare":
            steps += _rivals(sections, folders)
        elif stage in ("generate", "evaluate"):
            steps += _outputs_and_results(stage, sections, recipe, folders)
        else:
            steps.append(Step(stage, stage, sections[stage]))
    for step in steps:
        step.needs += _needs(step.section, folders)
    return steps


def _folders(sections: Mapping[str, Any], root: Path) -> dict[str, Path]:
    """Where each stage's result is, and is read by the stages after it: its section's `output_dir`, else a folder of the run."""
    folders = {"run": root}
    for stage in SECTIONS:
        section = sections.get(stage)
        own = section.get("output_dir") if isinstance(section, Mapping) and stage != "evaluate" else None
        if own is not None and not isinstance(own, str):
            raise InputTypeError(f"`output_dir` of the section '{stage}' must be a path, got {own!r}.")
        check_local(own)
        default = root / {"simulate": "world", "generate": "outputs"}.get(stage, stage)
        folders[stage] = Path(own).expanduser() if own else default
    return folders


def _fill(sections: dict[str, Any], recipe: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    """Fills in what a section leaves open: folders, inputs, seed, budget, model."""
    for stage, section in sections.items():
        if stage in ("compare", "evaluate"):
            continue
        section["output_dir"] = str(folders[stage])
        if stage in _SEEDED and recipe.get("seed") is not None:
            section.setdefault("seed", recipe["seed"])
    world = sections.get("simulate", {}).get("output_dir")
    labelled = folders["rate" if "rate" in sections else "prepare"]
    source = recipe.get("dataset_name") or (world and str(Path(world) / "pairs"))
    defaults: dict[str, dict[str, Any]] = {
        "prepare": {"dataset_name": source},
        "rate": {"dataset_name": str(folders["prepare"]) if "prepare" in sections else source},
        "reward": {"dataset_name": str(labelled)},
        "score": {"dataset_name": str(labelled), "reward_models": str(folders["reward"])},
        "select": {
            "dataset_name": str(folders["score"] if "score" in sections else labelled),
            **(_of_ratings(sections["rate"]) if "rate" in sections and "score" not in sections else {}),
        },
        "report": {"dataset_name": str(folders["select"])},
        "dpo": {"dataset_name": str(folders["select"])},
        "judge": {"world": world, **_judged(sections, world, folders)},
        "publish": {
            "selection_dir": sections.get("select", {}).get("output_dir"),
            "reward_dir": sections.get("reward", {}).get("output_dir"),
            "policy_dir": sections.get("dpo", {}).get("output_dir"),
            "evaluation_dir": _evaluation_folders(sections, folders) if "evaluate" in sections else None,
            "recipe": {key: deepcopy(value) for key, value in recipe.items() if key != "publish"},
        },
    }
    model = recipe.get("model_name_or_path") or (world and str(Path(world) / "model"))
    for stage in ("reward", "dpo"):
        defaults[stage]["model_name_or_path"] = model
    if recipe.get("budget") is not None:
        defaults["select"]["budget"] = defaults["rate"]["budget"] = recipe["budget"]
    for stage, values in defaults.items():
        if stage in sections:
            for key, value in values.items():
                if value is not None:
                    sections[stage].setdefault(key, value)


def _of_ratings(section: Mapping[str, Any]) -> dict[str, Any]:
    """What `select` reads of ratings: those themselves, or where not all were asked for the estimate."""
    return {"source": "column", "pd_column": "rated_pd"} if section.get("adaptive") else {"source": "ratings"}


def _evaluation_folders(sections: Mapping[str, Any], folders: Mapping[str, Path]) -> str | dict[str, str]:
    """The folder of all evaluations, or that of each where one has its own."""
    known = evaluate_sections(sections["evaluate"], {}, None, None, folders)
    own = {kind: section["output_dir"] for kind, section in known.items()}
    usual = all(path == str(folders["evaluate"] / kind) for kind, path in own.items())
    return str(folders["evaluate"]) if usual else own


def _policies(sections: Mapping[str, Any], world: str | None, folders: Mapping[str, Path]) -> dict[str, str]:
    policies = {"SFT": str(Path(world) / "model")} if world else {}
    if "dpo" in sections:
        policies["PD"] = str(folders["dpo"])
    for rival in sections.get("compare") or []:
        policies[rival] = str(folders["compare"] / rival / "dpo")
    return policies


def _judged(sections: Mapping[str, Any], world: str | None, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Outputs where a stage makes them, else the policies that `judge` asks itself."""
    policies = _policies(sections, world, folders)
    return (
        {"outputs": output_folders(policies, folders["generate"])}
        if "generate" in sections
        else {"policies": policies}
    )


def _outputs_and_results(
    stage: str, sections: Mapping[str, Any], recipe: Mapping[str, Any], folders: Mapping[str, Path]
) -> list[Step]:
    world = sections.get("simulate", {}).get("output_dir")
    policies = _policies(sections, world, folders)
    outputs = output_folders(policies, folders["generate"])
    if stage == "generate":
        filled = generate_sections(sections["generate"], policies, outputs, world)
        return [Step(f"generate {name}", stage, section) for name, section in filled.items()]
    filled = evaluate_sections(sections["evaluate"], outputs, world, recipe.get("seed"), folders)
    return [Step(f"evaluate {kind}", f"evaluate {kind}", section) for kind, section in filled.items()]


def _rivals(sections: Mapping[str, Any], folders: Mapping[str, Path]) -> list[Step]:
    """Policies trained like the main one, on all pairs or on those of another selector."""
    if "dpo" not in sections:
        raise InputError("`compare` trains other policies like the one of the section 'dpo', which the recipe lacks.")
    scored = sections.get("select", {}).get("dataset_name", str(folders["score"]))
    steps = []
    for rival in sections["compare"]:
        folder = folders["compare"] / rival
        source = scored
        if rival != "all":
            select = {**sections.get("select", {}), "selector": rival, "output_dir": str(folder / "select")}
            steps.append(Step(f"compare {rival}: select", "select", select))
            source = str(folder / "select")
        dpo = {**sections["dpo"], "dataset_name": source, "output_dir": str(folder / "dpo")}
        dpo.pop("pd_budget", None)
        steps.append(Step(f"compare {rival}: dpo", "dpo", dpo))
    return steps


def _needs(section: Mapping[str, Any], folders: Mapping[str, Path]) -> list[str]:
    """Inputs of a stage that this run is to make."""
    keys = (
        "dataset_name",
        "reward_models",
        "model_name_or_path",
        "world",
        "selection_dir",
        "reward_dir",
        "policy_dir",
        "instructions",
        "model_outputs",
    )
    values: list[Any] = [section.get(key) for key in keys]
    for key in ("policies", "outputs", "reference_outputs", "baselines"):
        named = section.get(key)
        values += named.values() if isinstance(named, Mapping) else [named]
    judge = section.get("judge")
    values.append(judge.partition(":")[2] if isinstance(judge, str) else None)
    return [v for v in values if isinstance(v, str) and any(Path(v).is_relative_to(made) for made in folders.values())]
