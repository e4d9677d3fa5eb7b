"""[`evaluate_alpaca`]: AlpacaEval 2 of a model's outputs, by alpaca_eval's annotators and GLM."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.row_log import RowLog
from ...servers.settings import RequestSettings
from ..judges import JUDGES, load_judge
from ..judges.base import Judge
from .annotator import Annotator, JudgeSettings
from .judging import check_judgements, judge_by_annotator, judge_by_judge, judge_by_records
from .length_control import difficulty_path, length_controlled_win_rate, why_no_length_control
from .outputs import align, check_problems, read_outputs, read_reference
from .plan import AlpacaPlan, plan_comparisons, plan_requests
from .result import AlpacaResult
from .summary import save, summarise

LOG_NAME = "judgements.jsonl"
_LOG_IDENTITY = {"answers": "by the digest of the request"}


def evaluate_alpaca(
    model_outputs: Any,
    *,
    reference_outputs: Any = None,
    judge: str | Judge | None = None,
    output_dir: str | os.PathLike,
    generator: str | None = None,
    judge_model: str | None = None,
    base_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    client_config: str | None = None,
    judge_arguments: dict[str, Any] | None = None,
    requests: RequestSettings | None = None,
    annotations: Any = None,
    subset: bool = False,
    max_problem_share: float = 0.01,
    length_control: bool = True,
    difficulty_file: str | os.PathLike | None = None,
    num_resamples: int = 200,
    seed: int = 42,
) -> AlpacaResult:
    """
    Evaluates a model's outputs as AlpacaEval 2 does: win rate against a reference, and its length-controlled version.

    Outputs, reference and annotations are matched by instruction, in any order. Nothing is written outside
    `output_dir`. Each answer of the judge is saved there at once (`judgements.jsonl`). After a kill, or with the same
    requests in another run, no answer is paid for twice.

    Args:
        model_outputs (`str`, path, `Dataset`, `DataFrame`, or list of `dict`):
            Rows with `instruction`, `output` and `generator`; or a file of them, or a folder of `pd-trl generate`.
        reference_outputs (same, *optional*):
            Outputs to compare with. `None` is `gpt4_1106_preview` from the Hub (or its cache), the only reference with
            a length-controlled win rate.
        judge (`str` or [`Judge`]):
            Name or folder of an annotator of alpaca_eval, a name such as `"reward:me/rm-overall"` for [`load_judge`],
            or a judge. The leaderboard's own judge model is no longer served.
        output_dir (`str`):
            Folder of the judge's answers, the annotations and the results.
        generator (`str`, *optional*):
            Name of the model, instead of that in the rows.
        judge_model (`str`, *optional*):
            Model to ask instead of the annotator's.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the key.
        client_config (`str`, *optional*):
            File with alpaca_eval's client settings. `None` is `OPENAI_CLIENT_CONFIG_PATH`.
        judge_arguments (`dict`, *optional*):
            Arguments of each request that differ from the annotator's. The value `None` removes one.
        requests ([`RequestSettings`], *optional*):
            Retries and concurrency.
        annotations (`str`, or list of `dict`, *optional*):
            Recorded annotations to use instead of a judge.
        subset (`bool`, *optional*, defaults to `False`):
            Whether to leave out instructions that the model has not answered.
        max_problem_share (`float`, *optional*, defaults to `0.01`):
            Largest share of instructions with one kind of problem (missing, extra, duplicate, empty, unanswered,
            unparsable). With more, the run fails.
        length_control (`bool`, *optional*, defaults to `True`):
            Whether to compute the length-controlled win rate, if it is defined.
        difficulty_file (`str`, *optional*):
            `df_gamed.csv` of the data set tatsu-lab/alpaca_eval. `None` takes it from the Hub, or its cache.
        num_resamples (`int`, *optional*, defaults to `200`):
            Samples for the standard error of the length-controlled win rate.
        seed (`int`, *optional*, defaults to `42`):
            Seed of these samples.

    Returns:
        [`AlpacaResult`], which is also saved as records (`eval_results.json`).

    Raises:
        InputError: If outputs or judgements have too many problems, or the judge cannot be used.
    """
    _check_share(max_problem_share, num_resamples)
    aligned = align(read_outputs(model_outputs, "model outputs", generator), read_reference(reference_outputs), subset)
    check_problems(aligned, max_problem_share)
    undefined = why_no_length_control(aligned.rows)
    refused = undefined or (None if length_control else "it was not asked for")
    asked: Annotator | Judge | None = None
    if annotations is None:
        asked = _judge(judge, judge_model, base_url, api_key_env, client_config, judge_arguments, requests)
    if refused is None:
        # Checked before anything is paid for.
        difficulty_file = difficulty_path(difficulty_file)
    folder = Path(output_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if asked is None:
        judgements = judge_by_records(annotations, aligned.rows)
    else:
        with RowLog(folder / LOG_NAME, _LOG_IDENTITY) as log:
            if isinstance(asked, Annotator):
                judgements = judge_by_annotator(asked, aligned.rows, log)
            else:
                judgements = judge_by_judge(asked, aligned.rows, log)
    check_judgements(judgements, max_problem_share)
    control = None
    if refused is None:
        control = length_controlled_win_rate(
            aligned.rows,
            judgements.preferences,
            difficulty_file=difficulty_file,
            num_resamples=num_resamples,
            seed=seed,
        )
    result = summarise(aligned, judgements, control, undefined, refused)
    save(folder, aligned, judgements, result)
    return result


def plan_alpaca(
    model_outputs: Any,
    *,
    reference_outputs: Any = None,
    judge: str | Judge | None = None,
    output_dir: str | os.PathLike | None = None,
    generator: str | None = None,
    judge_model: str | None = None,
    judge_arguments: dict[str, Any] | None = None,
    subset: bool = False,
    price_per_million_tokens: float | None = None,
) -> AlpacaPlan:
    """
    The requests and the cost of [`evaluate_alpaca`]. Nothing is sent or written.

    Args:
        model_outputs, reference_outputs, judge, output_dir, generator, judge_model, judge_arguments, subset:
            As in [`evaluate_alpaca`].
        price_per_million_tokens (`float`, *optional*):
            Dollars. `None` is the price that the annotator, or alpaca_eval, names.
    """
    aligned = align(read_outputs(model_outputs, "model outputs", generator), read_reference(reference_outputs), subset)
    refused = why_no_length_control(aligned.rows)
    shared: dict[str, Any] = {
        "num_instructions": aligned.num_instructions,
        "problems": aligned.problems,
        "length_control": refused,
    }
    config = _annotator_of(judge)
    if config is not None:
        annotator = Annotator(JudgeSettings(config, judge_model, arguments=dict(judge_arguments or {})))
        with _known_answers(output_dir) as log:
            count, known, tokens, cost = plan_requests(annotator, aligned, log, price_per_million_tokens)
        return AlpacaPlan(annotator.name, num_requests=count, num_known=known, num_tokens=tokens, cost=cost, **shared)
    if judge is None:
        _judge(None, None, None, "", None, None, None)
    name = judge if isinstance(judge, str) else judge.name if judge is not None else ""
    if not name.startswith("openai:"):
        return AlpacaPlan(name, num_requests=len(aligned.rows), num_known=0, num_tokens=0, cost=0.0, **shared)
    with _known_answers(output_dir) as log:
        count, known, tokens = plan_comparisons(name.partition(":")[2], judge_arguments, aligned, log)
    cost = None if price_per_million_tokens is None else tokens * price_per_million_tokens / 1e6
    return AlpacaPlan(name, num_requests=count, num_known=known, num_tokens=tokens, cost=cost, **shared)


@contextlib.contextmanager
def _known_answers(output_dir: str | os.PathLike | None) -> Iterator[RowLog]:
    """Answers of an earlier run. A run that is still going has locked its file, so its answers are not counted."""
    path = Path(output_dir).expanduser() / LOG_NAME if output_dir is not None else None
    log = RowLog(path or LOG_NAME, _LOG_IDENTITY)
    if path is not None and path.is_file():
        with contextlib.suppress(InputError), log:
            pass
    yield log


def _check_share(max_problem_share: float, num_resamples: int) -> None:
    if not 0 <= max_problem_share <= 1:
        raise InputError(f"`max_problem_share` must be a share from 0 to 1, got {max_problem_share}.")
    if num_resamples < 0 or num_resamples == 1:
        raise InputError(f"`num_resamples` must be 0 or at least 2, got {num_resamples}.")


def _annotator_of(judge: str | Judge | None) -> str | None:
    """The annotator of alpaca_eval that is named as judge; `None` for other judges."""
    if not isinstance(judge, str):
        return None
    kind, colon, value = judge.partition(":")
    if colon and kind == "alpaca":
        return value
    return None if colon and kind in JUDGES else judge


def _judge(
    judge: str | Judge | None,
    model: str | None,
    base_url: str | None,
    api_key_env: str,
    client_config: str | None,
    arguments: dict[str, Any] | None,
    requests: RequestSettings | None,
) -> Annotator | Judge:
    if judge is None:
        raise InputError(
            "No judge: name one with `judge`. The leaderboard's judge (weighted_alpaca_eval_gpt4_turbo) asks "
            "gpt-4-1106-preview, which is no longer served: give another `judge_model` with its `base_url`, or a "
            "local judge such as 'reward:me/rm-overall'."
        )
    server = {"judge_model": model, "base_url": base_url, "client_config": client_config, "judge_arguments": arguments}
    config = _annotator_of(judge)
    if config is not None:
        settings = RequestSettings() if requests is None else requests
        return Annotator(
            JudgeSettings(config, model, base_url, api_key_env, client_config, dict(arguments or {}), settings)
        )
    if not isinstance(judge, str):
        return judge
    if judge.startswith("openai:"):
        return load_judge(judge, base_url=base_url, api_key_env=api_key_env, arguments=arguments, settings=requests)
    given = [name for name, value in server.items() if value]
    if given:
        raise InputError(
            f"The judge {judge!r} does not take {' and '.join(given)}: only annotators of alpaca_eval do."
        )
    return load_judge(judge)
