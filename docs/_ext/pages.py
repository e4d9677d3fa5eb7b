"""Pages that are also read in the repository: links that lead out of docs/, and pages that stand in no table of contents."""

import re

from docutils import nodes
from sphinx.application import Sphinx

PAGES = {"CONTRIBUTING": "contributing.md", "CHANGELOG": "changelog.md", "README": "index.md"}
_LINK = re.compile(rf"\]\(\.\./({'|'.join(PAGES)})\.md(#[^)]*)?\)")


def _rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = _LINK.sub(lambda match: f"]({PAGES[match[1]]}{match[2] or ''})", source[0])


def _mark_cards(app: Sphinx, doctree: nodes.document) -> None:
    docname = app.env.docname
    if docname.startswith("sample-cards/") and not docname.endswith("README"):
        app.env.metadata[docname]["orphan"] = True


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _rewrite)
    app.connect("doctree-read", _mark_cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
