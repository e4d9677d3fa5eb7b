"""One HTML file from facts, style sheet, scripts and compressed data, under a strict content security policy."""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .._version import __version__
from ..errors import InputError
from ..text.tables import percent

_FILES = Path(__file__).parent / "files"
# Each builds on those before it. Together they are one script of the page.
_SCRIPTS = (
    "numbers.js",
    "sums.js",
    "ranking.js",
    "plots.js",
    "examples.js",
    "exports.js",
    "why.js",
    "weights.js",
    "page.js",
)

# Bytes from which on a block is compressed fast.
_MUCH = 1 << 20


def render_page(facts: Mapping[str, Any], blocks: Mapping[str, bytes]) -> str:
    """
    The page as text.

    Data never becomes code. The template escapes what it shows, the blocks hold no special character of HTML, and the
    policy allows only our script and the plotting library, by their hashes.

    Args:
        facts (`dict`): Values of the template.
        blocks (`dict` of `str` to `bytes`): Data for the scripts, by name.
    """
    library = plotting_library()
    script = "".join((_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}\n}})();'
    environment = Environment(
        loader=FileSystemLoader(_FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    environment.filters.update(percent=percent, breakable=_breakable)
    return environment.get_template("page.html.jinja").render(
        **facts,
        version=__version__,
        policy=_policy(script, library),
        style=(_FILES / "page.css").read_text(encoding="utf-8"),
        script=script,
        blocks={"library": _compressed(library.encode()), **{name: _compressed(b) for name, b in blocks.items()}},
    )


@lru_cache(maxsize=1)
def plotting_library() -> str:
    """BokehJS from the Python package; raises `InputError` if the package is missing."""
    try:
        from bokeh.resources import Resources
    except ImportError:
        raise InputError(
            "The report needs Bokeh, which is not installed: `pip install 'pd_trl[report]'` (or `pip install bokeh`)."
        ) from None
    core, interface = Resources(mode="inline", components=["bokeh", "bokeh-api"], minified=True).js_raw[:2]
    # A browser with open developer tools would look for the source maps, which are not in the page.
    lines = f"{core}\n{interface}".split("\n")
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))


def _breakable(name: str) -> Markup:
    """A name that may break after an underscore."""
    return Markup("_<wbr>").join(str(name).split("_"))


def _policy(*scripts: str) -> str:
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    # Bokeh writes its own style elements. Under this policy no style can load anything.
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _compressed(content: bytes) -> str:
    # The numbers of many pairs hardly get smaller at the highest level, which takes five times as long.
    level = 9 if len(content) < _MUCH else 3
    return base64.b64encode(gzip.compress(content, compresslevel=level, mtime=0)).decode("ascii")
