"""Stages `evaluate pairwise` and `evaluate rewards`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.identity import data_key, model_key
from ...runs.results import RESULTS_NAME, load_results, save_results
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    dry_result,
    holding_output_dir,
    owned_folder,
    skip_if_done,
    stored_results,
    timed,
)
from .inputs import mapping_of


@dataclass
class PairwiseArguments:
    """
    Arguments of `pd-trl evaluate pairwise`, see [`win_score`].

    Args:
        outputs (`str`, *optional*):
            Outputs of the model: a file in the format of AlpacaEval, or the folder of `pd-trl generate`.
        baselines (`str` or `dict`, *optional*):
            Outputs to compare with: the same, or a mapping of name to these.
        judge (`str`, *optional*):
            KIND:VALUE: gold:WORLD, reward:MODEL, openai:MODEL or alpaca:CONFIGURATION.
        judge_kwargs (`dict`, *optional*):
            Settings of the judge (YAML, or json), such as base_url of openai.
        output_dir (`str`, *optional*, defaults to `"pairwise"`):
            Folder of the result. What was judged before a kill is not asked again.
        max_problem_share (`float`, *optional*, defaults to `0.05`):
            Largest share of instructions that one side lacks, and of judgements that cannot be read.
        num_resamples (`int`, *optional*, defaults to `10000`):
            Resamples of the bootstrap interval.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the bootstrap.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and judge nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    outputs: str | None = field(
        default=None, metadata={"help": "Outputs of the model: a file, or the folder of `pd-trl generate`."}
    )
    baselines: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Outputs to compare with: the same, or a mapping of name to these."}
    )
    judge: str | None = field(
        default=None, metadata={"help": "gold:WORLD, reward:MODEL, openai:MODEL or alpaca:CONFIGURATION."}
    )
    judge_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Settings of the judge (YAML, or json), such as base_url of openai."}
    )
    output_dir: str = field(default="pairwise", metadata={"help": "Folder of the result. A killed run goes on there."})
    max_problem_share: float = field(
        default=0.05, metadata={"help": "Largest share of instructions missing, and of judgements unreadable."}
    )
    num_resamples: int = field(default=10_000, metadata={"help": "Resamples of the bootstrap interval."})
    seed: int = field(default=42, metadata={"help": "Seed of the bootstrap."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and judge nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


def check_evaluate_pairwise(arguments: PairwiseArguments) -> None:
    """Raises `InputError` on arguments that are missing or out of range."""
    from ...evaluation.judges import parse_judge

    if not arguments.outputs or not arguments.baselines:
        raise InputError(
            "`evaluate pairwise` needs the `outputs` of a model and those of `baselines` to compare it with."
        )
    if not arguments.judge:
        raise InputError("`evaluate pairwise` needs a `judge`, such as gold:WORLD, reward:MODEL or openai:MODEL.")
    parse_judge(arguments.judge)
    _named(arguments.baselines)
    mapping_of(arguments.judge_kwargs, "judge_kwargs")
    if not 0 <= arguments.max_problem_share < 1:
        raise InputError(f"`max_problem_share` is a share in [0, 1), got {arguments.max_problem_share}.")
    if arguments.num_resamples < 1:
        raise InputError(f"`num_resamples` must be at least 1, got {arguments.num_resamples}.")


@holding_output_dir
def run_pairwise(arguments: PairwiseArguments) -> StageResult:
    """Judges the model's outputs against each baseline's and writes `eval_results.json`, the judgements and the manifest."""
    from ...evaluation.judges import load_judge
    from ...evaluation.judges.digest import judge_digest
    from ...evaluation.outputs import load_output_sets, outputs_digest
    from ...evaluation.pairwise import win_score

    check_evaluate_pairwise(arguments)
    baselines = _named(arguments.baselines)
    sides = {
        name: load_output_sets(path, f"outputs of {name}")
        for name, path in {"the model": arguments.outputs, **baselines}.items()
    }
    settings = mapping_of(arguments.judge_kwargs, "judge_kwargs")
    manifest = Manifest(
        "evaluate pairwise",
        inputs={**{name: outputs_digest(sets) for name, sets in sides.items()}, **judge_digest(arguments.judge)},
        arguments={
            "judge": arguments.judge,
            "judge_kwargs": {key: value for key, value in settings.items() if key != "api_key_env"},
            "max_problem_share": arguments.max_problem_share,
            "num_resamples": arguments.num_resamples,
            "seed": arguments.seed,
        },
    )
    judgements = 2 * sum(len(entry.outputs) for entry in sides["the model"].values()) * len(baselines)
    if arguments.dry_run:
        line = f"at most {judgements} judgements by {arguments.judge}, both orders"
        return dry_result(manifest, arguments.output_dir, {"judgements": judgements}, [line])
    folder = Path(arguments.output_dir).expanduser()
    check_folder("evaluate pairwise", folder, [arguments.outputs, *baselines.values()])
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        done.lines = _pairwise_lines(folder)
        return done
    judge = load_judge(str(arguments.judge), **settings)
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            scores = [
                win_score(
                    sides["the model"],
                    sides[name],
                    judge=judge,
                    output_dir=root / name,
                    max_problem_share=arguments.max_problem_share,
                    baseline=name if len(baselines) > 1 or isinstance(arguments.baselines, Mapping) else None,
                    num_resamples=arguments.num_resamples,
                    seed=arguments.seed,
                )
                for name in baselines
            ]
            save_results([record for score in scores for record in score.results()], root)
        manifest.counts = {"instructions": judgements // 2 // len(baselines), "baselines": len(baselines)}
        manifest.results = {score.baseline: score.value for score in scores}
        manifest.save(root)
    lines = [line for score in scores for line in (score.lines() if len(scores) == 1 else score.lines()[:1])]
    return StageResult("evaluate pairwise", arguments.output_dir, manifest.counts, lines)


def _named(baselines: str | Mapping[str, Any] | None) -> dict[str, str]:
    if isinstance(baselines, str) and not baselines.lstrip().startswith("{"):
        return {"baseline": baselines}
    named = {str(name): str(path) for name, path in mapping_of(baselines, "baselines").items()}
    if not named:
        raise InputError("`baselines` names no outputs to compare with.")
    for name in named:
        if "/" in name or name.startswith(".") or name == "the model":
            raise InputError(f"The name {name!r} in `baselines` cannot name a folder. Choose another.")
    return named


def _pairwise_lines(folder: Path) -> list[str]:
    lines = []
    for record in load_results(folder / RESULTS_NAME):
        error = f" ± {record.standard_error:.3f}" if record.standard_error is not None else ""
        lines.append(
            f"Win score of {record.model} against {record.baseline}: {record.value:.3f}{error} ({record.task}; judge: {record.judge})"
        )
    return lines


@dataclass
class RewardsArguments:
    """
    Arguments of `pd-trl evaluate rewards`, see [`evaluate_rewards`].

    Args:
        reward_models (`str` or `dict`, *optional*):
            The folder of `pd-trl reward`, or a mapping of name to model (YAML, or json).
        dataset_name (`str`, *optional*, defaults to `"allenai/reward-bench-2"`):
            Pairs, preferences, or RewardBench's columns: a stage's folder, a file, or a Hub id.
        dataset_split (`str`, *optional*, defaults to `"test"`):
            Split of a data set on the Hub; allenai/reward-bench has filtered and raw.
        dataset_revision (`str`, *optional*):
            Revision of a data set on the Hub.
        output_dir (`str`, *optional*, defaults to `"rewards"`):
            Folder of the result. A run that was killed goes on there.
        chat (`bool`, *optional*):
            Whether strings become chat messages. For RewardBench's columns only, if unset.
        max_length (`int`, *optional*):
            Most tokens of prompt and response.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and score nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    reward_models: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "The folder of `pd-trl reward`, or a mapping of name to model (YAML, or json)."},
    )
    dataset_name: str = field(
        default="allenai/reward-bench-2",
        metadata={"help": "Pairs, preferences or RewardBench's columns: a stage's folder, a file, or a Hub id."},
    )
    dataset_split: str = field(
        default="test", metadata={"help": "Split on the Hub; allenai/reward-bench has filtered and raw."}
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a data set on the Hub."})
    output_dir: str = field(default="rewards", metadata={"help": "Folder of the result. A killed run goes on there."})
    chat: bool | None = field(
        default=None,
        metadata={"help": "Whether strings become chat messages. For RewardBench's columns only, if unset."},
    )
    max_length: int | None = field(default=None, metadata={"help": "Most tokens of prompt and response."})
    tokens_per_batch: int | None = field(default=None, metadata={"help": "Most tokens of a batch, padding counted."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Whether to run code that comes with a model."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and score nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


def check_evaluate_rewards(arguments: RewardsArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    for name in ("max_length", "tokens_per_batch"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"`{name}` must be at least 1, got {value}.")


@holding_output_dir
def run_rewards(arguments: RewardsArguments) -> StageResult:
    """Scores pairs by each reward model and writes their accuracies into `eval_results.json`."""
    from ...evaluation.reward_data import to_examples
    from ...evaluation.rewards import evaluate_rewards
    from ...hub import local_model_folder
    from .score import reward_models_of

    check_evaluate_rewards(arguments)
    models = reward_models_of(arguments.reward_models)
    rows = _pairs_of(arguments)
    examples = to_examples(rows)
    folders = {name: local_model_folder(model, what=f"reward model '{name}'") for name, model in models.items()}
    manifest = Manifest(
        "evaluate rewards",
        inputs={
            "pairs": data_key(rows),
            **{f"model {name}": model_key(folder) for name, folder in folders.items()},
        },
        arguments={"chat": arguments.chat, "max_length": arguments.max_length},
    )
    manifest.counts = {"examples": len(examples.examples), **examples.left_out}
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, [f"reward models: {', '.join(models)}"])
    folder = Path(arguments.output_dir).expanduser()
    check_folder("evaluate rewards", folder, [arguments.dataset_name, *models.values()])
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
