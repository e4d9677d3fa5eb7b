"""
Builds the documentation as a site, with warnings as errors, and follows every internal link and anchor of the built pages.

    python scripts/build_docs.py                     # writes docs/_build/html; needs `pip install -e '.[docs]'`

It asks no server for anything: links to other hosts are not followed.
"""

import argparse
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """Addresses and ids of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.addresses.append(value)
            elif value and name in ("id", "name"):
                self.ids.add(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "_build" / "html", help="Folder of the site.")
    output = parser.parse_args().output
    # From nothing each time: pages that did not change would keep an old table of contents.
    options = ["-q", "-W", "--keep-going", "-E", "-a", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(output)]
    built = subprocess.run(command, cwd=ROOT)
    if built.returncode:
        return built.returncode
    broken = broken_links(output)
    for line in broken:
        print(line, file=sys.stderr)
    if not broken:
        print(f"{len(list(output.rglob('*.html')))} pages, no broken link: {output / 'index.html'}")
    return 1 if broken else 0


def broken_links(site: Path) -> list[str]:
    """Internal links of the site that lead nowhere, as `page: link`."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = not target.is_file()
            anchor = unquote(parts.fragment)
            if missing or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(site.resolve())}: {address}")
    return sorted(set(broken))


if __name__ == "__main__":
    sys.exit(main())
