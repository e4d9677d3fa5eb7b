"""What the stages share that write one model from another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...runs.artifacts import Manifest
from ...runs.stage_folders import StageResult, check_folder, dry_result, owned_folder, skip_if_done, timed
from .arguments import DTYPES, argument


def dtype_argument(base: str) -> Any:
    """The field of the type in which weights are written; `base` says whose is taken where it is unset."""
    return argument(None, f"Type of the weights. Where unset, {base}.", choices=DTYPES)


def written_model(
    manifest: Manifest,
    arguments: Any,
    sources: Sequence[str | None],
    counts: dict[str, int],
    lines: list[str],
    write: Callable[[Path], Any],
) -> StageResult:
    """
    Writes a model into a stage's folder, unless it is there or the run is dry.

    Args:
        manifest ([`Manifest`]): What the stage will have done.
        arguments: Those of the stage: `output_dir`, `dry_run`, `overwrite`.
        sources (sequence of `str`): Folders and Hub ids that are read.
        counts, lines: What the stage says.
        write (callable): Writes the model into a folder.
    """
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, counts, lines)
    place = Path(arguments.output_dir).expanduser()
    check_folder(manifest.stage, place, list(sources))
    if done := skip_if_done(manifest, place, arguments.overwrite):
        return done
    manifest.counts = counts
    with owned_folder(manifest, place, arguments.overwrite) as root:
        with timed(manifest):
            write(root)
        manifest.save(root)
    return StageResult(manifest.stage, arguments.output_dir, counts, lines)
