"""Names of data as they are shown: on one line, without what steers a terminal or a page, and short. Data keep the whole name."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

# Longest name shown in tables and on pages.
MAX_NAME = 120
# Names of which a matrix, a value for every two, is shown.
MAX_MATRIX = 30
# Cf characters that writing needs: zero-width joiner and non-joiner. The others include the bidirectional overrides.
_WRITTEN = "\u200c\u200d"


def visible(text: str) -> str:
    """`text` without control characters, bidirectional overrides and lone surrogates; line breaks stay."""
    text = re.sub(r"\r\n?|[\u0085\u2028\u2029\x0b\x0c]", "\n", text).expandtabs(4)
    return "".join(
        c if c == "\n" or c in _WRITTEN or not unicodedata.category(c).startswith("C") else "\ufffd" for c in text
    )


def display_name(name: object, most: int = MAX_NAME) -> str:
    """The start of a name, as it is shown."""
    # What is cut is not looked at: a name may be very long.
    text = " ".join(visible(str(name)[: 4 * most]).split())
    if len(text) > most or len(str(name)) > 4 * most:
        text = f"{text[: most - 1]}…"
    return text or "(empty)"


def display_names(names: Iterable[str], most: int = MAX_NAME) -> dict[str, str]:
    """How each of several names is shown: those that look alike are numbered."""
    shown: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        text, number = display_name(name, most), 1
        start = text
        while text in taken:
            number += 1
            text = f"{start} ({number})"
        taken.add(text)
        shown[name] = text
    return shown


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """A hint at the names closest to one that is not known, to follow a sentence; empty where none is close."""
    close = difflib.get_close_matches(name, sorted(known), n=most, cutoff=cutoff)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
