"""`pd-trl evaluate KIND …`: finds the evaluation and runs it as a stage."""

import difflib
import sys

from ..errors import InputError
from . import stage_commands

EVALUATIONS = {
    "alpaca": "AlpacaEval 2 of a model's outputs",
    "pairwise": "win score of a model's outputs against others'",
    "rewards": "accuracy of reward models on pairs",
}


def main(command: str, arguments: list[str]) -> int:
    """Runs one evaluation from the command line."""
    kinds = "\n".join(f"  {name:<10}{text}" for name, text in EVALUATIONS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: pd-trl {command} KIND [--config FILE] [arguments]\n\nkinds:\n{kinds}\n")
        return 0
    kind = arguments[0]
    if kind not in EVALUATIONS:
        close = difflib.get_close_matches(kind, EVALUATIONS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"There is no evaluation '{kind}'.{hint} The kinds are {', '.join(EVALUATIONS)}.")
    return stage_commands.main(f"{command} {kind}", arguments[1:])
