"""Stage `evaluate alpaca`: AlpacaEval 2 of a model's outputs."""

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InputError
from ...evaluation.alpaca import evaluate_alpaca, plan_alpaca
from ...evaluation.alpaca.outputs import read_outputs, read_reference
from ...evaluation.judges.digest import judge_digest
from ...runs.artifacts import Manifest, digest_of
from ...runs.identity import deciding, file_key
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    held_folder,
    owned_folder,
    skip_if_done,
    stored_results,
    timed,
)
from ..judges import register_gold_judge
from ..mappings import mapping_of
from .arguments import API_KEY_ENV, BASE_URL, RESUMED, argument, request_argument, request_settings_of

_STAGE = "evaluate alpaca"


@dataclass
class AlpacaArguments:
    """Arguments of `pd-trl evaluate alpaca`, see [`evaluate_alpaca`]."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"model_outputs": "outputs", "num_bootstrap": "num_resamples"}

    outputs: str | None = argument(
        None, "The outputs: a json, jsonl or parquet file, or the folder of `pd-trl generate`."
    )
    reference_outputs: str | None = argument(None, "Outputs to compare with. AlpacaEval's own where unset.")
    judge: str | None = argument(
        None, "An annotator of alpaca_eval (name or folder), or a judge such as reward:FOLDER."
    )
    output_dir: str = argument("alpaca", RESUMED)
    generator: str | None = argument(None, "Name of the model, in place of the one in the outputs.")
    judge_model: str | None = argument(None, "Model to ask, in place of the annotator's.")
    base_url: str | None = argument(None, BASE_URL)
    api_key_env: str = argument("OPENAI_API_KEY", API_KEY_ENV)
    client_config: str | None = argument(None, "File with alpaca_eval's client settings.")
    judge_arguments: dict[str, Any] | str | None = argument(
        None, "Arguments of each request that differ from the annotator's: a mapping (YAML or json). null removes one."
    )
    max_concurrency: int = request_argument("max_concurrency")
    max_retries: int = request_argument("max_retries")
    request_timeout: float = request_argument("request_timeout")
    max_askings: int = request_argument("max_askings")
    annotations: str | None = argument(None, "File of recorded annotations to use in place of a judge.")
    subset: bool = argument(False, "Leave out instructions that the model has not answered.")
    max_problem_share: float = argument(
        0.01, "Largest share of instructions with a problem; with more, the run fails."
    )
    length_control: bool = argument(True, "Compute the length-controlled win rate, where it is defined.")
    difficulty_file: str | None = argument(None, "A local copy of df_gamed.csv of tatsu-lab/alpaca_eval.")
    num_resamples: int = argument(
        200, "Resamples of the bootstrap, for the standard error of the length-controlled win rate."
    )
    seed: int = argument(42, "Seed of the bootstrap samples.")
    price_per_million_tokens: float | None = argument(None, "Price in dollars, for the estimate of --dry_run.")
    dry_run: bool = argument(False, "Show requests, tokens and cost, and ask nothing.")
    overwrite: bool = argument(False, "Replace another run's result in `output_dir`. The judge's answers are kept.")


# What decides the result; the server's address does not, as long as it serves the same model.
_DECIDING = (
    "judge", "generator", "judge_model", "judge_arguments", "subset", "max_problem_share", "length_control", "num_resamples", "seed",
)  # fmt: skip


@held_folder
def run_evaluate_alpaca(arguments: AlpacaArguments) -> StageResult:
    """Evaluates a model's outputs as AlpacaEval 2 does, and writes annotations and `eval_results.json`."""
    register_gold_judge()
    if not arguments.outputs:
        raise InputError("No outputs: name them with --outputs (a file, or the folder of `pd-trl generate`).")
    shared: dict[str, Any] = {
        "reference_outputs": arguments.reference_outputs,
        "judge": arguments.judge,
        "generator": arguments.generator,
        "judge_model": arguments.judge_model,
        "judge_arguments": mapping_of(arguments.judge_arguments, "judge_arguments"),
        "subset": arguments.subset,
    }
    if arguments.dry_run:
        plan = plan_alpaca(
            arguments.outputs,
            output_dir=arguments.output_dir,
            price_per_million_tokens=arguments.price_per_million_tokens,
            **shared,
        )
        counts = {"instructions": plan.num_instructions, "requests": plan.num_requests}
        return StageResult(f"{_STAGE} (dry run)", arguments.output_dir, counts, str(plan).split("\n"))
    inputs = [arguments.outputs, arguments.reference_outputs, arguments.annotations, arguments.difficulty_file]
    check_folder(_STAGE, arguments.output_dir, inputs)
    manifest = Manifest(_STAGE, _digests(arguments), deciding(arguments, _DECIDING))
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        found = stored_results(arguments.output_dir)
        done.lines = [f"{name.replace('_', ' ')}: {value:.2f} %" for name, value in found.items() if value is not None]
        return done
    # Answers are known by their requests, so that those of another run may stay.
    with owned_folder(_STAGE, arguments.output_dir, overwrite=False), timed(manifest):
        result = evaluate_alpaca(
            arguments.outputs,
            output_dir=arguments.output_dir,
            base_url=arguments.base_url,
            api_key_env=arguments.api_key_env,
            client_config=arguments.client_config,
            requests=request_settings_of(arguments),
            annotations=arguments.annotations,
            max_problem_share=arguments.max_problem_share,
            length_control=arguments.length_control,
            difficulty_file=arguments.difficulty_file,
            num_resamples=arguments.num_resamples,
            seed=arguments.seed,
            **shared,
        )
    manifest.counts = {"judged": result.num_judged, **result.problems}
    manifest.results = {"win_rate": result.win_rate, "length_controlled_win_rate": result.length_controlled_win_rate}
    manifest.save(arguments.output_dir)
    return StageResult(_STAGE, arguments.output_dir, manifest.counts, str(result).split("\n"))


def _digests(arguments: AlpacaArguments) -> dict[str, str]:
    """Digests of outputs and reference by their content, in whatever order, and of the files."""
    digests = {
        "model_outputs": digest_of(read_outputs(arguments.outputs, "model outputs", arguments.generator).outputs),
        "reference_outputs": digest_of(read_reference(arguments.reference_outputs).outputs),
    }
    for name in ("annotations", "difficulty_file"):
        path = getattr(arguments, name)
        if path and os.path.isfile(path):
            digests[name] = file_key(path)
    return digests | (judge_digest(arguments.judge) if arguments.annotations is None else {})
