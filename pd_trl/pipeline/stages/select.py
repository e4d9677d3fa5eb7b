"""Stage `select`: computes PD and decides which pairs to keep."""

import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...data.sources import is_path
from ...errors import InputError
from ...hub import download_file
from ...method.votes import DECORRELATED
from ...runs.artifacts import Manifest, replaced_folder
from ...runs.identity import data_key
from ...runs.provenance import inherited_provenance
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from ...selection.artifact import selection_manifest, write_selection
from ...selection.filter import PDFilter
from ...selection.filter_file import FILTER_NAME, read_filter
from ...selection.settings import FORMS, SelectionSettings
from ..mappings import mapping_of
from .arguments import OVERWRITE, argument
from .inputs import rows_of

logger = logging.getLogger(__name__)

# From this many rows on, a selection in memory warns of the memory it needs.
MANY_ROWS = 5_000_000


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
        "Select the same pairs from parquet files that need not fit in memory. `dataset_name` is then a folder, a file, a "
        "pattern, or a url such as `hf://datasets/me/data/scored/*.parquet`.",
    )
    num_threads: int | None = argument(
        None, "Threads of --out_of_core. Where unset, one for each core, but at most 8."
    )
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
    if arguments.out_of_core:
        return _run_out_of_core(arguments)
    _hint_at_out_of_core(arguments.dataset_name)
    if not arguments.dry_run:
        check_folder("select", arguments.output_dir, [arguments.dataset_name])
    pd_filter = check_select(arguments)
    scored = _scored_rows(arguments.dataset_name)
    pd_filter.proxy_metrics = _proxy_metrics(arguments.dataset_name)
    pd_filter.recorded_outputs = _recorded_outputs(arguments.dataset_name)
    manifest = selection_manifest(pd_filter, data_key(scored))
    done = None if arguments.dry_run else skip_if_done(manifest, arguments.output_dir, arguments.overwrite, hold=False)
    if done:
        return done
    with timed(manifest):
        decided = pd_filter.fit_transform(scored)
        kept = np.asarray(decided["pd_kept"][:], dtype=bool)
    report = pd_filter.report_
    if report is None:
        raise InputError("The selection has no report.")
    manifest.counts = {"total": len(decided), "kept": int(kept.sum()), "dropped": int((~kept).sum())}
    manifest.results = {"report": report.to_dict(), "provenance": inherited_provenance(arguments.dataset_name)}
    if not arguments.dry_run:
        if done := skip_if_done(manifest, arguments.output_dir, arguments.overwrite):
            return done  # another command has made it meanwhile
        with replaced_folder(arguments.output_dir) as folder:
            write_selection(decided, pd_filter, manifest, folder)
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, str(report).splitlines())
    return StageResult("select", arguments.output_dir, manifest.counts, str(report).splitlines())


def _run_out_of_core(arguments: SelectArguments) -> StageResult:
    from ...selection.out_of_core import run_out_of_core

    if not arguments.dataset_name:
        raise InputError("No data: name parquet files, a pattern or a folder of them with --dataset_name.")
    pd_filter = check_select(arguments)
    if Path(arguments.dataset_name).expanduser().is_dir():
        pd_filter.proxy_metrics = _proxy_metrics(arguments.dataset_name)
        pd_filter.recorded_outputs = _recorded_outputs(arguments.dataset_name)
    return run_out_of_core(
        pd_filter, arguments.dataset_name, arguments.output_dir, overwrite=arguments.overwrite, dry_run=arguments.dry_run,
        num_threads=arguments.num_threads,
    )  # fmt: skip


def _hint_at_out_of_core(name: str | None) -> None:
    """Warns if the rows may not fit in memory, before they are read."""
    folder = Path(name).expanduser() if name else Path()
    files = [file for place in (folder / "scored", folder) for file in place.glob("*.parquet")] if name else []
    try:
        rows = sum(pq.read_metadata(file).num_rows for file in files)
    except (pa.ArrowInvalid, OSError):
        return  # the error comes when the rows are read
    if rows >= MANY_ROWS:
        logger.warning(
            "%s holds %d rows, whose ids and gaps are all read into memory. `--out_of_core true` makes the same selection in "
            "a fixed amount of memory.", name, rows,
        )  # fmt: skip


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
