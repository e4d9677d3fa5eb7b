"""Judges of pairs of outputs, and their names on the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from .base import Comparison, Judge, ScoreJudge

__all__ = ["JUDGES", "Comparison", "Judge", "JudgeKind", "ScoreJudge", "load_judge", "parse_judge"]


@dataclass(frozen=True)
class JudgeKind:
    """
    A kind of judge.

    Args:
        make (callable): Makes the judge from the value that follows the colon, and settings.
        value (`str`): What that value is.
    """

    make: Callable[..., Judge]
    value: str


def _reward(value: str, **settings: Any) -> Judge:
    from .reward_model import reward_model_judge

    return reward_model_judge(value, **settings)


def _openai(value: str, **settings: Any) -> Judge:
    from .openai_client import openai_judge

    return openai_judge(value, **settings)


def _alpaca(value: str, **settings: Any) -> Judge:
    from .openai_client import alpaca_judge

    return alpaca_judge(value, **settings)


# The kinds by their names. Others are added here: the command line adds `gold`, the judge of a simulated world.
JUDGES: dict[str, JudgeKind] = {
    "reward": JudgeKind(_reward, "the folder or Hub id of a reward model"),
    "openai": JudgeKind(_openai, "a model of an OpenAI-compatible server"),
    "alpaca": JudgeKind(_alpaca, "an annotator configuration of alpaca_eval: a name or a folder"),
}


def parse_judge(judge: str) -> tuple[str, str]:
    """
    Kind and value of a judge written as `KIND:VALUE`, such as `"reward:me/rm-overall"`.

    Raises:
        InputError: When the kind is unknown or the value is missing.
    """
    kind, colon, value = str(judge).partition(":")
    if kind not in JUDGES or not value:
        kinds = "; ".join(f"{name}:VALUE, with {entry.value}" for name, entry in JUDGES.items())
        raise InputError(f"The judge must be one of {kinds}, got {judge!r}.")
    return kind, value


def load_judge(judge: str, **settings: Any) -> Judge:
    """
    The judge that a text such as `"reward:me/rm-overall"` names.

    Args:
        judge (`str`): `KIND:VALUE`; the kinds are those of [`JUDGES`].
        settings: Settings of that kind of judge, such as `base_url` of `openai`.

    Raises:
        InputError: When there is no such judge, or it does not take the settings.
    """
    kind, value = parse_judge(judge)
    try:
        return JUDGES[kind].make(value, **settings)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        refused = "does not take" if "unexpected keyword argument" in str(error) else "cannot be made with"
        raise InputError(f"The judge {judge!r} {refused} {sorted(settings)}: {error}.") from None
