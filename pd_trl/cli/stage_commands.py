"""The commands of the single stages."""

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..pipeline.registry import STAGES, LoadedStage, kinds_of
from ..text.names import did_you_mean
from .display import StandardError, is_terminal, stage_line, verbose
from .parsing import StageParser, launch, pop_option, without
from .terminal import ShownFormatter, say

# Whose messages below a warning repeat what a bar shows.
_TOLD_BY_BARS = ("pd_trl.scoring", "pd_trl.lab", "pd_trl.generation")


def main(command: str, arguments: list[str]) -> int:
    """Runs one stage from the command line."""
    set_up_logging()
    stage = STAGES[command].load()
    if stage.trains:
        arguments = _token_in_environment(arguments)
    outputs, launch_args = stage_parser(command, stage).parse(arguments)
    if launch_args:
        if not STAGES[command].launched:
            raise InputError(f"`pd-trl {command}` runs in one process and takes no flags of `accelerate launch`.")
        return launch(command, launch_args, without(arguments, launch_args))
    with stage_line(command):
        result = stage.run(*outputs)
    show(result)
    leave_process_group()
    return 0


def main_of_kinds(command: str, arguments: list[str]) -> int:
    """Runs a stage of a command that has several kinds, such as `pd-trl evaluate alpaca`."""
    kinds = kinds_of(command)
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {kind:<12}{purpose}" for kind, purpose in kinds.items())
        sys.stdout.write(f"usage: pd-trl {command} KIND [--config FILE] [arguments]\n\nkinds:\n{lines}\n")
        return 0
    kind = arguments[0]
    if kind not in kinds:
        raise InputError(
            f"`pd-trl {command}` has no kind '{kind}'.{did_you_mean(kind, kinds)} The kinds are {', '.join(kinds)}."
        )
    return main(f"{command} {kind}", arguments[1:])


def _token_in_environment(arguments: list[str]) -> list[str]:
    """Moves a token of the Hub from the arguments to HF_TOKEN, so that no list of processes and no file of settings shows it."""
    rest = list(arguments)
    for name in ("hub_token", "hub-token", "push_to_hub_token", "push-to-hub-token"):
        if token := pop_option(rest, name):
            os.environ["HF_TOKEN"] = token
    return rest


def stage_parser(command: str, stage: LoadedStage | None = None) -> StageParser:
    """The parser of a stage, with defaults that fit this machine's device."""
    stage = stage or STAGES[command].load()
    defaults: Mapping[str, Any] = {}
    if stage.trains:
        from ..trainers.arguments import device_arguments

        # A bar that is redrawn is of no use in a file.
        defaults = {**device_arguments(), "report_to": "none", "disable_tqdm": not sys.stderr.isatty()}
    description = (stage.run.__doc__ or "").split("\n\n")[0]
    return StageParser(stage.arguments, f"pd-trl {command}", description, defaults)


def leave_process_group() -> None:
    """
    Ends a process of a launch once all are done, without the interpreter's teardown: threads of the process group that are
    still alive then would abort it ("terminate called without an active exception"), after all results are written.
    """
    if "torch" not in sys.modules:
        return
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def show(result: Any) -> None:
    """Prints a stage's result, from one process only."""
    from ..runs.launch import is_main_process

    if is_main_process():
        say(result, paths=[str(getattr(result, "folder", ""))])


def set_up_logging() -> None:
    """Sends our messages to standard error, and silences progress bars and notices of the libraries unless `--verbose` is given."""
    import datasets
    from transformers.utils import logging as transformers_logging

    if verbose():
        transformers_logging.set_verbosity_info()
    else:
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers.*|trl.*")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    handler = StandardError()
    # What the data layer reports below a warning is part of the result of `prepare`.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not record.name.startswith("pd_trl.data"))
    # On a terminal the bar says it.
    if is_terminal() and not verbose():
        handler.addFilter(
            lambda record: record.levelno >= logging.WARNING or not record.name.startswith(_TOLD_BY_BARS)
        )
    handler.setFormatter(ShownFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("pd_trl")
    if not logger.handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.ERROR)
    logger.propagate = False
