"""Stage `report`: a selection as one HTML page, and pictures of it."""

from dataclasses import dataclass

from ...errors import InputError
from ...report.drawing import require_matplotlib
from ...report.page import plotting_library
from ...report.pictures import write_pictures
from ...report.writing import MAX_EXAMPLES, PAGE_NAME, check_max_examples, local_selection, read_selection, write_page
from ...runs.artifacts import Manifest, replaced_folder
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from .arguments import OVERWRITE, argument


@dataclass
class ReportArguments:
    """Arguments of `pd-trl report`, see [`write_report`]."""

    dataset_name: str | None = argument(
        None, "Folder of `pd-trl select` or of a whole run, or the Hub id of a published selection."
    )
    output_dir: str = argument("report", "Folder of the page and the pictures.")
    title: str | None = argument(None, "Title of the page. Where unset, it names the data.")
    max_examples: int = argument(
        MAX_EXAMPLES, "Maximum number of pairs to show with their texts; all pairs are counted."
    )
    dry_run: bool = argument(False, "Show what would be written, and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_report(arguments: ReportArguments) -> None:
    """Raises `InputError` on arguments out of range, and if a library of the report is missing."""
    check_max_examples(arguments.max_examples)
    plotting_library()
    require_matplotlib()


@held_folder
def run_report(arguments: ReportArguments) -> StageResult:
    """Writes `report.html`, the pictures and the manifest."""
    check_report(arguments)
    if not arguments.dataset_name:
        raise InputError("No selection: name the folder of `pd-trl select` with --dataset_name.")
    if not arguments.dry_run:
        check_folder("report", arguments.output_dir, [arguments.dataset_name])
    selection = read_selection(arguments.dataset_name)
    selected = Manifest.load(local_selection(arguments.dataset_name))
    if selected is not None:
        selected.check_files(local_selection(arguments.dataset_name))
    manifest = Manifest(
        "report",
        inputs={"selection": selected.key if selected is not None else ""},
        arguments={"title": arguments.title, "max_examples": arguments.max_examples},
    )
    manifest.counts = {"total": selection.numbers["total"], "kept": selection.numbers["kept"]}
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, [])
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        return done
    with replaced_folder(arguments.output_dir) as folder:
        with timed(manifest):
            page = write_page(
                selection, folder / PAGE_NAME, title=arguments.title, max_examples=arguments.max_examples
            )
            files = [page, *write_pictures(selection, folder)]
        manifest.results = {"bytes": {file.name: file.stat().st_size for file in files}}
        manifest.save(folder)
    lines = [f"{name}: {size / 1e6:.2f} MB" for name, size in manifest.results["bytes"].items()]
    return StageResult("report", arguments.output_dir, manifest.counts, lines)
