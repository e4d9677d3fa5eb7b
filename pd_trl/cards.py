"""Model cards: TRL's card, corrected, with a section of ours between markers."""

import html
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import Environment, StrictUndefined

from ._version import __version__
from .resources import template_path

BEGIN, END = "<!-- pd_trl:begin -->", "<!-- pd_trl:end -->"
_PLACE = "### Framework versions"


def cell(value: object) -> str:
    """Text of others in a cell of a markdown table: one line, and neither HTML, table, link nor code."""
    text = html.escape(" ".join(str(value).split()))
    return re.sub(r"([|`\[\]*_\\])", r"\\\1", text)


def code(value: object) -> str:
    """Text of others inside backticks."""
    return " ".join(str(value).split()).replace("`", "'")


def render_section(template: str, record: Mapping[str, Any]) -> str:
    """A section of a card from a template of `model_cards/` and a plain record."""
    # Markdown, not HTML: the filters of the templates escape what comes from data.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=False)  # noqa: S701
    environment.filters.update(cell=cell, code=code)
    source = template_path(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(version=__version__, **record).strip()


def merge_section(text: str, section: str) -> str:
    """`text` with `section` between our markers: in place of the old one, or before the framework versions, or last."""
    block = f"{BEGIN}\n{section}\n{END}"
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        return before + block + rest.split(END, 1)[1]
    if _PLACE in text:
        before, rest = text.split(_PLACE, 1)
        return f"{before}{block}\n\n{_PLACE}{rest}"
    return f"{text.rstrip()}\n\n{block}\n"


def finish_model_card(folder: str | os.PathLike, name: str, section: str, *, peft: bool = False) -> None:
    """
    Corrects the card that TRL wrote into `folder` and adds our section.

    TRL writes the key `licence` with the value `license`, links an unknown base model to `huggingface.co/None`, and orders
    the tags at random.

    Args:
        folder (`str`): Folder with `README.md`.
        name (`str`): Name of the model, where TRL knows none.
        section (`str`): Text of [`render_section`].
        peft (`bool`, *optional*, defaults to `False`): Whether the folder holds an adapter: the library is then `peft`.
    """
    path = Path(folder) / "README.md"
    card = ModelCard.load(path, ignore_metadata_errors=True)
    if getattr(card.data, "licence", None) is not None:
        del card.data.licence
    if card.data.tags:
        card.data.tags = sorted(set(card.data.tags))
    if peft:
        card.data.library_name = "peft"
    text = card.text
    text = text.replace("a fine-tuned version of [None](https://huggingface.co/None)", "a fine-tuned model")
    text = text.replace("# Model Card for None", f"# Model Card for {cell(name)}")
    text = text.replace('model="None"', f'model="{code(name)}"')
    card.text = merge_section(text, section)
    card.save(path)
