"""The Python of README and docs runs, page by page and from top to bottom, and prints what the pages show."""

import ast
import contextlib
import io
from pathlib import Path

import pytest

from pd_trl.method.ranking import SELECTORS
from tests.docs.pages import PAGES, ROOT, blocks
from tests.docs.parts import PARTS, no_parts, with_tiny_models

# Pages whose code trains.
SLOW = ("rewards.md", "rivals.md", "train.md")


def python_of(page: Path):
    return [block for block in blocks(page) if block.language == "python"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_CODE = [
    pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if page.name in SLOW else [])
    for page in PAGES
    if any(block.not_run is None for block in python_of(page))
]
NOT_RUN = [(page, block) for page in PAGES for block in python_of(page) if block.not_run]


def run_page(page: Path, folder: Path, models: dict[str, str]) -> list[tuple[int, str, str]]:
    """Runs the blocks of a page in one namespace; returns line, shown and printed output where they differ."""
    names: dict = {}
    wrong = []
    with PARTS.get(page.name, no_parts)(folder, models) as substitutes:
        for block in python_of(page):
            if block.not_run:
                continue
            code = with_tiny_models(block.code, models)
            for old, new in substitutes.items():
                code = code.replace(old, new)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                # The empty lines make tracebacks name the line of the page.
                exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), names)
            if block.output is not None and printed.getvalue() != block.output:
                wrong.append((block.line, block.output, printed.getvalue()))
    return wrong


@pytest.mark.parametrize("page", WITH_CODE)
def test_page_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch, tiny_models):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    before = dict(SELECTORS)
    try:
        assert run_page(page, tmp_path, tiny_models) == []
    finally:
        SELECTORS.clear()
        SELECTORS.update(before)


@pytest.mark.parametrize(("page", "block"), NOT_RUN, ids=[f"{name_of(page)}:{block.line}" for page, block in NOT_RUN])
def test_what_is_not_run_compiles_and_its_names_exist(page, block):
    tree = ast.parse(block.code, name_of(page))
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    # Names of other packages are theirs; to import them takes seconds.
    ours = [node for node in imports if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pd_trl")]
    exec(compile(ast.Module(ours, type_ignores=[]), name_of(page), "exec"), {})


def test_output_that_differs_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n<!-- output -->\n```text\n3\n```\n")
    assert run_page(page, tmp_path, {"causal": "", "reward": ""}) == [(2, "3\n", "2\n")]
