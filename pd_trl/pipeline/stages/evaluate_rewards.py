"""Stage `evaluate rewards`: the accuracy of reward models on pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.identity import data_key, settings_key
from ...runs.model_identity import model_key
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    dry_result,
    held_folder,
    owned_folder,
    skip_if_done,
    stored_results,
    timed,
)
from .arguments import OVERWRITE, REMOTE_CODE, RESUMED, argument


@dataclass
class RewardsArguments:
    """Arguments of `pd-trl evaluate rewards`, see [`evaluate_rewards`]."""

    reward_models: dict[str, Any] | str | None = argument(
        None,
        "The folder of `pd-trl reward`, one model for all its outputs, or a mapping of name to model (YAML or json).",
    )
    dataset_name: str = argument(
        "allenai/reward-bench-2", "Pairs, preferences or RewardBench's columns: a stage's folder, a file, or a Hub id."
    )
    dataset_split: str = argument("test", "Split of a data set on the Hub; allenai/reward-bench has filtered and raw.")
    dataset_revision: str | None = argument(None, "Branch, tag or commit on the Hub.")
    output_dir: str = argument("rewards", RESUMED)
    chat: bool | None = argument(
        None, "Whether strings become chat messages. Where unset, only those of RewardBench's columns do."
    )
    max_length: int | None = argument(None, "Maximum number of tokens of prompt and response.")
    tokens_per_batch: int | None = argument(None, "Maximum number of tokens in a batch, padding included.")
    trust_remote_code: bool = argument(False, REMOTE_CODE)
    dry_run: bool = argument(False, "Show the plan and score nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_rewards(arguments: RewardsArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    for name in ("max_length", "tokens_per_batch"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")


@held_folder
def run_rewards(arguments: RewardsArguments) -> StageResult:
    """Scores pairs by each reward model and writes their accuracies into `eval_results.json`."""
    from ...evaluation.reward_data import to_examples
    from ...evaluation.rewards import evaluate_rewards
    from ...hub import local_model_folder
    from .score import reward_models_of

    check_rewards(arguments)
    models = reward_models_of(arguments.reward_models)
    rows = _pairs_of(arguments)
    examples = to_examples(rows)
    folders = {name: local_model_folder(given.model, what=f"reward model '{name}'") for name, given in models.items()}
    manifest = Manifest(
        "evaluate rewards",
        inputs={
            "pairs": data_key(rows),
            **{f"model {name}": model_key(folder) for name, folder in folders.items()},
            **{f"output of {name}": settings_key(given.choice) for name, given in models.items() if given.choice},
        },
        arguments={"chat": arguments.chat, "max_length": arguments.max_length},
    )
    manifest.counts = {"examples": len(examples.examples), **examples.left_out}
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, [f"reward models: {', '.join(models)}"])
    folder = Path(arguments.output_dir).expanduser()
    check_folder("evaluate rewards", folder, [arguments.dataset_name, *(given.model for given in models.values())])
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        done.lines = [f"accuracy of {model}: {value:.3f}" for model, value in stored_results(folder).items()]
        return done
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            result = evaluate_rewards(
                models,
                rows,
                name=arguments.dataset_name,
                revision=arguments.dataset_revision,
                chat=arguments.chat,
                max_length=arguments.max_length,
                tokens_per_batch=arguments.tokens_per_batch,
                output_dir=root,
                trust_remote_code=arguments.trust_remote_code,
            )
        manifest.results = {entry.model: entry.accuracy for entry in result.entries if entry.subset == "all"}
        manifest.save(root)
    return StageResult("evaluate rewards", arguments.output_dir, manifest.counts, result.lines())


def _pairs_of(arguments: RewardsArguments) -> Any:
    from ...data import load_source
    from ...hub import split_revision
    from .inputs import rows_of

    name, revision = split_revision(arguments.dataset_name)
    folder = Path(arguments.dataset_name).expanduser()
    for part in ("pairs", "preferences"):
        if any((folder / part).glob("train-*-of-*.parquet")):
            return rows_of(arguments.dataset_name, part)
    if folder.exists():
        return rows_of(arguments.dataset_name, "pairs")
    return load_source(name, split=arguments.dataset_split, revision=arguments.dataset_revision or revision)
