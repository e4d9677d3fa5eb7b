"""Commands that the pages show exist, with all their flags."""

import re
import shlex

import pytest

from pd_trl.cli.main import COMMANDS
from pd_trl.cli.run import make_parser
from pd_trl.cli.stage_commands import stage_parser
from pd_trl.pipeline.recipe import SECTIONS
from pd_trl.pipeline.registry import GROUPS
from tests.docs.pages import PAGES, ROOT, blocks


def commands(page):
    """The `pd-trl` lines of a page's shell blocks, continued lines joined and comments left out."""
    for block in blocks(page):
        if block.language in ("bash", "console", "text", ""):
            for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
                words = line.removeprefix("$ ").strip()
                if words.startswith("pd-trl ") and ": error: " not in words:
                    yield shlex.split(words, comments=True)[1:]


SHOWN = [(page, words) for page in PAGES for words in commands(page)]


def known_flags(command):
    if command == "run":
        return [flag for action in make_parser()._actions for flag in action.option_strings]
    return [flag for action in stage_parser(command).parser._actions for flag in action.option_strings]


def flags_of(words):
    return [word.partition("=")[0] for word in words if re.match(r"--\w", word)]


# Of `accelerate launch`, which `reward`, `score` and `dpo` pass on.
LAUNCH_FLAGS = (
    "--num_processes",
    "--accelerate_config",
    "--num_machines",
    "--machine_rank",
    "--main_process_ip",
    "--main_process_port",
)


@pytest.mark.parametrize(
    "command", sorted({" ".join(words[:2]) if words[0] in GROUPS else words[0] for _, words in SHOWN})
)
def test_commands_and_flags_of_the_pages_exist(command):
    assert command.split()[0] in COMMANDS
    shown = [(page, words) for page, words in SHOWN if " ".join(words).startswith(f"{command} ")]
    known = known_flags(command)
    wrong = []
    for page, words in shown:
        for flag in flags_of(words):
            stage = flag.lstrip("-").partition(".")[0]
            overrides = command in ("run", "plan") and (
                "." in flag and stage in SECTIONS or flag in known_flags("run")
            )
            if flag not in known and not overrides and flag not in LAUNCH_FLAGS:
                wrong.append((str(page.relative_to(ROOT)), flag))
    assert wrong == []
