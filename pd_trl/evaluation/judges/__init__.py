"""Judges of pairs of outputs, and their names on the command line."""

import importlib
from typing import Any

from ...errors import InputError
from .base import Comparison, Judge, ScoreJudge

# Kind: module of this package and the function that makes the judge from what follows the colon, and what that is.
JUDGES: dict[str, tuple[str, str, str]] = {
    "gold": ("gold", "gold_judge", "the folder of a simulated world"),
    "reward": ("reward_model", "reward_model_judge", "the folder or Hub id of a reward model"),
    "openai": ("openai_client", "openai_judge", "a model of an OpenAI-compatible server"),
    "alpaca": ("openai_client", "alpaca_judge", "an annotator configuration of alpaca_eval: a name or a folder"),
}

__all__ = ["JUDGES", "Comparison", "Judge", "ScoreJudge", "load_judge", "parse_judge"]


def parse_judge(judge: str) -> tuple[str, str]:
    """
    Kind and value of a judge written as `KIND:VALUE`, such as `"gold:runs/quickstart/world"`.

    Raises:
        InputError: When the kind is unknown or the value is missing.
    """
    kind, colon, value = str(judge).partition(":")
    if kind not in JUDGES or not value:
        kinds = "; ".join(f"{name}:VALUE, with {entry[2]}" for name, entry in JUDGES.items())
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
    module, function, _ = JUDGES[kind]
    make = getattr(importlib.import_module(f".{module}", __name__), function)
    try:
        made: Judge = make(value, **settings)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        refused = "does not take" if "unexpected keyword argument" in str(error) else "cannot be made with"
        raise InputError(f"The judge {judge!r} {refused} {sorted(settings)}: {error}.") from None
    return made
