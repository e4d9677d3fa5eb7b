"""`pd-trl COMMAND …`: finds the command, runs it, and turns what goes wrong into one line."""

import argparse
import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from .._version import __version__
from ..pipeline.registry import GROUPS, STAGES
from ..text.names import did_you_mean
from .failures import describe
from .terminal import complain, drop_output, has_reader


def _stage(command: str, arguments: list[str]) -> int:
    from .stage_commands import main

    return main(command, arguments)


def _kinds(command: str, arguments: list[str]) -> int:
    from .stage_commands import main_of_kinds

    return main_of_kinds(command, arguments)


def _run(command: str, arguments: list[str]) -> int:
    from .run import main

    return main(command, arguments)


def _plan(command: str, arguments: list[str]) -> int:
    from .plan import main

    return main(command, arguments)


def _env(command: str, arguments: list[str]) -> int:
    from .env import main

    return main(command, arguments)


# Name of the command: what runs it, and a line of help.
COMMANDS: dict[str, tuple[Callable[[str, list[str]], int], str]] = {
    **{
        name: (_kinds, GROUPS[name]) if name in GROUPS else (_stage, STAGES[name].purpose)
        for name in dict.fromkeys(name.split()[0] for name, stage in STAGES.items() if stage.command)
    },
    "plan": (_plan, STAGES["plan"].purpose),
    "run": (_run, "run the stages of a recipe, skipping what is done"),
    "env": (_env, "print the versions that a bug report needs"),
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
    if "--verbose" in arguments:
        arguments.remove("--verbose")
        os.environ["PD_TRL_VERBOSE"] = "1"  # the processes of a launch see it too
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
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
        "are passed on. `--verbose` shows what TRL and transformers print.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class _Interrupt:
    """
    What Ctrl-C does. The first one ends the command in order. More of them within `patience` seconds change nothing. A later
    one ends the process at once.
    """

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
        run, _ = COMMANDS[command]
        return run(command, arguments)
    except KeyboardInterrupt:
        return _fail(prog, "interrupted. Finished work is kept: the same command goes on from there.", code=130)
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
