"""Stage `select`: computes PD and decides which pairs to keep."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...data.sources import is_path
from ...errors import InputError
from ...hub import download_file
from ...method.votes import DECORRELATED
from ...runs.artifacts import Manifest, check_complete
from ...runs.provenance import inherited_provenance
from ...runs.stage_folders import StageResult, check_folder, held_folder
from ...selection.filter import PDFilter
from ...selection.filter_file import FILTER_NAME, read_filter
from ...selection.out_of_core.source import RowSource
from ...selection.settings import FORMS, SelectionSettings
from ..mappings import mapping_of
from .arguments import OVERWRITE, argument
from .inputs import rows_of


def _setting(name: str) -> Any:
    """The argument for a setting of the selection, with its default, help and choices."""
    (setting,) = (entry for entry in fields(SelectionSettings) if entry.name == name)
    shown = {key: value for key, value in setting.metadata.items() if key != "form"}
    return field(default=setting.default, metadata=shown)


@dataclass
class SelectArguments:
    """Arguments of `pd-trl select`, see [`PDFilter`]."""

    dataset_name: str | None = argument(
        None,
        "Scored pairs: the folder of `pd-trl score` (with `--source ratings`, of `pd-trl prepare` or `rate`), a file, or a Hub id.",
    )
    output_dir: str = argument("selected", "Folder of the result.")
    budget: float | str | None = _setting("budget")
    source: str = _setting("source")
    gamma: float = _setting("gamma")
    weights: dict[str, float] | str | None = _setting("weights")
    per_aspect: bool = _setting("per_aspect")
    selector: str = _setting("selector")
    margin_column: str = _setting("margin_column")
    pd_column: str = _setting("pd_column")
    min_proxy_accuracy: float | None = _setting("min_proxy_accuracy")
    on_no_votes: str = _setting("on_no_votes")
    seed: int = _setting("seed")
    out_of_core: bool = argument(
        False,
        "Read `dataset_name` as parquet files alone: a folder, a file, a pattern, or a url such as "
        "`hf://datasets/me/data/scored/*.parquet`. The pairs are the same; the report then has no overlap with other rules, "
        "for which ids and scores would be held in memory.",
    )
    num_threads: int | None = argument(None, "Threads. Where unset, one for each core, but at most 8.")
    dry_run: bool = argument(False, "Show the report and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_select(arguments: SelectArguments) -> PDFilter:
    """The filter of the arguments; raises `InputError` if they are out of range."""
    settings = {name: getattr(arguments, name) for name in FORMS}
    return PDFilter(**{**settings, "weights": _weights(arguments.weights)})


def _weights(value: dict[str, float] | str | None) -> dict[str, Any] | str:
    """The mapping that the argument holds, or the name of the rule that learns the weights."""
    return DECORRELATED if value == DECORRELATED else mapping_of(value, "weights")


@held_folder
def run_select(arguments: SelectArguments) -> StageResult:
    """Selects and writes `selected/`, `dropped/`, `filter.json`, `selection.sql`, `report.json`, `report.txt` and the manifest."""
    from ...selection.out_of_core import run_out_of_core

    name, source = arguments.dataset_name, None
    if arguments.out_of_core and not name:
        raise InputError("No data: name parquet files, a pattern or a folder of them with --dataset_name.")
    if not arguments.dry_run:
        check_folder("select", arguments.output_dir, [name])
    pd_filter = check_select(arguments)
    if not arguments.out_of_core:
        source = _rows(name, arguments.num_threads)
    if not arguments.out_of_core or Path(str(name)).expanduser().is_dir():
        pd_filter.proxy_metrics = _proxy_metrics(name)
        pd_filter.recorded_outputs = _recorded_outputs(name)
    return run_out_of_core(
        pd_filter, str(name), arguments.output_dir, overwrite=arguments.overwrite, dry_run=arguments.dry_run,
        num_threads=arguments.num_threads, source=source, overlap=not arguments.out_of_core,
    )  # fmt: skip


def _rows(name: str | None, num_threads: int | None) -> RowSource:
    """The rows to select from: parquet files as they are, and anything else as `datasets` reads it."""
    from ...selection.out_of_core.parquet import ParquetSource
    from ...selection.out_of_core.source import DatasetSource

    folder = Path(name).expanduser() if name else Path()
    if name and folder.is_file() and folder.suffix == ".parquet":
        return ParquetSource(name, num_threads=num_threads)
    for place in (folder / "scored", folder, folder / "preferences") if name else ():
        if files := sorted(place.glob("train-*-of-*.parquet")):
            check_complete(files)
            return ParquetSource(files, num_threads=num_threads)
    return DatasetSource(_scored_rows(name), num_threads=num_threads)


def _scored_rows(name: str | None) -> Any:
    try:
        return rows_of(name, "scored")
    except InputError:
        # Ratings need no scoring: the result of `prepare` is enough.
        if name and (Path(name).expanduser() / "preferences").is_dir():
            return rows_of(name, "preferences")
        raise


def _proxy_metrics(name: str | None) -> dict[str, dict[str, float]]:
    """Metrics of the reward models behind the gaps, from the folder of `pd-trl score` or a published selection."""
    if name and not is_path(name):
        published = download_file(name, FILTER_NAME)
        return read_filter(published)["arguments"].get("proxy_metrics", {}) if published is not None else {}
    manifest = Manifest.load(Path(name).expanduser()) if name and Path(name).expanduser().is_dir() else None
    return manifest.results.get("proxy_metrics", {}) if manifest is not None else {}


def _recorded_outputs(name: str | None) -> dict[str, dict[str, Any]]:
    """What `pd-trl score` read of each reward model."""
    if not name or not is_path(name):
        return {}
    proxies = inherited_provenance(name).get("proxies", {})
    keys = ("output", "sign", "scale")
    found = {aspect: {key: entry[key] for key in keys if key in entry} for aspect, entry in proxies.items()}
    return {aspect: entry for aspect, entry in found.items() if entry}
