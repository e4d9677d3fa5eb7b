"""What the pages hold: blocks of code, their output, links and headings."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Cards are written by `pd-trl publish`; tests/publishing runs their code.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"^(?:<!-- (?P<comment>not run: [^\n]+|output) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass
class Block:
    """A fenced block: its language, code, line in the page, why it is not run, and the output that the page shows."""

    language: str
    code: str
    line: int
    not_run: str | None = None
    output: str | None = None


@cache
def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        comment = match["comment"]
        if comment == "output":
            found[-1].output = match["code"]
            continue
        line = text[: match.start("code")].count("\n") + 1
        found.append(Block(match["language"], match["code"], line, comment and comment.removeprefix("not run: ")))
    return found


def prose(page: Path) -> str:
    """The page without code, tables, comments and addresses."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*$|^!\[.*$|<!--.*?-->", "", text, flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]", text)


def links(page: Path) -> list[str]:
    return _LINK.findall(
        re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    )


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors of the headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in _HEADING.findall(text):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        count = 0
        while (name := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(name)
    return frozenset(found)
