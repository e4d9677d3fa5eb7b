"""Debian's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The browser without its own windows starts faster; its pages are the same.
BROWSERS = "chromium-headless-shell", "chromium"
CHROMIUM = os.environ.get("CHROMIUM_PATH") or next(filter(shutil.which, BROWSERS), BROWSERS[-1])
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; skips where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    pytest.importorskip("bokeh", reason="Bokeh is not installed (the extra `report`)")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no Chromium at {CHROMIUM} (apt-get install chromium, or set CHROMIUM_PATH)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


class Page:
    """A page of the report, with what the browser complained about and asked of the network."""

    def __init__(self, page: Any, path: Path):
        self.page, self.problems, self.requests = page, [], []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda line: line.type in ("error", "warning") and self.problems.append(line.text))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)

    def table(self, selector: str) -> list[list[str]]:
        """The texts of the cells of a table's body."""
        script = (
            "(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
        )
        return self.page.eval_on_selector(selector, script)

    def settle(self) -> None:
        """Waits until the numbers follow the slider: they are drawn with the next frame, and said a little later."""
        self.page.wait_for_selector("#main:not([aria-busy])")

    def clean(self) -> None:
        """Asserts that nothing was complained about, and nothing asked of any network."""
        assert self.problems == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture
def open_page(chromium) -> Iterator[Callable[..., Page]]:
    """`open_page(path, width=390)` opens a page when all its plots are drawn."""
    contexts = []

    def open_it(path: Path, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        return Page(context.new_page(), path)

    yield open_it
    for context in contexts:
        context.close()
