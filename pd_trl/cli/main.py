"""`pd-trl COMMAND …`: finds the command, runs it, and turns what goes wrong into one line."""

import argparse
import atexit
import contextlib
import difflib
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .._version import __version__
from .failures import describe
from .terminal import complain, drop_output, has_reader

# Name of the command: module of this package, and a line of help.
COMMANDS: dict[str, tuple[str, str]] = {
    "prepare": ("stage_commands", "turn a data set into pairs and single-aspect preferences"),
    "reward": ("stage_commands", "train one proxy reward model for each aspect"),
    "score": ("stage_commands", "score every pair by every aspect's reward model"),
    "select": ("stage_commands", "compute PD and keep the pairs within the budget"),
    "dpo": ("stage_commands", "train a policy on the kept pairs"),
    "report": ("stage_commands", "show a selection as one HTML page, and as pictures"),
    "generate": ("stage_commands", "write a model's outputs to a set of instructions"),
    "evaluate": ("evaluate", "AlpacaEval 2, win scores, or the accuracy of reward models"),
    "submission": ("stage_commands", "write and check a submission to AlpacaEval's leaderboard"),
    "publish": ("publish", "put a selection, a model, a report or a collection on the Hub"),
    "run": ("run", "run the stages of a recipe, skipping what is done"),
    "plan": ("plan", "predict tokens, FLOPs, hours and memory of a recipe, and what selecting saves"),
    "bench": ("stage_commands", "run the paper's table and its ablations in a simulated world"),
    "env": ("env", "print the versions that a bug report needs"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0, 2 on what the user can mend, 1 on any other error, and 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"pd_trl {__version__}\n")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        return _fail("pd-trl", f"There is no command '{command}'.{hint} The commands are {', '.join(COMMANDS)}.")
    return _guarded(command, arguments[1:])


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items())
    return argparse.ArgumentParser(
        prog="pd-trl",
        usage="pd-trl COMMAND [--config FILE] [arguments]",
        description="Preference Divergence for TRL: score, select and align on preference data whose aspects conflict.",
        epilog=f"commands:\n{commands}\n\n`pd-trl COMMAND --help` lists a command's arguments. Arguments in the YAML file of "
        "--config are overridden by\nthose of the command line. `--num_processes 2` and the other flags of `accelerate launch` "
        "are passed on.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class _Interrupt:
    """What Ctrl-C does: the first ends the command in order, those of the next seconds are the same wish, a later one ends it at once."""

    patience = 5.0

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
            raise KeyboardInterrupt
        if now - self.first > self.patience:
            os._exit(130)

    def install(self) -> None:
        # A caller that took or ignored the signal, or that runs us in another thread, keeps it.
        with contextlib.suppress(ValueError):
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self)
                # The interpreter, when it ends, gives signals their default effect: the exit code would be lost.
                atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _guarded(command: str, arguments: list[str]) -> int:
    prog = f"pd-trl {command}"
    _Interrupt().install()
    try:
        module = importlib.import_module(f".{COMMANDS[command][0]}", package=__package__)
        return module.main(command, arguments)
    except KeyboardInterrupt:
        return _fail(prog, "interrupted. What was finished is kept: the same command goes on from there.", code=130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not has_reader():
            drop_output()
            return 0
        if os.environ.get("PD_TRL_TRACEBACK"):
            raise
        if getattr(error, "output_dir", None) is None:
            error.output_dir = _output_dir(arguments)  # type: ignore[attr-defined]
        return _fail(prog, *describe(error))


def _output_dir(arguments: Sequence[str]) -> str | None:
    """The folder that a command line names, for an error before the stage began."""
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--output_dir", "--output-dir"):
            return value if equals else next(iter(arguments[i + 1 : i + 2]), None)
    return None


def _fail(prog: str, message: str, code: int = 2) -> int:
    if place := os.environ.get("PD_TRL_EXIT_CODE_FILE"):
        Path(place).write_text(str(code))
    # Of several processes, one speaks for all; a fault may be of another alone.
    if os.environ.get("RANK", "0") == "0" or code == 1:
        complain(f"{prog}: {message}" if code > 128 else f"{prog}: error: {message}")
    return code


if __name__ == "__main__":
    sys.exit(main())
