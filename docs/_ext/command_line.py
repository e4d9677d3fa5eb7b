"""The page of commands, made from their parsers: our arguments first, then those of TRL and transformers."""

import argparse
import html
import re
import tempfile
from collections.abc import Iterable
from typing import Any

from sphinx.application import Sphinx

from pd_trl.cli import run
from pd_trl.cli.help import negates, own_fields
from pd_trl.cli.main import COMMANDS
from pd_trl.cli.stage_commands import stage_parser
from pd_trl.pipeline.registry import GROUPS, STAGES

MARK = "<!-- commands -->"


# Code, links, and flags, which are code too.
_AS_IT_IS = re.compile(r"(`[^`]+`|\[[^\]]+\]\(https?://[^)\s]+\)|(?<![\w-])--\w[\w-]*)")


def _cell(text: object) -> str:
    """A text as it can stand in a cell of a table."""
    shown = []
    for i, part in enumerate(_AS_IT_IS.split(" ".join(str(text).split()).replace("|", "\\|"))):
        if i % 2:
            shown.append(f"`{part}`" if part.startswith("--") else part)
        else:
            shown.append(re.sub(r"([*_$\[\]{}])", r"\\\1", html.escape(part, quote=False)))
    return "".join(shown)


def _default(action: argparse.Action) -> str:
    value: Any = action.default
    if action.required:
        return "required"
    if value is None or value is argparse.SUPPRESS:
        return ""
    if isinstance(value, str) and tempfile.gettempdir() in value:
        return ""
    return f"`{value}`" if str(value) else '`""`'


def _table(actions: Iterable[argparse.Action]) -> list[str]:
    lines = ["| argument | default | what it does |", "| --- | --- | --- |"]
    for action in actions:
        name = f"--{action.dest}"
        text = (action.help or "").replace("%%", "%")
        choices = (
            f" One of {', '.join(map(str, action.choices))}." if action.choices and len(action.choices) < 9 else ""
        )
        lines.append(f"| `{name}` | {_default(action)} | {_cell(text + choices)} |")
    return lines


def _stage(name: str) -> list[str]:
    stage = STAGES[name].load()
    parser = stage_parser(name, stage)
    own = {field for arguments in stage.arguments for field in own_fields(arguments)}
    actions = {a.dest: a for a in parser.parser._actions if a.dest in parser.actions and not negates(a)}
    ours = [action for key, action in actions.items() if key in own]
    theirs = [action for key, action in actions.items() if key not in own]
    lines = [_cell(parser.parser.description or ""), "", *_table(ours)]
    if theirs:
        lines += [
            "",
            f"<details><summary>{len(theirs)} arguments of TRL and transformers</summary>",
            "",
            *_table(theirs),
            "",
            "</details>",
        ]
    return lines


def _parser(parser: argparse.ArgumentParser) -> list[str]:
    actions = [action for action in parser._actions if action.dest != "help"]
    return [_cell(parser.description or ""), "", *_table(actions), "", _cell(parser.epilog or "")]


def commands_page() -> str:
    """Every command with its arguments, as Markdown."""
    lines: list[str] = []
    for command, (_, purpose) in COMMANDS.items():
        lines += ["", f"### pd-trl {command}", "", f"{purpose[0].upper()}{purpose[1:]}.", ""]
        if command == "run":
            lines += _parser(run.make_parser())
        elif command in GROUPS:
            for name, stage in STAGES.items():
                if name.startswith(f"{command} "):
                    lines += [
                        "",
                        f"#### pd-trl {name}",
                        "",
                        f"{stage.purpose[0].upper()}{stage.purpose[1:]}.",
                        "",
                        *_stage(name),
                    ]
        elif command in STAGES:
            lines += _stage(command)
    return "\n".join(lines)


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, commands_page())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
