"""Ratings that are written as texts: `8/10`, `7 out of 10`, `80 %`, `5 - excellent`, and words of a known scale."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

# From the lowest to the highest. The first that has most of a column's words is its scale.
WORD_SCALES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("terrible", "awful"), ("very poor", "very bad"), ("poor", "bad"), ("fair", "average", "okay", "ok", "acceptable", "mediocre"),
     ("good",), ("very good", "great"), ("excellent", "outstanding", "perfect")),
    (("strongly disagree", "completely disagree"), ("disagree",), ("somewhat disagree", "slightly disagree"),
     ("neutral", "neither agree nor disagree", "undecided"), ("somewhat agree", "slightly agree"), ("agree",),
     ("strongly agree", "completely agree")),
    (("very dissatisfied",), ("dissatisfied",), ("neutral",), ("satisfied",), ("very satisfied",)),
    (("very low",), ("low",), ("medium", "moderate"), ("high",), ("very high",)),
    (("never",), ("rarely",), ("sometimes",), ("often",), ("always",)),
    (("not at all",), ("slightly", "a little"), ("somewhat", "moderately"), ("very", "mostly"), ("extremely", "completely")),
    (("not helpful", "unhelpful"), ("slightly helpful",), ("somewhat helpful",), ("helpful",), ("very helpful",),
     ("extremely helpful",)),
    (("none",), ("minor",), ("moderate",), ("major",), ("severe",)),
    (("negative",), ("neutral",), ("positive",)),
    (("incorrect", "wrong"), ("partially correct", "partly correct"), ("correct", "right")),
    (("unsafe",), ("safe",)),
    (("no", "false"), ("partially", "partly", "maybe"), ("yes", "true")),
)  # fmt: skip
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_PLAIN = re.compile(_NUMBER)
_FRACTION = re.compile(rf"({_NUMBER})\s*(?:/|out\s+of|of)\s*(\d+\.?\d*)(?:\s*(?:points?|stars?))?", re.IGNORECASE)
_PERCENT = re.compile(rf"({_NUMBER})\s*%")
_NAMED = re.compile(
    rf"({_NUMBER})\s*(?:[-–—:.]\s*[^\W\d][^\d]*|\([^\d]+\)|points?|stars?)|[^\W\d][^\d]*\(\s*({_NUMBER})\s*\)",
    re.IGNORECASE,
)


def read_scale(texts: Mapping[str, int] | Iterable[str]) -> dict[str, float]:
    """
    Returns the ratings that texts stand for; one that cannot be read is left out.

    Fractions are read by their numerators where all have one denominator, and otherwise on the scale of the highest. A plain number
    is on the scale of fractions where there is one, and at least as many of them: `8` beside `7/10`. Words are read by their place in the scale that has most of them, from 1.

    Args:
        texts (`Mapping[str, int]` or `Iterable[str]`):
            All texts that are ratings on one scale (with their counts): of both responses, in all rows.
    """
    counts = Counter(texts)
    distinct = {text: text.strip() for text in counts}
    fractions = {text: read for text, plain in distinct.items() if (read := _fraction(plain)) is not None}
    if fractions:
        return _on_one_scale(distinct, fractions, counts)
    numbers = {text: float(plain) for text, plain in distinct.items() if _PLAIN.fullmatch(plain)}
    named = {
        text: float(found[1] or found[2]) for text, plain in distinct.items() if (found := _NAMED.fullmatch(plain))
    }
    return numbers | named if numbers or named else _by_words(distinct)


def _fraction(text: str) -> tuple[float, float] | None:
    if found := _PERCENT.fullmatch(text):
        value, whole = float(found[1]), 100.0
    elif found := _FRACTION.fullmatch(text):
        value, whole = float(found[1]), float(found[2])
    else:
        return None
    return (value, whole) if 0 <= value <= whole > 0 else None


def _on_one_scale(
    distinct: dict[str, str], fractions: dict[str, tuple[float, float]], counts: Mapping[str, int]
) -> dict[str, float]:
    wholes = {whole for _, whole in fractions.values()}
    highest = max(wholes)
    found = {t: value if whole == highest else value * highest / whole for t, (value, whole) in fractions.items()}
    plain = {text: float(stripped) for text, stripped in distinct.items() if _PLAIN.fullmatch(stripped)}
    if sum(counts[text] for text in plain) > sum(counts[text] for text in fractions):
        return plain
    if len(wholes) == 1:
        found |= {text: value for text, value in plain.items() if 0 <= value <= highest}
    return found


def _by_words(distinct: dict[str, str]) -> dict[str, float]:
    words = {text: " ".join(re.sub(r"[\W_]+", " ", plain.lower()).split()) for text, plain in distinct.items()}
    best: dict[str, float] = {}
    for scale in WORD_SCALES:
        places = {word: float(place) for place, same in enumerate(scale, start=1) for word in same}
        found = {text: places[word] for text, word in words.items() if word in places}
        best = found if len(found) > len(best) else best
    # A few words among others are no scale.
    return best if 2 * len(best) > len(distinct) else {}
