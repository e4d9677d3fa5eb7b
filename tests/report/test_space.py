"""The page in the frame in which the Hub shows a static Space: of another site, and sandboxed."""

import json
from pathlib import Path

import pytest

from pd_trl.report import write_report
from pd_trl.selection.filter import PDFilter
from tests.report.data import METRICS, scored_set

# As in the Hub's own frames that huggingface/course (pull request 379) and Gradio's guides copy.
HUB = "allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-same-origin allow-scripts allow-downloads"
SPACE, PAGE = "https://huggingface.co/spaces/me/report", "https://me-report.static.hf.space/index.html"


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "index.html"
    return write_report(scored_set(300), path, pd_filter=PDFilter(0.3, proxy_metrics=METRICS)).read_text("utf-8")


class Space:
    """A Space's page; every address is served by the test, and what else is asked for is an error."""

    def __init__(self, chromium, html, sandbox):
        self.context = chromium.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(20_000)
        self.problems = []
        self.context.route("**", lambda route: (self.problems.append(route.request.url), route.abort()))
        outer = f'<!doctype html><title>me/report</title><iframe src="{PAGE}" sandbox="{sandbox}" width=1200 height=800></iframe>'
        for address, body in (
            (SPACE, outer),
            (PAGE, html),
            ("https://arxiv.org/**", "<!doctype html><title>arXiv</title>"),
        ):
            self.serve(address, body)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.problems.append(line.text))
        self.page.goto(SPACE)
        self.frame = self.page.frame_locator("iframe")
        self.frame.locator("html[data-ready]").wait_for(state="attached")

    def serve(self, address, body):
        headers = {"X-Frame-Options": "SAMEORIGIN"} if "arxiv" in address else {}
        self.context.route(
            address, lambda route: route.fulfill(body=body, content_type="text/html; charset=utf-8", headers=headers)
        )


@pytest.fixture
def space(chromium, html):
    opened = []

    def open_it(sandbox):
        opened.append(Space(chromium, html, sandbox))
        return opened[-1]

    yield open_it
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("sandbox", [HUB, HUB.replace("allow-same-origin ", "")], ids=["hub", "no-origin"])
def test_works_in_the_frame_of_a_space(space, sandbox):
    """Sliders, plots, downloads and the link out, which arXiv does not let a frame show."""
    shown = space(sandbox)
    frame = shown.frame
    frame.locator("#weight-1").fill("0")
    frame.locator("#count").fill("50")
    frame.locator("#main:not([aria-busy])").wait_for()
    assert frame.locator("[data-figure=kept]").inner_text() == "50"
    assert frame.locator("#histogram .bk-Figure").count() == 1
    for button, name in (("#save-filter", "filter.json"), ("#save-sql", "selection.sql")):
        with shown.page.expect_download() as download:
            frame.locator(button).click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).read_text("utf-8") == frame.locator("#saved pre").text_content()
    frame.locator("#count").fill("60")
    frame.locator("#main:not([aria-busy])").wait_for()
    assert frame.locator("#saved").is_hidden()
    with shown.context.expect_page() as opened:
        frame.locator("a[href*=arxiv]").click()
    assert opened.value.url.startswith("https://arxiv.org/") and opened.value.evaluate("window.opener") is None
    assert frame.locator("h1").count() == 1 and shown.problems == []


def test_a_frame_that_forbids_downloads_shows_the_text(space):
    shown = space("allow-scripts")
    shown.frame.locator("#save-filter").click()
    assert shown.frame.locator("#saved summary").inner_text() == "filter.json as text, if it was not saved"
    assert json.loads(shown.frame.locator("#saved pre").text_content())["arguments"]["budget"] == 0.3
    assert shown.problems == []
