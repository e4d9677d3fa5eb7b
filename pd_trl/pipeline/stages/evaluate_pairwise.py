"""Stage `evaluate pairwise`: the win score of a model's outputs against others'."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.results import RESULTS_NAME, load_results, save_results
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, owned_folder, skip_if_done, timed
from ..mappings import mapping_of, path_or_mapping
from .arguments import OVERWRITE_KEEPS_ANSWERS, argument


@dataclass
class PairwiseArguments:
    """Arguments of `pd-trl evaluate pairwise`, see [`win_score`]."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"baselines": "reference_outputs"}

    outputs: str | None = argument(
        None, "Outputs of the model: a file in the format of AlpacaEval, or the folder of `pd-trl generate`."
    )
    reference_outputs: dict[str, Any] | str | None = argument(
        None, "Outputs to compare with: a file, a folder, or a mapping of name to these (YAML or json)."
    )
    judge: str | None = argument(None, "Who judges: gold:WORLD, reward:MODEL, openai:MODEL or alpaca:CONFIGURATION.")
    judge_kwargs: dict[str, Any] | str | None = argument(
        None, "Settings of the judge, such as base_url of openai: a mapping (YAML or json)."
    )
    output_dir: str = argument(
        "pairwise", "Folder of the result. A run that was interrupted goes on there and repeats no question."
    )
    max_problem_share: float = argument(
        0.05, "Largest share of instructions that one side lacks, and of judgements that cannot be read."
    )
    num_resamples: int = argument(10_000, "Resamples of the bootstrap interval.")
    seed: int = argument(42, "Seed of the bootstrap.")
    dry_run: bool = argument(False, "Show the plan and judge nothing.")
    overwrite: bool = argument(False, OVERWRITE_KEEPS_ANSWERS)


def check_pairwise(arguments: PairwiseArguments) -> None:
    """Raises `InputError` on arguments that are missing or out of range."""
    from ...evaluation.judges import parse_judge
    from ..judges import register_gold_judge

    if not arguments.outputs or not arguments.reference_outputs:
        raise InputError(
            "`evaluate pairwise` needs the `outputs` of a model, and `reference_outputs` to compare them with."
        )
    if not arguments.judge:
        raise InputError("`evaluate pairwise` needs a `judge`, such as gold:WORLD, reward:MODEL or openai:MODEL.")
    register_gold_judge()
    parse_judge(arguments.judge)
    _named(arguments.reference_outputs)
    mapping_of(arguments.judge_kwargs, "judge_kwargs")
    if not 0 <= arguments.max_problem_share < 1:
        raise InputError(f"`max_problem_share` is a share in [0, 1), got {arguments.max_problem_share}.")
    if arguments.num_resamples < 1:
        raise InputError(f"`num_resamples` must be at least 1, got {arguments.num_resamples}.")


@held_folder
def run_pairwise(arguments: PairwiseArguments) -> StageResult:
    """Judges the model's outputs against each baseline's and writes `eval_results.json`, the judgements and the manifest."""
    from ...evaluation.judges import load_judge
    from ...evaluation.judges.digest import judge_digest
    from ...evaluation.outputs import load_output_sets, outputs_digest
    from ...evaluation.pairwise import ANSWERS_NAME, win_score
    from ...runs.row_log import carry_over

    check_pairwise(arguments)
    baselines = _named(arguments.reference_outputs)
    named = isinstance(path_or_mapping(arguments.reference_outputs, "reference_outputs"), dict)
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
        for name in baselines:
            carry_over(folder / name / ANSWERS_NAME, root / name / ANSWERS_NAME, judge.identity)
        with timed(manifest):
            scores = [
                win_score(
                    sides["the model"],
                    sides[name],
                    judge=judge,
                    output_dir=root / name,
                    max_problem_share=arguments.max_problem_share,
                    baseline=name if named else None,
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


def _named(outputs: str | Mapping[str, Any] | None) -> dict[str, str]:
    given = path_or_mapping(outputs, "reference_outputs")
    if isinstance(given, str):
        return {"baseline": given}
    named = {name: str(path) for name, path in given.items()}
    if not named:
        raise InputError("`reference_outputs` names no outputs to compare with.")
    for name in named:
        if "/" in name or name.startswith(".") or name == "the model":
            raise InputError(f"The name {name!r} in `reference_outputs` cannot name a folder. Choose another.")
    return named


def _pairwise_lines(folder: Path) -> list[str]:
    lines = []
    for record in load_results(folder / RESULTS_NAME):
        error = f" ± {record.standard_error:.3f}" if record.standard_error is not None else ""
        lines.append(
            f"Win score of {record.model} against {record.baseline}: {record.value:.3f}{error} ({record.task}; judge: {record.judge})"
        )
    return lines
