"""`pd-trl publish KIND …`: finds the publication and runs it as a stage."""

import difflib
import sys

from ..errors import InputError
from . import stage_commands

KINDS = {
    "dataset": "a selection, with all scored pairs",
    "model": "a reward model, an aligned model or an adapter",
    "report": "the report of a selection, as a static Space",
    "collection": "a collection that links source, data set, reward models and aligned models",
}


def main(command: str, arguments: list[str]) -> int:
    """Runs one publication from the command line."""
    kinds = "\n".join(f"  {name:<12}{text}" for name, text in KINDS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: pd-trl {command} KIND [--config FILE] [arguments]\n\nkinds:\n{kinds}\n")
        return 0
    kind = arguments[0]
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"`pd-trl {command}` does not know '{kind}'.{hint} It publishes a {', '.join(KINDS)}.")
    return stage_commands.main(f"{command} {kind}", arguments[1:])
