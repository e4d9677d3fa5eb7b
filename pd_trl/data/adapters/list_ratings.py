"""Which values of a response are its ratings, and which say something else of it."""

import re
from collections.abc import Mapping
from typing import Any

from ..forms.nested import is_rating, rating_of
from ..forms.values import UnreadError

OVERALL = re.compile(r"(?:overall_)?(?:rating|score|reward|grade)s?|annotations")
_OF_ASPECT = (
    re.compile(r"(?:rating|score|reward)s?_(?P<aspect>.+)"), re.compile(r"(?P<aspect>.+)_(?:rating|score|reward)s?"),
)  # fmt: skip
# Numbers, and mappings of them, that say nothing of a response's quality.
_METADATA = re.compile(
    r"(?:.+_)?(?:ids?|index|idx|len|length|tokens?|words|chars|characters|count|seed|temperature|top_[kp]|time|timestamp|date|created"
    r"|created_at|latency|duration|seconds|cost|price|logprobs?|position|rank|turns?|version|year|meta|metadata|usage|info|stats|params|parameters|config|settings)|(?:num|n)_.+", re.IGNORECASE,
)  # fmt: skip
# Keys of an entry: a number whose name says nothing of a rating, and whether ratings stand in a mapping.
_BARE, _MAPPED = "bare_", "mapped"


def aspect_of(name: str) -> str | None:
    """The aspect that a column of ratings is of; `overall` where it names none."""
    if OVERALL.fullmatch(name):
        return "overall"
    return next((found["aspect"] for pattern in _OF_ASPECT if (found := pattern.fullmatch(name))), None)


def add_ratings(entry: dict[str, Any], name: str, value: Any) -> bool:
    """Adds a rating, or those of a mapping of aspects; `False` where it is neither. A remark of a mapping is left out."""
    aspect = aspect_of(name)
    if isinstance(value, Mapping) and not is_rating(value):
        if _METADATA.fullmatch(name):
            return False
        entry[_MAPPED] = True
        for key, rating in value.items():
            if rating is not None and is_rating(rating):
                _put(entry, f"rating_{key}", rating_of(rating), name)
    elif aspect is not None and is_rating(value):
        _put(entry, f"rating_{aspect}", rating_of(value), name)
    elif isinstance(value, (int, float)):
        entry[f"{_BARE}{name}"] = value
    elif is_rating(value) and not isinstance(value, str):
        _put(entry, f"rating_{name}", rating_of(value), name)
    else:
        return False
    return True


def _put(entry: dict[str, Any], key: str, value: Any, name: str) -> None:
    if entry.get(key, value) != value:
        raise UnreadError(
            f"two different values of {key}, one of them in {name!r}: name one in another way, or remove it"
        )
    entry[key] = value


def without_metadata(
    entries: list[tuple[int, dict[str, Any]]],
) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """
    The entries with their bare numbers as ratings, and the names of those that are none: where some ratings stand in a mapping, all
    that are meant do.
    """
    bare = list(dict.fromkeys(key for _, entry in entries for key in entry if key.startswith(_BARE)))
    mapped = any(entry.get(_MAPPED) for _, entry in entries)
    out = [key for key in bare if mapped or _METADATA.fullmatch(key.removeprefix(_BARE))]
    found = []
    for group, entry in entries:
        kept = {key: value for key, value in entry.items() if key not in (*out, _MAPPED)}
        found.append((group, {f"rating_{k.removeprefix(_BARE)}" if k in bare else k: v for k, v in kept.items()}))
    return found, [key.removeprefix(_BARE) for key in out]
