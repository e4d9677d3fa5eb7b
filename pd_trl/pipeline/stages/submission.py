"""Stage `submission`: the pull request to AlpacaEval's leaderboard as a folder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InputError
from ...evaluation.submission import build_submission, check_submission
from ...runs.stage_folders import StageResult
from ..mappings import mapping_of
from .arguments import argument


@dataclass
class SubmissionArguments:
    """Arguments of `pd-trl submission`, see [`build_submission`] and [`check_submission`]."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"model_outputs": "outputs"}

    output_dir: str = argument("submission", "Folder of the submission.")
    name: str | None = argument(None, "Name of the model on the leaderboard.")
    evaluation: str | None = argument(None, "The folder of `pd-trl evaluate alpaca`.")
    outputs: str | None = argument(None, "The outputs, where they are not evaluated yet.")
    pretty_name: str | None = argument(None, "Name shown on the leaderboard.")
    link: str | None = argument(None, "Page of the model.")
    prompt_template: str | None = argument(
        None, "Prompt template: a text with {instruction}, or a file that holds it."
    )
    fn_completions: str | None = argument(None, "Decoder of alpaca_eval that can make the outputs again.")
    completions_kwargs: dict[str, Any] | str | None = argument(
        None, "Arguments of that decoder: a mapping (YAML or json)."
    )
    repository: str | None = argument(
        None, "A checkout of the leaderboard's repository, whose tables get the new rows."
    )
    reference_outputs: str | None = argument(
        None, "Outputs of gpt4_1106_preview, to compare word by word. Where unset, their digests are compared."
    )
    check: bool = argument(False, "Check the folder as it is, write nothing, and fail on any problem.")


def run_submission(arguments: SubmissionArguments) -> StageResult:
    """Writes the pull request to AlpacaEval's leaderboard as a folder, and says what it lacks."""
    if not arguments.check:
        if not arguments.name:
            raise InputError("No name: give the model's with --name, or check a folder with --check.")
        if not arguments.evaluation and not arguments.outputs:
            raise InputError(
                "Nothing to submit: give --evaluation (or --outputs, to check these before they are judged)."
            )
        build_submission(
            arguments.output_dir,
            name=arguments.name,
            evaluation=arguments.evaluation,
            model_outputs=arguments.outputs,
            pretty_name=arguments.pretty_name,
            link=arguments.link,
            prompt_template=arguments.prompt_template,
            fn_completions=arguments.fn_completions,
            completions_kwargs=mapping_of(arguments.completions_kwargs, "completions_kwargs"),
            repository=arguments.repository,
        )
    problems = check_submission(arguments.output_dir, arguments.reference_outputs)
    if arguments.check and problems:
        raise InputError(f"{arguments.output_dir} does not pass ({len(problems)}): {' '.join(problems)}")
    lines = [f"- {problem}" for problem in problems] or ["Passes the rules of the leaderboard's repository."]
    if not arguments.check and arguments.repository is None and arguments.evaluation:
        lines.append(
            "The two tables are not those of the repository: one is the installed package's, the other has the new row only. Give a "
            "checkout with --repository before you copy them over its own."
        )
    return StageResult("submission", arguments.output_dir, {"problems": len(problems)}, lines)
