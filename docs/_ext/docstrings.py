"""Docstrings in TRL's style as reStructuredText: fenced code, `code`, and references such as [`PDFilter`]."""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

import pd_trl

_REFERENCE = re.compile(r"\[`(~?)([\w.]+)(\(\))?`\]")
_LINK = re.compile(r"\[([^\]`]+)\]\((https?://[^)\s]+)\)")
_CODE = re.compile(r"(?<![`:\w])(`+)([^`]+)\1(?!`)")
_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_FORMULA = re.compile(r"\$\$ [^$]+ \$\$")
_MATH = re.compile(r"^(\s*)\$\$ (.*) \$\$$")
_INDENT = re.compile(r"\s*")
_SECTIONS = ("Args:", "Attributes:", "Parameters:")
# Arguments of a class that a reader finds in the page of TRL, and not here.
LONGEST_SIGNATURE = 20


def _reference(match: re.Match) -> str:
    short, name = match[1], match[2]
    if name in pd_trl.__all__:
        return f":py:obj:`{name} <pd_trl.{name}>`"
    return f"``{name.rpartition('.')[2] if short else name}``"


def _inline(line: str) -> str:
    # References are set aside, so that the marks that they need are not taken for code.
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return f"\0{len(kept) - 1}\0"

    line = _REFERENCE.sub(lambda match: keep(_reference(match)), line)
    line = _CODE.sub(lambda match: keep(f"``{match[2].strip()}``"), line)
    line = _LINK.sub(lambda match: keep(f"`{match[1]} <{match[2]}>`__"), line)
    for mark in ("|", "*_", "**"):
        line = line.replace(mark, "".join(f"\\{sign}" for sign in mark))
    line = re.sub(r"(\w)_(?=[\s,.;:)]|$)", r"\1\\_", line)
    # A letter that stands at a mark needs an (invisible) end of the markup before it.
    text = re.sub(r"\0(\d+)\0(?=\w)", "\0\\1\0\\\\ ", line)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], text)


def as_restructured_text(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    made: list[str] = []
    fence: str | None = None
    in_list = False
    in_section: str | None = None
    for line in lines:
        if match := _FENCE.match(line):
            if fence is None:
                fence = match[1]
                made += ["", f"{fence}.. code-block:: {match[2] or 'text'}", ""]
            else:
                fence = None
                made.append("")
            continue
        if fence is None and (match := _MATH.match(line)):
            made += ["", f"{match[1]}.. math:: {match[2]}", ""]
            continue
        if fence is not None:
            made.append(f"    {line}")
            continue
        if line.lstrip().startswith("> "):  # a heading among parameters, in TRL's style
            continue
        if (
            made
            and made[-1].rstrip().endswith(",")
            and _INDENT.match(line)[0] == _INDENT.match(made[-1])[0] == in_section
        ):
            made[-1] = f"{made[-1].rstrip()} {_inline(line.strip())}"
            continue
        if line.strip() in _SECTIONS:
            in_section = f"{_INDENT.match(line)[0]}    "
        item = bool(re.match(r"\s*- ", line))
        if item and not in_list and made and made[-1].strip():
            made.append("")
        in_list = item or (in_list and line.startswith("  ") and bool(line.strip()))
        made.append(_inline(line))
    return made


def _convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # Links and formulas may be broken over two lines, which no line can tell by itself.
    text = "\n".join(lines)
    for whole in (_LINK, _FORMULA):
        text = whole.sub(lambda match: " ".join(match[0].split()), text)
    lines[:] = as_restructured_text(text.split("\n"))


def _shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, annotation: str | None
) -> tuple[str, None] | None:
    """Only the arguments that a class adds, where it has all of TRL's too."""
    if what != "class":
        return None
    parameters = inspect.signature(obj).parameters
    if len(parameters) <= LONGEST_SIGNATURE:
        return None
    own = [parameter for key, parameter in parameters.items() if key in obj.__dict__.get("__annotations__", {})]
    shown = [f"{parameter.name}={parameter.default!r}" for parameter in own if not callable(parameter.default)]
    return f"({', '.join(shown)}, …)", None


def setup(app: Sphinx) -> dict[str, bool]:
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", _convert, priority=400)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
