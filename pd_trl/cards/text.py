"""Escapes untrusted text, and renders the templates that show it."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .._version import __version__
from ..hub.names import is_repo_id, page_path
from ..runs.resources import template_path
from ..text.names import visible

# Longer texts are cut in a card: the data set has the complete text.
MAX_CHARACTERS = 1200
MAX_CELL = 200
MAX_PREFORMATTED = 20_000
_SHA = re.compile(r"[0-9a-f]{40}")


class Safe(str):
    """Text that a template outputs unchanged. Everything else is escaped by [`cell`]."""


def shortened(text: str, most: int) -> str:
    """The start of `text`, and the number of characters that are left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} … ({len(text) - most:,} more characters)"


def plain(value: object, most: int = MAX_CELL) -> str:
    """Untrusted text on one line, for YAML or for further escaping."""
    return " ".join(visible(shortened(str(value), most)).split())


def cell(value: object, most: int = MAX_CELL) -> Safe:
    """Untrusted text for a paragraph or a cell of a markdown table: one line without HTML, table, link or code."""
    text = html.escape(plain(value, most), quote=False) or "(empty)"
    text = re.sub(r"([|`\[\]*_~\\$])", r"\\\1", text)
    # A bare address becomes a link without brackets, and a first character alone makes a heading or a list.
    text = re.sub(r"(?i)(https?|ftp|mailto|www)([:.])", lambda m: f"{m[1]}&#{ord(m[2])};", text).replace("@", "&#64;")
    return Safe(re.sub(r"^([#+\-=]|\d+(?=[.)]))", lambda m: f"\\{m[0]}" if not m[0].isdigit() else f"{m[0]}\\", text))


def code(value: object) -> Safe:
    """Untrusted text inside backticks, also in a table."""
    text = plain(value).replace("`", "'").replace("|", "¦")
    return Safe(f"`{text.replace('<!--', '<! --') or ' '}`")


def passage(value: object) -> Safe:
    """Longer untrusted text inside an HTML element: only its line breaks are kept as markup."""
    lines = visible(shortened(str(value), MAX_CHARACTERS)).strip().split("\n")
    return Safe("<br>".join(html.escape(line.strip(), quote=False) for line in lines) or "&nbsp;")


def preformatted(value: object, most: int = MAX_PREFORMATTED) -> Safe:
    """Untrusted text with its line breaks, as an element of HTML that markdown does not look into."""
    lines = visible(shortened(str(value), most)).strip().split("\n")
    # A blank line would end the element in some readers of markdown.
    return Safe(f"<pre>{'&#10;'.join(html.escape(line) for line in lines)}</pre>")


def literal(value: object) -> Safe:
    """A string or a number as a Python literal inside a fenced code block."""
    text = json.dumps(shortened(value, MAX_CELL) if isinstance(value, str) else value, ensure_ascii=True)
    return Safe(text.replace("`", "\\u0060").replace("<", "\\u003c"))


def count(value: int | None) -> Safe:
    """A count with thousands separators."""
    return Safe("–" if value is None else f"{value:,}")


def number(value: float | None, digits: int = 3) -> Safe:
    """A number, or a dash for a missing one."""
    return Safe("–" if value is None else f"{value:.{digits}f}".replace("-", "−"))


def percent(value: float | None, digits: int = 1) -> Safe:
    """A share as a percentage, or a dash for a missing one."""
    return Safe("–" if value is None else f"{100 * value:.{digits}f} %")


def accuracy(metrics: Mapping[str, float], bold: bool = False) -> Safe:
    """Accuracy on held-out pairs with its standard error, or a dash for a missing one."""
    value, error = metrics.get("pair_accuracy"), metrics.get("pair_accuracy_se")
    if value is None or error is None:
        return percent(value)
    mark = "**" if bold else ""
    return Safe(f"{mark}{100 * value:.1f} ± {100 * error:.1f} %{mark}")


def repo_link(name: str, kind: str = "model", revision: str | None = None) -> Safe:
    """A link to a repository of the Hub, at `revision` if that is a commit. A name that is not a Hub id becomes code."""
    if not is_repo_id(name, namespaced=kind != "model"):
        return code(name)
    url = f"https://huggingface.co/{page_path(name, kind)}"
    if revision and _SHA.fullmatch(revision):
        return Safe(f"[`{name}`]({url}/tree/{revision}) at `{revision[:10]}`")
    return Safe(f"[`{name}`]({url})" + (f" at {code(revision)}" if revision else ""))


def path(value: str) -> Safe:
    """A path of the repository as the target of a link."""
    return Safe(quote(value))


def url(value: str) -> Safe:
    """A web address as the target of a link; anything else becomes harmless."""
    return Safe(quote(value, safe=":/?&=#%~+,@!;")) if re.match(r"https?://", value) else Safe("#")


def table(rows: Sequence[Sequence[object]], left: int = 1) -> Safe:
    """A markdown table, whose first row is the header and whose first `left` columns are left-aligned. Strings are escaped."""
    cells = [["" if value == "" else _finalize(value) for value in row] for row in rows]
    if not cells:
        return Safe("")
    rule = ["---" if column < left else "--:" for column in range(len(cells[0]))]
    lines: list[Sequence[object]] = [cells[0], rule, *cells[1:]]
    return Safe("\n".join(f"| {' | '.join(str(value) for value in line)} |" for line in lines))


def _finalize(value: object) -> object:
    return value if isinstance(value, (Safe, int, float)) else cell(value)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # `finalize` escapes everything but `Safe` strings, for markdown and for HTML. `RepoCard.from_template` escapes nothing
    # (test_a_hostile_text_changes_nothing_but_words).
    environment = Environment(  # noqa: S701
        undefined=StrictUndefined,
        loader=FileSystemLoader(str(template_path("dataset_card").parent)),
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cell=cell, code=code, passage=passage, literal=literal, count=count, number=number, percent=percent, table=table,
        repo_link=repo_link, path=path, url=url, preformatted=preformatted,
    )  # fmt: skip
    return environment


def render(template: str, record: Mapping[str, Any]) -> str:
    """Renders a template of `model_cards/` with a plain record. Strings of the record are escaped unless [`Safe`]."""
    text = _environment().get_template(template_path(template).name).render(version=Safe(__version__), **record)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip()
