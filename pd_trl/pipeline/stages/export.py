"""Stage `export`: preferences in the form that another trainer reads."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import InputError
from ...export import TARGETS, export_preferences
from ...export.run import ON_UNSUPPORTED
from ...runs.stage_folders import StageResult, held_folder
from .arguments import OVERWRITE, argument


@dataclass
class ExportArguments:
    """Arguments of `pd-trl export`, see [`export_preferences`]."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"split": "dataset_split", "revision": "dataset_revision"}

    dataset_name: str | None = argument(
        None, "The folder of `pd-trl select` or `prepare`, a file, or a Hub id; of a selection, the kept rows."
    )
    to: str | None = argument(None, "The trainer that reads the rows.", choices=list(TARGETS))
    output_dir: str = argument("exported", "Folder of the rows and of the part of the configuration that names them.")
    dropped: bool = argument(False, "Write the dropped rows of the selection too, as a set of their own.")
    tokenizer: str | None = argument(
        None,
        "The model to train: a folder or a Hub id. Its tokenizer finds rows that its chat template refuses, sets lengths so that nothing is cut, and writes special tokens that the trainer leaves out.",
    )
    render: bool = argument(False, "Write messages as the text of the tokenizer's chat template.")
    as_chat: bool = argument(False, "Make messages of plain texts: the user's prompt, the assistant's responses.")
    on_unsupported: str = argument(
        "error",
        "Rows that the trainer cannot hold: an error, or leave them out and count.",
        choices=list(ON_UNSUPPORTED),
    )
    dataset_split: str = argument("train", "Split of a data set on the Hub.")
    dataset_revision: str | None = argument(None, "Branch, tag or commit of a data set on the Hub.")
    dry_run: bool = argument(False, "Check every row, say what would be written, and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


@held_folder
def run_export(arguments: ExportArguments) -> StageResult:
    """Writes the rows, the part of the trainer's configuration that names them, and the manifest."""
    if not arguments.dataset_name:
        raise InputError(
            "No preferences: name them with --dataset_name (the folder of `pd-trl select`, a file, or a Hub id)."
        )
    if not arguments.to:
        raise InputError(f"No trainer: name one with --to ({', '.join(TARGETS)}).")
    result = export_preferences(
        arguments.dataset_name,
        arguments.to,
        arguments.output_dir,
        dropped=arguments.dropped,
        tokenizer=arguments.tokenizer,
        render=arguments.render,
        as_chat=arguments.as_chat,
        on_unsupported=arguments.on_unsupported,
        split=arguments.dataset_split,
        revision=arguments.dataset_revision,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
    )
    lines = [f"left out: {count:,} with {reason}" for reason, count in result.left_out.items()]
    lines.append(f"{TARGETS[arguments.to].title}: {', '.join(result.files)}")
    lines += result.notes
    stage = "export (dry run)" if arguments.dry_run and not result.skipped else "export"
    return StageResult(stage, arguments.output_dir, result.counts, lines, skipped=result.skipped)
