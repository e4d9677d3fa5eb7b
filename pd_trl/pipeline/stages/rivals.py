"""Stage `rivals`: the columns that other papers' selectors rank by, beside the rows of scored pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...errors import InputError
from ...hub import local_model_folder
from ...method.divergence import GAMMA
from ...method.ranking import SELECTORS
from ...runs.artifacts import Manifest, replaced_folder, write_rows
from ...runs.identity import data_key, deciding
from ...runs.model_identity import model_key
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from ...selection.rivals import MARGIN_COLUMN, rival_scores
from ..mappings import mapping_of
from .arguments import OVERWRITE, argument, listed
from .inputs import rows_of


@dataclass
class RivalsArguments:
    """Arguments of `pd-trl rivals`, see [`rival_scores`], [`policy_margins`] and [`validation_losses`]."""

    dataset_name: str | None = argument(None, "Scored pairs: the folder of `pd-trl score`, a file, or a Hub id.")
    selectors: list[str] | str | None = argument(
        None,
        "Of pareto, alignment_potential and bees, those to make columns for; none for none. Where unset, all whose columns are there.",
    )
    policy: str | None = argument(
        None, "Policy whose implicit margins are read (path or Hub id). Where unset, none is read."
    )
    reference: str | None = argument(
        None,
        "What the policy was trained from. Where unset, margins are of the policy alone, as alignment_potential takes them.",
    )
    beta: float = argument(0.1, "Factor of the implicit margin: beta of the policy's DPO.")
    edit_distances: bool = argument(True, "Whether to add edit_distance, which dcrm needs.")
    cross_fit: str | None = argument(
        None,
        "Model to train by DPO on parts of the pairs, for selective_dpo (path or Hub id). Where unset, nothing is trained.",
    )
    training: dict[str, Any] | str | None = argument(
        None, "Arguments of PDDPOConfig for cross_fit (YAML or json), such as '{learning_rate: 5e-7}'."
    )
    folds: int = argument(2, "Parts of the prompts of a split of cross_fit.")
    repeats: int = argument(3, "Splits of cross_fit: in all, folds x repeats policies are trained.")
    batch_size: int = argument(8, "Pairs of a batch in which a policy reads.")
    dtype: str | None = argument(None, "Type of the weights, such as bfloat16. Where unset, theirs.")
    source: str = argument("rewards", "Gaps of pareto: rewards or ratings.", choices=["rewards", "ratings"])
    gamma: float = argument(GAMMA, "Quantile of the absolute gaps that becomes 1 (Eq. 13), for pareto.")
    margin_column: str = argument(MARGIN_COLUMN, "Column with the margin of one reward model.")
    seed: int = argument(42, "Seed of the splits and trainings of cross_fit.")
    output_dir: str = argument("rivals", "Folder of the rows, which `pd-trl select --selector …` reads.")
    dry_run: bool = argument(False, "Show the plan and compute nothing.")
    overwrite: bool = argument(False, OVERWRITE)


_DECIDING = (
    "selectors",
    "beta",
    "edit_distances",
    "folds",
    "repeats",
    "dtype",
    "source",
    "gamma",
    "margin_column",
    "seed",
)
_MODELS = ("policy", "reference", "cross_fit")


def check_rivals(arguments: RivalsArguments) -> None:
    """Raises `InputError` on arguments that do not go together."""
    if arguments.reference and not arguments.policy:
        raise InputError("`reference` needs `policy`: margins are of a policy against what it was trained from.")
    if mapping_of(arguments.training, "training") and not arguments.cross_fit:
        raise InputError("`training` needs `cross_fit`: it says how that model is trained.")
    for name in ("batch_size", "repeats"):
        if getattr(arguments, name) < 1:
            raise InputError(f"`{name}` must be at least 1, got {getattr(arguments, name)}.")
    if arguments.folds < 2:
        raise InputError(f"`folds` must be at least 2, got {arguments.folds}.")


@held_folder
def run_rivals(arguments: RivalsArguments) -> StageResult:
    """Writes `scored/`, the rows with the new columns, and a manifest that keeps what `score` recorded."""
    check_rivals(arguments)
    named = {name: getattr(arguments, name) for name in _MODELS if getattr(arguments, name)}
    if not arguments.dry_run:
        check_folder("rivals", arguments.output_dir, [arguments.dataset_name, *named.values()])
    rows = rows_of(arguments.dataset_name, "scored")
    folders = {name: local_model_folder(model, what=f"model of `{name}`") for name, model in named.items()}
    training = mapping_of(arguments.training, "training")
    manifest = Manifest(
        "rivals",
        inputs={"scored": data_key(rows)} | {name: model_key(folder) for name, folder in folders.items()},
        arguments=deciding(arguments, _DECIDING) | ({"training": training} if training else {}),
    )
    if arguments.dry_run:
        plan = [f"{name}: {model}" for name, model in named.items()]
        return dry_result(manifest, arguments.output_dir, {"pairs": len(rows)}, [f"{len(rows)} pairs", *plan])
    if done := skip_if_done(manifest, arguments.output_dir, arguments.overwrite):
        return done
    before = set(rows.column_names)
    with timed(manifest):
        rows = _with_columns(rows, arguments, {name: str(folder) for name, folder in folders.items()}, training)
    manifest.results = _recorded(arguments.dataset_name)
    manifest.counts = {"pairs": len(rows)}
    with replaced_folder(arguments.output_dir) as folder:
        write_rows(rows, folder / "scored")
        manifest.save(folder)
    new = [name for name in rows.column_names if name not in before]
    lines = [
        f"New columns: {', '.join(new) or 'none'}.",
        f"Selectors that can rank: {', '.join(_ready(rows, arguments))}.",
    ]
    return StageResult("rivals", arguments.output_dir, manifest.counts, lines)


def _with_columns(
    rows: Dataset, arguments: RivalsArguments, models: dict[str, str], training: dict[str, Any]
) -> Dataset:
    init = {"dtype": arguments.dtype} if arguments.dtype else {}
    if "policy" in models:
        from ...trainers.dpo.margins import policy_margins

        rows = policy_margins(
            rows, models["policy"], models.get("reference"), beta=arguments.beta, batch_size=arguments.batch_size,
            edit_distances=arguments.edit_distances, model_init_kwargs=init,
        )  # fmt: skip
    rows = rival_scores(
        rows,
        _selectors(arguments.selectors),
        source=arguments.source,
        gamma=arguments.gamma,
        margin_column=arguments.margin_column,
    )
    if "cross_fit" in models:
        from ...trainers.dpo.margins import validation_losses

        rows = validation_losses(
            rows, models["cross_fit"], folds=arguments.folds, repeats=arguments.repeats, seed=arguments.seed,
            training=({"model_init_kwargs": init} if init else {}) | training, batch_size=arguments.batch_size,
        )  # fmt: skip
    return rows


def _selectors(given: list[str] | str | None) -> list[str] | None:
    return None if given is None else [name for name in listed(given) if name != "none"]


def _recorded(name: str | None) -> dict[str, Any]:
    """What the scored rows' own stage recorded of their proxies and sources."""
    folder = Path(name or "").expanduser()
    manifest = Manifest.load(folder) if name and folder.is_dir() else None
    return dict(manifest.results) if manifest is not None else {}


def _ready(rows: Dataset, arguments: RivalsArguments) -> list[str]:
    """Selectors whose columns the rows have."""
    own = {"margin": arguments.margin_column}
    return [
        name
        for name, selector in SELECTORS.items()
        if all(column == "pd" or own.get(column, column) in rows.column_names for column in selector.inputs)
    ]
