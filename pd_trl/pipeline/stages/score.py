"""Stage `score`: the reward gap of every pair by every aspect's reward model."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...hub import local_model_folder
from ...method.length import check_length_penalty
from ...models.adapters import ADAPTER_CONFIG
from ...models.named import ModelOutput, model_output
from ...models.outputs import read_outputs
from ...models.sidecar import SIDECAR_NAME, RewardSidecar
from ...models.vllm import PLACING, check_engine_kwargs
from ...runs.artifacts import Manifest
from ...runs.folders import folder_lock
from ...runs.identity import deciding, settings_key
from ...runs.launch import is_main_process
from ...runs.model_identity import model_key
from ...runs.on_ray import import_ray
from ...runs.provenance import inherited_provenance, proxy_provenance
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    dry_result,
    owned_folder,
    shared_folder,
    skip_if_done,
    timed,
)
from ...scoring.backends import BACKENDS, check_backend
from ...scoring.reward_models import named_models
from ...text.tables import number, table
from ..mappings import mapping_of, path_or_mapping
from .arguments import (
    NUM_ACTORS,
    OVERWRITE,
    REMOTE_CODE,
    RESUMED,
    argument,
    check_engine,
    engine_argument,
    weights_argument,
)
from .scored_files import ScoredFiles
from .scored_rows import ScoredRows, what_to_score

logger = logging.getLogger(__name__)


@dataclass
class ScoreArguments:
    """Arguments of `pd-trl score`, see [`score_pairs`]."""

    dataset_name: str | None = argument(
        None,
        "Preferences: the folder of `pd-trl prepare`, a file, or a Hub id. Plain pairs (prompt, chosen, rejected) keep their overall "
        "label. Single responses (prompt and response, or messages) get a column `reward_<name>` instead of gaps.",
    )
    column_mapping: dict[str, Any] | str | None = argument(
        None,
        "Mapping of our column names to those of the data (YAML or json): prompt, chosen and rejected, or prompt and response, or "
        "messages.",
    )
    reward_models: dict[str, Any] | str | None = argument(
        None,
        "The folder of `pd-trl reward`, one model for all its outputs, or a mapping of aspect to model (YAML or json); MODEL#OUTPUT "
        "is one of several outputs, and -MODEL one of which less is better.",
    )
    output_dir: str = argument("scored", RESUMED)
    max_length: int | None = argument(None, "Maximum number of tokens of prompt and response.")
    tokens_per_batch: int | None = argument(None, "Maximum number of tokens in a batch, padding included.")
    on_long: str = argument(
        "truncate", "What to do with longer pairs: truncate, drop or error.", choices=["truncate", "drop", "error"]
    )
    length_penalty: float | None = argument(
        None, "Length penalty per token. Where unset, the one that each model was trained with."
    )
    length_correction: str | None = argument(
        None, "penalty, residual or none. Where unset, the one that each model was trained with."
    )
    pairs_per_shard: int = argument(
        2048, "Number of pairs that are scored and written together; of parquet files, whole row groups."
    )
    share_prefix: bool = argument(True, "Read a prompt once for all its responses, if that saves time.")
    backend: str = argument(
        "engine", "engine (ours), transformers (the models as they are), or vllm.", choices=list(BACKENDS)
    )
    engine_kwargs: dict[str, Any] | str | None = argument(
        None, "Further arguments of vllm.LLM: a mapping (YAML or json)."
    )
    dtype: str | None = weights_argument()
    attn_implementation: str | None = argument(
        None, "Attention of the models, such as flash_attention_2. Where unset, transformers chooses."
    )
    torch_compile: bool = argument(False, "Compile the models by torch.compile.")
    engine: str = engine_argument("this one; the same command started several times shares the work")
    num_actors: int | None = argument(None, NUM_ACTORS)
    chat: bool = argument(
        False, "Score strings as messages of the user and the assistant, in the chat template of each model."
    )
    trust_remote_code: bool = argument(False, REMOTE_CODE)
    dry_run: bool = argument(False, "Show the plan and score nothing.")
    overwrite: bool = argument(False, OVERWRITE)


_SCORING = (
    "max_length", "tokens_per_batch", "on_long", "length_penalty", "length_correction", "pairs_per_shard", "share_prefix",
    "backend", "attn_implementation", "torch_compile", "trust_remote_code",
)  # fmt: skip
# Settings that change scores only by rounding.
_HOW = ("tokens_per_batch", "share_prefix", "torch_compile")


def reward_models_of(value: str | dict[str, Any] | None) -> dict[str, ModelOutput]:
    """
    Aspect to model: from a mapping, or from the subfolders of `pd-trl reward`'s folder. A model with several outputs, given
    by its name alone or in one of these, is the model of each of its outputs.
    """
    if not value:
        raise InputError(
            "No reward models: name them with --reward_models (the folder of `pd-trl reward`, a model, or a mapping)."
        )
    given = path_or_mapping(value, "reward_models")
    if not isinstance(given, str):
        return {aspect: model_output(model) for aspect, model in given.items()}
    folder = Path(given).expanduser()
    trained = sorted(path.parent for path in folder.glob(f"*/{SIDECAR_NAME}")) if folder.is_dir() else []
    if trained:
        return _by_aspect(trained)
    if folder.is_dir() and not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise InputError(
            f"{given} has no subfolders with reward models (looked for {SIDECAR_NAME}), and is none itself. Run `pd-trl reward` "
            'first, or give a mapping such as \'{"honesty": "me/rm-honesty"}\'.'
        )
    try:
        return {aspect: model_output(model) for aspect, model in named_models(given).items()}
    except InputError as error:
        if folder.is_dir() or model_output(given).output is not None:
            raise
        raise InputError(
            f"The folder of reward models {given} does not exist: run `pd-trl reward` first, or name a model. {error}"
        ) from None


def _by_aspect(folders: list[Path]) -> dict[str, ModelOutput]:
    models: dict[str, ModelOutput] = {}
    for folder in folders:
        for aspect in RewardSidecar.load(folder).heads or (folder.name,):
            if aspect in models:
                raise InputError(
                    f"Both {models[aspect]} and {folder} hold a reward model for '{aspect}'. Choose one with a mapping such as "
                    f'\'{{"{aspect}": "{folder}"}}\'.'
                )
            models[aspect] = ModelOutput(str(folder))
    return models


def check_score(arguments: ScoreArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    check_length_penalty(arguments.length_penalty or 0.0, arguments.length_correction or "none")
    for name in ("max_length", "tokens_per_batch", "pairs_per_shard"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")
    check_engine(arguments, "Other processes share the work where the command is started again.")
    engine_kwargs = _engine_kwargs(arguments)
    check_backend(arguments.backend, engine_kwargs)
    if arguments.engine == "ray":
        check_engine_kwargs(engine_kwargs)


def _engine_kwargs(arguments: ScoreArguments) -> dict[str, Any]:
    return mapping_of(arguments.engine_kwargs, "engine_kwargs") or {}


@shared_folder
def run_score(arguments: ScoreArguments) -> StageResult:
    """Scores the preferences and writes `scored/` and a manifest with the proxies' metrics."""
    check_score(arguments)
    models, engine_kwargs = reward_models_of(arguments.reward_models), _engine_kwargs(arguments)
    own = {name: value for name, value in engine_kwargs.items() if name not in PLACING}
    if not arguments.dry_run:
        check_folder(
            "score", arguments.output_dir, [arguments.dataset_name, *(model.model for model in models.values())]
        )
    given = what_to_score(
        arguments.dataset_name, arguments.column_mapping, arguments.engine, arguments.pairs_per_shard
    )
    if arguments.engine == "ray":
        import_ray()  # before a folder is made
    folders = {
        aspect: local_model_folder(model.model, what=f"reward model of '{aspect}'") for aspect, model in models.items()
    }
    sidecars = {
        aspect: RewardSidecar.load(folder, models[aspect].output or aspect) for aspect, folder in folders.items()
    }
    manifest = Manifest(
        "score",
        inputs={
            "preferences" if given.part == "pairs" else given.part: given.digest,
            **{f"model {aspect}": model_key(folder) for aspect, folder in folders.items()},
            # The metrics of a model and its length penalty are part of the result.
            **{f"what is said of {aspect}": settings_key(asdict(sidecar)) for aspect, sidecar in sidecars.items()},
            **{f"output of {aspect}": settings_key(model.choice) for aspect, model in models.items() if model.choice},
        },
        arguments=deciding(arguments, [name for name in _SCORING if name not in _HOW])
        | ({"column_mapping": given.mapping} if given.mapping else {})
        | ({"chat": True} if arguments.chat else {})
        | ({"dtype": arguments.dtype} if arguments.dtype else {})
        | ({"engine_kwargs": own} if own else {}),
    )
    if arguments.dry_run:
        lines = [f"{given}, {len(models)} reward models: {', '.join(models)}", *given.lost]
        return dry_result(manifest, arguments.output_dir, {given.part: given.num_rows}, lines)
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        return done
    metrics = {aspect: sidecar.metrics for aspect, sidecar in sidecars.items() if sidecar.metrics}
    proxies = {
        aspect: proxy_provenance(models[aspect].model, folder, sidecars[aspect]) for aspect, folder in folders.items()
    }
    for aspect, entry in read_outputs(models).items():
        proxies[aspect] |= entry
    provenance = {**inherited_provenance(arguments.dataset_name), "proxies": proxies}
    manifest.results = {
        "proxy_metrics": metrics,
        "models": {aspect: str(model) for aspect, model in models.items()},
        "provenance": provenance,
    }
    settings = {name: getattr(arguments, name) for name in (*_SCORING, "chat", "dtype")}
    settings["engine_kwargs"] = engine_kwargs or None
    try:
        with owned_folder(manifest, arguments.output_dir, arguments.overwrite, exclusive=False) as root:
            with timed(manifest):
                how = {"engine": arguments.engine, "num_actors": arguments.num_actors}
                scored = given.score(models, root, settings, manifest, **how)
            manifest.counts = {given.part: scored.total, "scored": scored.kept, "dropped": scored.total - scored.kept}
            if is_main_process():
                _write(manifest, scored, root, arguments.overwrite)
    except FileNotFoundError:
        # Another process of the same run has already written the result.
        done = skip_if_done(manifest, arguments.output_dir, overwrite=False)
        if done is None:
            raise
        return done
    names = ["mean", "standard deviation", "positive"] if given.part == "pairs" else ["mean", "standard deviation"]
    rows = [[given.prefix.removesuffix("_"), *names]]
    rows += [[aspect, *map(number, scored.moments[aspect][: len(names)])] for aspect in models]
    return StageResult("score", arguments.output_dir, manifest.counts, [*given.lost, *table(rows)])


def _write(manifest: Manifest, scored: ScoredRows | ScoredFiles, root: Path, overwrite: bool) -> None:
    """Writes the result, unless another process that shares the work, or a run with other settings, has done so."""
    with folder_lock(root, wait=600.0):
        if not skip_if_done(manifest, root, overwrite):
            manifest.save(root, known=scored.write(root))
