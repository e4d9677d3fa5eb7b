"""Rubrics: the aspects that a judge rates, and what each level means."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.validation import RESERVED_ASPECTS
from ..errors import InputError, InputTypeError
from ..runs.artifacts import digest_of
from ..safety.schema import MAX_BYTES, check_content, mapping, parse_yaml, read_text, record, text
from ..safety.schema import Misfit as _Misfit

DEFAULT = Path(__file__).with_name("files") / "default.yaml"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_LEVELS = range(0, 101)


@dataclass(frozen=True)
class RatedAspect:
    """
    One aspect of a rubric.

    Args:
        name (`str`): Its name, which columns carry.
        question (`str`): What is rated.
        levels (`dict` of `int` to `str`): What each level means; a higher one is better.
    """

    name: str
    question: str
    levels: dict[int, str]

    @property
    def lowest(self) -> int:
        """The worst level."""
        return min(self.levels)

    @property
    def highest(self) -> int:
        """The best level."""
        return max(self.levels)


@dataclass(frozen=True)
class Rubric:
    """
    What a judge is asked about.

    Args:
        name (`str`): Name shown beside ratings.
        aspects (`tuple` of [`RatedAspect`]): The aspects, at least one.
    """

    name: str
    aspects: tuple[RatedAspect, ...]

    @property
    def names(self) -> list[str]:
        """Names of the aspects."""
        return [aspect.name for aspect in self.aspects]

    def to_dict(self) -> dict[str, Any]:
        """The rubric as its file holds it."""
        aspects: dict[str, Any] = {}
        for aspect in self.aspects:
            aspects[aspect.name] = {"question": aspect.question, "levels": dict(aspect.levels)}
        return {"name": self.name, "aspects": aspects}

    @property
    def digest(self) -> str:
        """Digest of the aspects, their order, questions and levels."""
        return digest_of([[a.name, a.question, sorted(a.levels.items())] for a in self.aspects])


def _aspect_name(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _Misfit(where, "the name of an aspect in letters, digits, - and _", value)
    if value in RESERVED_ASPECTS:
        raise _Misfit(
            where, f"another name than {', '.join(RESERVED_ASPECTS)}, which labels of other kinds have", value
        )


def _said(value: Any, where: str) -> None:
    text(empty=False)(value, where)
    if not value.strip():
        raise _Misfit(where, "a text that is not empty", value)


def _levels(value: Any, where: str) -> None:
    if not isinstance(value, Mapping) or len(value) < 2:
        raise _Misfit(where, "an object of at least two levels and their meanings", value)
    for level, meaning in value.items():
        if isinstance(level, bool) or not isinstance(level, int) or level not in _LEVELS:
            raise _Misfit(f"a level in {where}", f"a whole number from 0 to {_LEVELS[-1]}", level)
        _said(meaning, f"{where}.{level}")


_ASPECT = record({"question": _said, "levels": _levels}, required=("question", "levels"))


def _aspects(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for name in value:
            _aspect_name(name, f"a key of {where}")
    mapping(_ASPECT, empty=False)(value, where)


_RUBRIC = record({"name": text(empty=False), "aspects": _aspects}, required=("aspects",))


def load_rubric(source: "Rubric | str | os.PathLike | Mapping[str, Any] | None" = None) -> Rubric:
    """
    A rubric from a YAML file, or from what such a file holds.

    Args:
        source ([`Rubric`], `str`, path or mapping, *optional*):
            The file or its content: `aspects`, a mapping of name to `question` and `levels` (whole number to meaning), and a
            `name`. `None` is the default rubric: helpfulness, truthfulness, honesty and instruction_following.

    Raises:
        InputError: When the rubric cannot be read; says where and what was expected.
    """
    if isinstance(source, Rubric):
        return source
    if source is None:
        source = DEFAULT
    if isinstance(source, Mapping):
        where, content = "The rubric", dict(source)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        where, content = f"The rubric {path}", parse_yaml(read_text(path, MAX_BYTES), f"The rubric {path}")
    else:
        raise InputTypeError(f"`rubric` must be a file, a mapping or a Rubric, got {type(source).__name__}.")
    advice = f"A rubric that is right is {DEFAULT}: copy it."
    check_content(content, _RUBRIC, where, "a rubric", advice)
    aspects = tuple(
        RatedAspect(
            name, entry["question"].strip(), {level: str(m).strip() for level, m in sorted(entry["levels"].items())}
        )
        for name, entry in content["aspects"].items()
    )
    folded = [aspect.name.lower() for aspect in aspects]
    if len(set(folded)) < len(folded):
        raise InputError(
            f"{where} has two aspects whose names differ in case only: {', '.join(a.name for a in aspects)}."
        )
    return Rubric(str(content.get("name") or "rubric"), aspects)
