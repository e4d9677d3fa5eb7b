"""The judge and the rubric that the arguments of `rate` name, and what the rating would ask."""

from pathlib import Path
from typing import TYPE_CHECKING

import datasets

from ...rating.judges import RatingJudge, ServerJudge, server_judge
from ...rating.plan import RatingPlan, plan_rating
from ...rating.rubric import Rubric, load_rubric
from ...rating.run import ANSWERS_NAME, log_identity
from ...runs.row_log import kept_rows
from ..mappings import mapping_of
from .arguments import request_settings_of

if TYPE_CHECKING:
    from .rate import RateArguments


def prices_of(arguments: "RateArguments") -> tuple[float, float] | None:
    """Dollars of a million tokens of questions and of answers."""
    price = arguments.price_per_million_tokens
    if price is None:
        return None
    answers = arguments.price_per_million_answer_tokens
    return price, price if answers is None else answers


def judge_of(arguments: "RateArguments", asks: bool = True) -> RatingJudge:
    """The judge that the arguments name. One of a server that `asks` nothing needs neither the server nor a key."""
    if arguments.judge:
        from ...rating.local_judge import local_judge

        return local_judge(
            arguments.judge,
            dtype=arguments.dtype,
            batch_size=arguments.batch_size,
            trust_remote_code=arguments.trust_remote_code,
        )
    model, own = str(arguments.judge_model), mapping_of(arguments.judge_arguments, "judge_arguments")
    if not asks:
        return ServerJudge(model, None, request_settings_of(arguments), own)
    return server_judge(
        model,
        base_url=arguments.base_url,
        api_key_env=arguments.api_key_env,
        arguments=own,
        settings=request_settings_of(arguments),
    )


def rating_plan(arguments: "RateArguments", pairs: datasets.Dataset, rubric: Rubric, judge: RatingJudge) -> RatingPlan:
    """What the rating would ask about the pairs, less what an earlier run in its folder has answers of."""
    folder = Path(arguments.output_dir).expanduser()
    log = kept_rows(folder / ANSWERS_NAME, log_identity(judge, rubric, arguments.mode))
    return plan_rating(
        pairs, judge, rubric, log, mode=arguments.mode, adaptive=arguments.adaptive,
        repeat_share=arguments.repeat_share, seed=arguments.seed, prices=prices_of(arguments),
    )  # fmt: skip


def rubric_of(arguments: "RateArguments") -> Rubric:
    """The rubric that the arguments name."""
    given = arguments.rubric
    return load_rubric(given if given is None or isinstance(given, str) else mapping_of(given, "rubric"))
