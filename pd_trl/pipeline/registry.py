"""The stages by name: what each is for, and where its code is. Nothing is imported before a stage is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _no_check(*arguments: Any) -> None:
    pass


@dataclass(frozen=True)
class LoadedStage:
    """
    The code of a stage.

    Args:
        run (callable): Runs it, given one object of each class of arguments.
        arguments (`tuple` of `type`): The dataclasses of its arguments.
        check (callable, *optional*): Checks the same objects before a run starts; raises `InputError`.
        trains (`bool`, *optional*, defaults to `False`): Whether it takes a model and the arguments of a trainer.
    """

    run: Callable[..., Any]
    arguments: tuple[type, ...]
    check: Callable[..., object] = _no_check
    trains: bool = False


@dataclass(frozen=True)
class Stage:
    """
    A stage.

    Args:
        load (callable): Imports its code.
        purpose (`str`): What it does, in a line.
        command (`bool`, *optional*, defaults to `True`): Whether `pd-trl NAME` runs it, and not only a recipe.
        launched (`bool`, *optional*, defaults to `False`): Whether it runs in several processes.
    """

    load: Callable[[], LoadedStage]
    purpose: str
    command: bool = True
    launched: bool = False


def _simulate() -> LoadedStage:
    from .stages.simulate import SimulateArguments, run_simulate

    return LoadedStage(run_simulate, (SimulateArguments,))


def _prepare() -> LoadedStage:
    from .stages.prepare import PrepareArguments, run_prepare

    return LoadedStage(run_prepare, (PrepareArguments,))


def _rate() -> LoadedStage:
    from .stages.rate import RateArguments, check_rate, run_rate

    return LoadedStage(run_rate, (RateArguments,), check_rate)


def _reward() -> LoadedStage:
    from trl import ModelConfig

    from ..trainers.reward.config import PDRewardConfig
    from .stages.reward import RewardArguments, check_reward, run_reward

    return LoadedStage(run_reward, (RewardArguments, PDRewardConfig, ModelConfig), check_reward, trains=True)


def _score() -> LoadedStage:
    from .stages.score import ScoreArguments, check_score, run_score

    return LoadedStage(run_score, (ScoreArguments,), check_score)


def _convert() -> LoadedStage:
    from .stages.convert import ConvertArguments, check_convert, run_convert

    return LoadedStage(run_convert, (ConvertArguments,), check_convert)


def _merge() -> LoadedStage:
    from .stages.merge import MergeArguments, check_merge, run_merge

    return LoadedStage(run_merge, (MergeArguments,), check_merge)


def _select() -> LoadedStage:
    from .stages.select import SelectArguments, check_select, run_select

    return LoadedStage(run_select, (SelectArguments,), check_select)


def _advise() -> LoadedStage:
    from .stages.advise import AdviseArguments, run_advise

    return LoadedStage(run_advise, (AdviseArguments,))


def _rivals() -> LoadedStage:
    from .stages.rivals import RivalsArguments, check_rivals, run_rivals

    return LoadedStage(run_rivals, (RivalsArguments,), check_rivals)


def _report() -> LoadedStage:
    from .stages.report import ReportArguments, check_report, run_report

    return LoadedStage(run_report, (ReportArguments,), check_report)


def _dpo() -> LoadedStage:
    from trl import ModelConfig

    from ..trainers.dpo.config import PDDPOConfig
    from .stages.dpo import DPOArguments, check_dpo, run_dpo

    return LoadedStage(run_dpo, (DPOArguments, PDDPOConfig, ModelConfig), check_dpo, trains=True)


def _export() -> LoadedStage:
    from .stages.export import ExportArguments, run_export

    return LoadedStage(run_export, (ExportArguments,))


def _generate() -> LoadedStage:
    from .stages.generate import GenerateArguments, check_generate, run_generate

    return LoadedStage(run_generate, (GenerateArguments,), check_generate)


def _judge() -> LoadedStage:
    from .stages.judge import JudgeArguments, run_judge

    return LoadedStage(run_judge, (JudgeArguments,))


def _evaluate_alpaca() -> LoadedStage:
    from .stages.evaluate_alpaca import AlpacaArguments, run_evaluate_alpaca

    return LoadedStage(run_evaluate_alpaca, (AlpacaArguments,))


def _evaluate_pairwise() -> LoadedStage:
    from .stages.evaluate_pairwise import PairwiseArguments, check_pairwise, run_pairwise

    return LoadedStage(run_pairwise, (PairwiseArguments,), check_pairwise)


def _evaluate_rewards() -> LoadedStage:
    from .stages.evaluate_rewards import RewardsArguments, check_rewards, run_rewards

    return LoadedStage(run_rewards, (RewardsArguments,), check_rewards)


def _submission() -> LoadedStage:
    from .stages.submission import SubmissionArguments, run_submission

    return LoadedStage(run_submission, (SubmissionArguments,))


def _publish() -> LoadedStage:
    from .stages.publish import PublishArguments, check_publish, run_publish

    return LoadedStage(run_publish, (PublishArguments,), check_publish)


def _publish_dataset() -> LoadedStage:
    from .stages.publish_commands import PublishDatasetArguments, run_publish_dataset

    return LoadedStage(run_publish_dataset, (PublishDatasetArguments,))


def _publish_model() -> LoadedStage:
    from .stages.publish_commands import PublishModelArguments, run_publish_model

    return LoadedStage(run_publish_model, (PublishModelArguments,))


def _publish_report() -> LoadedStage:
    from .stages.publish_commands import PublishReportArguments, run_publish_report

    return LoadedStage(run_publish_report, (PublishReportArguments,))


def _publish_collection() -> LoadedStage:
    from .stages.publish_commands import PublishCollectionArguments, run_publish_collection

    return LoadedStage(run_publish_collection, (PublishCollectionArguments,))


def _plan() -> LoadedStage:
    from .stages.plan import PlanArguments, check_plan, run_plan

    return LoadedStage(run_plan, (PlanArguments,), check_plan)


def _bench() -> LoadedStage:
    from .stages.bench import BenchArguments, run_bench

    return LoadedStage(run_bench, (BenchArguments,))


# A name of two words is a kind of the first one.
STAGES: dict[str, Stage] = {
    "simulate": Stage(_simulate, "make pairs, a model and prompts of a simulated world", command=False),
    "prepare": Stage(_prepare, "turn a data set into pairs and single-aspect preferences"),
    "rate": Stage(_rate, "rate every aspect of each pair by a judge"),
    "reward": Stage(_reward, "train one proxy reward model for each aspect", launched=True),
    "score": Stage(_score, "score every pair by every aspect's reward model", launched=True),
    "convert": Stage(_convert, "write a published reward model as one of ours, without running its code"),
    "merge": Stage(_merge, "write a LoRA adapter and its base as one model"),
    "advise": Stage(_advise, "say from a few labelled pairs whether selecting will help, and at which budget"),
    "rivals": Stage(_rivals, "add the columns that other papers' selectors rank by"),
    "select": Stage(_select, "compute PD and keep the pairs within the budget"),
    "dpo": Stage(_dpo, "train a policy on the kept pairs", launched=True),
    "report": Stage(_report, "show a selection as one HTML page, and as pictures"),
    "export": Stage(_export, "write the kept pairs in the form that another trainer reads"),
    "generate": Stage(_generate, "write a model's outputs to a set of instructions"),
    "judge": Stage(_judge, "compare policies by the gold rewards of a simulated world", command=False),
    "evaluate alpaca": Stage(_evaluate_alpaca, "AlpacaEval 2 of a model's outputs"),
    "evaluate pairwise": Stage(_evaluate_pairwise, "win score of a model's outputs against others'"),
    "evaluate rewards": Stage(_evaluate_rewards, "accuracy of reward models on pairs"),
    "submission": Stage(_submission, "write and check a submission to AlpacaEval's leaderboard"),
    "publish": Stage(_publish, "publish what the other stages made", command=False),
    "publish dataset": Stage(_publish_dataset, "a selection, with all scored pairs"),
    "publish model": Stage(_publish_model, "a reward model, an aligned model or an adapter"),
    "publish report": Stage(_publish_report, "the report of a selection, as a static Space"),
    "publish collection": Stage(
        _publish_collection, "a collection that links source, data set, reward models and aligned models"
    ),
    "plan": Stage(_plan, "predict tokens, FLOPs, hours and memory of a recipe, and what selecting saves"),
    "bench": Stage(_bench, "run the paper's table and its ablations in a simulated world"),
}


# Commands that have kinds.
GROUPS = {
    "evaluate": "AlpacaEval 2, win scores, or the accuracy of reward models",
    "publish": "put a selection, a model, a report or a collection on the Hub",
}


def kinds_of(command: str) -> dict[str, str]:
    """The kinds of a command that has several, such as `evaluate`, and what each does."""
    prefix = f"{command} "
    return {name.removeprefix(prefix): stage.purpose for name, stage in STAGES.items() if name.startswith(prefix)}
