"""The commands of the single stages."""

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from .parsing import StageParser, launch, pop_option, without
from .terminal import ShownFormatter, say

# Command: module under pd_trl.pipeline.stages, function, and dataclasses as "module:name".
_MODEL = "trl:ModelConfig"
STAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "simulate": ("simulate", "run_simulate", ("pd_trl.pipeline.stages.simulate:SimulateArguments",)),
    "prepare": ("prepare", "run_prepare", ("pd_trl.pipeline.stages.prepare:PrepareArguments",)),
    "reward": (
        "reward",
        "run_reward",
        ("pd_trl.pipeline.stages.reward:RewardArguments", "pd_trl.trainers.reward.config:PDRewardConfig", _MODEL),
    ),
    "score": ("score", "run_score", ("pd_trl.pipeline.stages.score:ScoreArguments",)),
    "select": ("select", "run_select", ("pd_trl.pipeline.stages.select:SelectArguments",)),
    "dpo": (
        "dpo",
        "run_dpo",
        ("pd_trl.pipeline.stages.dpo:DPOArguments", "pd_trl.trainers.dpo.config:PDDPOConfig", _MODEL),
    ),
    "bench": ("bench", "run_bench", ("pd_trl.pipeline.stages.bench:BenchArguments",)),
    "plan": ("plan", "run_plan", ("pd_trl.pipeline.stages.plan:PlanArguments",)),
    "judge": ("simulate", "run_judge", ("pd_trl.pipeline.stages.simulate:JudgeArguments",)),
    "report": ("report", "run_report", ("pd_trl.pipeline.stages.report:ReportArguments",)),
    "generate": ("generate", "run_generate", ("pd_trl.pipeline.stages.generate:GenerateArguments",)),
    "evaluate alpaca": (
        "evaluate_alpaca",
        "run_evaluate_alpaca",
        ("pd_trl.pipeline.stages.evaluate_alpaca:AlpacaArguments",),
    ),
    "evaluate pairwise": ("evaluate", "run_pairwise", ("pd_trl.pipeline.stages.evaluate:PairwiseArguments",)),
    "evaluate rewards": ("evaluate", "run_rewards", ("pd_trl.pipeline.stages.evaluate:RewardsArguments",)),
    "submission": ("submission", "run_submission", ("pd_trl.pipeline.stages.submission:SubmissionArguments",)),
    "publish": ("publish", "run_publish", ("pd_trl.pipeline.stages.publish:PublishArguments",)),
    "publish dataset": (
        "publish_commands",
        "run_publish_dataset",
        ("pd_trl.pipeline.stages.publish_commands:PublishDatasetArguments",),
    ),
    "publish model": (
        "publish_commands",
        "run_publish_model",
        ("pd_trl.pipeline.stages.publish_commands:PublishModelArguments",),
    ),
    "publish report": (
        "publish_commands",
        "run_publish_report",
        ("pd_trl.pipeline.stages.publish_commands:PublishReportArguments",),
    ),
    "publish collection": (
        "publish_commands",
        "run_publish_collection",
        ("pd_trl.pipeline.stages.publish_commands:PublishCollectionArguments",),
    ),
}
LAUNCHED = ("reward", "score", "dpo")


def main(command: str, arguments: list[str]) -> int:
    """Runs one stage from the command line."""
    set_up_logging()
    if _MODEL in STAGES[command][2]:
        arguments = _token_in_environment(arguments)
    parser = stage_parser(command)
    outputs, launch_args = parser.parse(arguments)
    if launch_args:
        if command not in LAUNCHED:
            raise InputError(f"`pd-trl {command}` runs in one process and takes no flags of `accelerate launch`.")
        return launch(command, launch_args, without(arguments, launch_args))
    show(run_stage(command, outputs))
    leave_process_group()
    return 0


def _token_in_environment(arguments: list[str]) -> list[str]:
    """The arguments without a token of the Hub, which becomes HF_TOKEN: no list of processes and no file of settings shows it."""
    rest = list(arguments)
    for name in ("hub_token", "hub-token", "push_to_hub_token", "push-to-hub-token"):
        if token := pop_option(rest, name):
            os.environ["HF_TOKEN"] = token
    return rest


def stage_parser(command: str) -> StageParser:
    """The parser of a stage, with defaults that fit this machine's device."""
    types = []
    for name in STAGES[command][2]:
        place, _, attribute = name.partition(":")
        types.append(getattr(importlib.import_module(place), attribute))
    defaults: Mapping[str, Any] = {}
    if _MODEL in STAGES[command][2]:
        from ..trainers.arguments import device_arguments

        # A bar that is redrawn is of no use in a file.
        defaults = {**device_arguments(), "report_to": "none", "disable_tqdm": not sys.stderr.isatty()}
    module = importlib.import_module(f"pd_trl.pipeline.stages.{STAGES[command][0]}")
    description = (getattr(module, STAGES[command][1]).__doc__ or "").split("\n\n")[0]
    return StageParser(types, f"pd-trl {command}", description, defaults)


def run_stage(command: str, outputs: tuple[Any, ...]) -> Any:
    """Runs a stage with parsed arguments."""
    module, function, _ = STAGES[command]
    return getattr(importlib.import_module(f"pd_trl.pipeline.stages.{module}"), function)(*outputs)


def leave_process_group() -> None:
    """
    Ends a process of a launch once all are done, without the interpreter's teardown: threads of the process group that are
    still alive then would abort it ("terminate called without an active exception"), after all results are written.
    """
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def show(result: Any) -> None:
    """Prints a stage's result, from one process only."""
    from ..runs.stage_folders import is_main_process

    if is_main_process():
        say(result)


def check_stage(command: str, outputs: tuple[Any, ...]) -> None:
    """Checks of values that a parser cannot make, before a run starts."""
    module = importlib.import_module(f"pd_trl.pipeline.stages.{STAGES[command][0]}")
    check = getattr(module, f"check_{command.replace(' ', '_')}", None)
    if check is not None:
        check(*outputs)


def set_up_logging() -> None:
    """Our messages on standard error; bars and notices of the libraries that say nothing about the run are off."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers.*|trl.*")
    handler = logging.StreamHandler()
    # What the data layer reports below a warning is part of the result of `prepare`.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not record.name.startswith("pd_trl.data"))
    handler.setFormatter(ShownFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("pd_trl")
    if not logger.handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.ERROR)
    logger.propagate = False
