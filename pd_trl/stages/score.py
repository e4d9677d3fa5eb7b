"""Stage `score`: the reward gap of every pair by every aspect's reward model."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..artifacts import Manifest, dataset_digest, replaced_folder, write_rows
from ..errors import InputError
from ..hub import local_model_folder
from ..length import check_length_penalty
from ..provenance import inherited_provenance, proxy_provenance
from ..report_text import number, table
from ..reward_sidecar import SIDECAR_NAME, RewardSidecar
from ..scoring import score_pairs
from .common import (
    StageResult,
    check_folder,
    dry_result,
    is_main_process,
    mapping_of,
    owned_folder,
    rows_of,
    skip_if_done,
    timed,
)

logger = logging.getLogger(__name__)


@dataclass
class ScoreArguments:
    """
    Arguments of `pd-trl score`, see [`score_pairs`].

    Args:
        dataset_name (`str`, *optional*):
            Preferences: the folder of `pd-trl prepare`, a file, or a Hub id.
        reward_models (`str` or `dict`, *optional*):
            The folder of `pd-trl reward`, or a mapping of aspect to model (YAML, or json).
        output_dir (`str`, *optional*, defaults to `"scored"`):
            Folder of the result. A run that was killed goes on there.
        max_length (`int`, *optional*):
            Most tokens of prompt and response.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted.
        on_long (`str`, *optional*, defaults to `"truncate"`):
            Longer pairs: truncate, drop or error.
        length_penalty (`float`, *optional*):
            Length penalty per token. What each model was trained with where unset.
        length_correction (`str`, *optional*):
            penalty, residual or none. What each model was trained with where unset.
        pairs_per_shard (`int`, *optional*, defaults to `2048`):
            Pairs of a shard.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and score nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    dataset_name: str | None = field(
        default=None, metadata={"help": "The folder of `pd-trl prepare`, a file, or a Hub id."}
    )
    reward_models: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "The folder of `pd-trl reward`, or a mapping of aspect to model (YAML, or json)."},
    )
    output_dir: str = field(default="scored", metadata={"help": "Folder of the result. A killed run goes on there."})
    max_length: int | None = field(default=None, metadata={"help": "Most tokens of prompt and response."})
    tokens_per_batch: int | None = field(default=None, metadata={"help": "Most tokens of a batch, padding counted."})
    on_long: str = field(
        default="truncate",
        metadata={"help": "Longer pairs: truncate, drop or error.", "choices": ["truncate", "drop", "error"]},
    )
    length_penalty: float | None = field(
        default=None, metadata={"help": "Length penalty per token. As each model was trained where unset."}
    )
    length_correction: str | None = field(
        default=None, metadata={"help": "penalty, residual or none. As each model was trained where unset."}
    )
    pairs_per_shard: int = field(default=2048, metadata={"help": "Pairs of a shard."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Whether to run code that comes with a model."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and score nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


_SCORING = (
    "max_length", "tokens_per_batch", "on_long", "length_penalty", "length_correction", "pairs_per_shard",
    "trust_remote_code",
)  # fmt: skip


def reward_models_of(value: str | dict[str, Any] | None) -> dict[str, str]:
    """Aspect to model: from a mapping, or the subfolders of `pd-trl reward`'s folder."""
    if not value:
        raise InputError(
            "No reward models: name them with --reward_models (the folder of `pd-trl reward`, or a mapping)."
        )
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        folder = Path(value).expanduser()
        if not folder.is_dir():
            raise InputError(f"The folder of reward models {value} does not exist. Run `pd-trl reward` first.")
        found = sorted(path.parent for path in folder.glob(f"*/{SIDECAR_NAME}"))
        if not found:
            raise InputError(
                f"{value} has no subfolders with reward models (looked for {SIDECAR_NAME}). Run `pd-trl reward` first, or give "
                'a mapping such as \'{"honesty": "me/rm-honesty"}\'.'
            )
        return {path.name: str(path) for path in found}
    return {str(aspect): str(model) for aspect, model in mapping_of(value, "reward_models").items()}


def check_score(arguments: ScoreArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    check_length_penalty(arguments.length_penalty or 0.0, arguments.length_correction or "none")
    for name in ("max_length", "tokens_per_batch", "pairs_per_shard"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")


def run_score(arguments: ScoreArguments) -> StageResult:
    """Scores the preferences and writes `scored/` and a manifest with the proxies' metrics."""
    check_score(arguments)
    models = reward_models_of(arguments.reward_models)
    if not arguments.dry_run:
        check_folder("score", arguments.output_dir, [arguments.dataset_name, *models.values()])
    preferences = rows_of(arguments.dataset_name, "preferences")
    folders = {
        aspect: local_model_folder(model, what=f"reward model of '{aspect}'") for aspect, model in models.items()
    }
    sidecars = {aspect: RewardSidecar.load(folder) for aspect, folder in folders.items()}
    manifest = Manifest(
        "score",
        inputs={
            "preferences": dataset_digest(preferences),
            **{f"model {a}": _identity(f) for a, f in folders.items()},
        },
        arguments={name: getattr(arguments, name) for name in _SCORING if name != "tokens_per_batch"},
    )
    if arguments.dry_run:
        lines = [f"{len(preferences)} pairs, {len(models)} reward models: {', '.join(models)}"]
        return dry_result(manifest, arguments.output_dir, {"pairs": len(preferences)}, lines)
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        return done
    with owned_folder("score", arguments.output_dir, arguments.overwrite, exclusive=False), timed(manifest):
        settings = {name: getattr(arguments, name) for name in _SCORING}
        scored = score_pairs(preferences, models, output_dir=arguments.output_dir, **settings)
    manifest.counts = {"pairs": len(preferences), "scored": len(scored), "dropped": len(preferences) - len(scored)}
    metrics = {aspect: sidecar.metrics for aspect, sidecar in sidecars.items() if sidecar.metrics}
    manifest.results = {"proxy_metrics": metrics, "models": models}
    proxies = {
        aspect: proxy_provenance(models[aspect], folder, sidecars[aspect]) for aspect, folder in folders.items()
    }
    manifest.results["provenance"] = {**inherited_provenance(arguments.dataset_name), "proxies": proxies}
    if is_main_process():
        with replaced_folder(Path(arguments.output_dir) / "scored") as folder:
            write_rows(scored, folder)
        manifest.save(arguments.output_dir)
    rows = [["reward_gap", "mean", "standard deviation", "positive"]]
    for aspect in models:
        gap = scored.with_format("numpy")[f"reward_gap_{aspect}"][:]
        rows.append([aspect, number(float(gap.mean())), number(float(gap.std())), number(float((gap > 0).mean()))])
    return StageResult("score", arguments.output_dir, manifest.counts, table(rows))


def _identity(folder: Path) -> str:
    """What tells a model from another without reading its weights: its manifest, or the size and time of its files."""
    manifest = Manifest.load(folder)
    if manifest is not None:
        return manifest.key
    files = sorted(folder.glob("*.safetensors"))
    return ", ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
