"""The parts of TRL's model card that ours keeps."""

import re
from dataclasses import dataclass, field
from typing import Any

from ..hub.readme import BEGIN, END, split_readme

_HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)


@dataclass
class TRLCard:
    """
    The parts of a card that TRL wrote.

    Args:
        metadata (`dict`): Its YAML, corrected.
        procedure (`str`): How it was trained, with the badges of experiment trackers; without a heading.
        citations (`str`): The citations; without a heading.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    procedure: str = ""
    citations: str = ""


def read_trl_card(text: str) -> TRLCard:
    """
    Splits a card of TRL into its parts.

    Three faults of TRL's card are corrected: the key `licence` with the value `license`, links of an unknown base
    model to `huggingface.co/None`, and the random order of tags.

    Args:
        text (`str`): A README.md that a trainer of TRL wrote.
    """
    metadata, body = split_readme(text)
    metadata.pop("licence", None)
    if isinstance(metadata.get("tags"), list):
        metadata["tags"] = sorted({tag for tag in metadata["tags"] if isinstance(tag, str)})
    body = body.replace(BEGIN, "").replace(END, "")
    sections = _sections(body)
    return TRLCard(metadata, _cleaned(sections.get("Training procedure", "")), _cleaned(sections.get("Citations", "")))


def _sections(body: str) -> dict[str, str]:
    """The text under each heading, up to the next heading of any level. Lines of code are not headings."""
    blanked = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), body, flags=re.DOTALL | re.MULTILINE)
    headings = list(_HEADING.finditer(blanked))
    ends = [*(h.start() for h in headings[1:]), len(body)][: len(headings)]
    return {h[2]: body[h.end() : end] for h, end in zip(headings, ends, strict=True)}


def _cleaned(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
