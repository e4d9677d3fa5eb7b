"""Columns that belong to one of the two responses, or compare them: found by name, and swapped with the responses."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

SIDES = ("a", "b")
CHOSEN_REJECTED = ("chosen", "rejected")
# Columns of pairs that are positive if side a is better. They change their sign with the sides.
_SIGNED = re.compile(
    r"(?:.+[_ ])?(?:margin|delta|diff|difference|gap)(?:[_ ].+)?|preference_strength|overall_preference", re.IGNORECASE
)
# Comparisons of the two responses in other forms: by name, or inside lists and structs, which have no sign to change.
_COMPARING = re.compile(
    r"(?:.*_)?(?:winner|win|preferred|prefers?|preferences?|better|best|choices?|selected|verdict|judge?ments?|safer"
    r"|preferred_response|better_response|all_preferences_unprocessed)"
    r"(?:_(?:response|answer|output|completion|model|side|option|id|idx|index|name|label|number|no|nr))*"
)
# Names that labels of any kind have: only values that can mean a side make them a comparison.
_LABELS = re.compile(
    r"(?:.*_)?(?:labels?|targets?|class|outcome|result|vote|annotation|y)(?:_(?:id|idx|index|name|\d+))?"
)
_CODES = ({0, 1}, {-1, 1}, {1, 2}, {-1, 0, 1}, {0, 0.5, 1}, {0, 1, 2}, {1, 2, 3})
_SIDE_WORDS = re.compile(
    r"(?:the_)?(?:response|answer|output|completion|model|assistant|side|option|candidate)_?(?:a|b|[0-2])"
    r"|a|b|chosen|rejected|left|right|first|second"
)
_NEITHER = re.compile(r"tie[ds]?(?:_.*)?|draw|both(?:_?(?:bad|good))?|neither|none|equal|same|unknown|unsure|")


def _word(token: str) -> re.Pattern[str]:
    """
    Pattern of the token as a word of a name (`score_1`, `1.score`). A digit may also end another word (`score1`), and
    a word may have any case (`Chosen Score`, `CHOSEN_SCORE`, `chosenScore`, `scoreChosen`).
    """
    before, after = r"(?<![^_\-. ])", r"(?![^_\-. ])"
    if token.isdigit():
        return re.compile(rf"{before}{token}{after}|(?<=[A-Za-z]){token}$")
    if len(token) == 1 or not token.isalpha():
        return re.compile(f"{before}{re.escape(token)}{after}")
    lower, capital = token.lower(), token.capitalize()
    return re.compile(
        rf"{before}(?:{token}|{lower}|{capital}|{token.upper()}){after}|{before}(?:{lower}|{capital})(?=[A-Z])"
        rf"|(?<=[a-z0-9]){capital}(?![a-z])"
    )


def _renamed(name: str, token: str, other: str, parted: bool = False) -> str | None:
    """
    The name with its token replaced by another one in the same case; `None` if it does not have the token exactly
    once. With `parted`, the other token keeps its case and becomes a separate word.
    """
    found = list(_word(token).finditer(name))
    if len(found) != 1:
        return None
    before, word, after = name[: found[0].start()], found[0][0], name[found[0].end() :]
    if parted and not other.isdigit():
        return f"{before}{'_' * before[-1:].isalnum()}{other}{'_' * after[:1].isalnum()}{after}"
    if word != token:
        other = other.upper() if word.isupper() else other.capitalize() if word.istitle() else other.lower()
    return f"{before}{other}{after}"


def _next(tokens: Sequence[str]) -> list[str]:
    """Names of a third and a zeroth response: if one of them exists, the columns are a list, not two sides."""
    first, second = tokens
    if first.isdigit() and second.isdigit():
        return [str(int(second) + 1), str(int(first) - 1)]
    return [chr(ord(second) + 1)] if len(first) == len(second) == 1 and ord(second) - ord(first) == 1 else []


def side_tokens(first: str, second: str) -> tuple[str, str] | None:
    """
    Returns the words by which the names of two columns of responses differ: `1` and `2` of `answer_1` and `answer_2`.
    """
    words = [re.split(r"[_\-. ]", re.sub(r"(?<=[A-Za-z])(?=\d+$)", "_", name)) for name in (first, second)]
    if len(words[0]) != len(words[1]):
        return None
    differing = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    return differing[0] if len(differing) == 1 and all(differing[0]) else None


def sided_columns(
    names: Iterable[str], tokens: Sequence[str], new_tokens: Sequence[str]
) -> dict[tuple[str, str], tuple[str, str]]:
    """
    Returns the columns that come once for each response.

    Args:
        names (`Iterable[str]`):
            Names of columns.
        tokens (`Sequence[str]`):
            Words of the first and of the second response, such as `("chosen", "rejected")`.
        new_tokens (`Sequence[str]`):
            Words that replace them.

    Returns:
        `dict`: New name of each column of the first and the second response.
    """
    known = list(names)
    found = {}
    for name in known:
        other = _renamed(name, tokens[0], tokens[1])
        if other is None or other not in known or any(_renamed(name, tokens[0], t) in known for t in _next(tokens)):
            continue
        new = _renamed(name, tokens[0], new_tokens[0], True), _renamed(other, tokens[1], new_tokens[1], True)
        if new[0] is not None and new[1] is not None:
            found[name, other] = (new[0], new[1])
    return found


def to_sides(names: Iterable[str], tokens: Sequence[Sequence[str] | None], taken: Iterable[str]) -> dict[str, str]:
    """
    Returns the names of a source's columns in pairs, with `a` and `b` in place of its words for the responses.

    Args:
        names (`Iterable[str]`):
            Columns of the source that pass through.
        tokens (`Sequence`):
            Words for the first and the second response; `None` is skipped.
        taken (`Iterable[str]`):
            Names that other columns have already.
    """
    known, used = list(names), set(taken)
    renamed: dict[str, str] = {}
    for words in filter(None, tokens):
        for old, new in sided_columns(known, words, SIDES).items():
            if not {*old} & {*renamed} and not {*new} & (used | {*known} - {*old}):
                renamed |= dict(zip(old, new, strict=True))
                used |= {*new}
    return renamed


def names_a_choice(name: str) -> bool:
    """Whether the name says `chosen` or `rejected`, as a word."""
    return any(_renamed(name, token, token) is not None for token in CHOSEN_REJECTED)


def is_signed(name: str) -> bool:
    """Whether the sign of a column of this name says which side is better, so that it follows the sides."""
    return bool(_SIGNED.fullmatch(name))


def compares_sides(name: str, values: Collection[object]) -> bool:
    """
    Whether a column of this name with these (distinct) values tells of both sides in a way that cannot be swapped: it is called
    after a choice, it has the name of a label and codes that can mean a side, or its texts name sides.
    """
    snake = _snake(name)
    if _COMPARING.fullmatch(snake):
        return True
    known = {value for value in values if value is not None}
    texts = {_snake(value) for value in known if isinstance(value, str)}
    if known and len(texts) == len(known):
        sides = {text for text in texts if _SIDE_WORDS.fullmatch(text)}
        if sides and all(_NEITHER.fullmatch(text) for text in texts - sides):
            return True
    numbers = {number for value in known if (number := _code(value)) is not None}
    return bool(_LABELS.fullmatch(snake)) and bool(numbers) and any(numbers <= codes for codes in _CODES)


def _code(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (bool, int, float, str)) else None
    except ValueError:
        return None


def _snake(name: str) -> str:
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def rename(columns: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """Returns the columns under their new names, in the same order."""
    return {names.get(name, name): column for name, column in columns.items()}
