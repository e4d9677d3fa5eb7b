"""[`select_out_of_core`]: a selection from more rows than memory holds."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest, read_json, replaced_folder, write_json
from ...runs.folders import beside, folder_lock
from ...runs.provenance import inherited_provenance
from ...runs.stage_folders import StageResult, check_folder, dry_result, owned_folder, skip_if_done, timed
from ..artifact import selection_manifest, write_documents
from ..fitted import FittedFilter
from ..report_sums import FORM
from ..settings import SelectionSettings
from .decision import Decision
from .ids import check_unique
from .overlaps import OVERLAP_ROWS, overlaps
from .parquet import ParquetSource
from .passes import Selection
from .search import Budgets
from .source import RowSource
from .writing import ROWS_PER_SHARD, BatchDecider, close_parts, output_schema, shard_tasks, summed, write_parts

_STATE = "state.json"
# Files of the working folder that a finished selection does not keep.
_SCRATCH = ("ids", "sums", _STATE, ".pd_trl_stage", ".pd_trl_lock")

Data = str | os.PathLike | Sequence[str | os.PathLike]


def select_out_of_core(
    data: Data,
    output_dir: str | os.PathLike,
    budget: float | int = SelectionSettings.budget,
    *,
    proxy_metrics: Mapping[str, Mapping[str, float]] | None = None,
    overwrite: bool = False,
    num_threads: int | None = None,
    **settings: Any,
) -> Manifest:
    """
    Selects from parquet files that need not fit in memory. Pairs, scales, thresholds and `pd` are the same as by
    [`PDFilter`]. Two passes read the gap columns, a third writes into `output_dir` what `pd-trl select` writes. After
    a kill, the same call writes only the missing shards.

    Args:
        data (`str`, path, or list of them):
            Parquet files, patterns, folders (also of `pd-trl score`), or urls of these that fsspec opens, such as
            `"hf://datasets/me/data@main/scored/*.parquet"`.
        output_dir (`str`):
            Folder of the result: `selected/`, `dropped/`, `filter.json`, `selection.sql`, `report.json`, `report.txt` and the manifest. Until it
            is complete, the result grows in the hidden folder `.<name>.partial` beside it.
        budget (`float` or `int`, *optional*, defaults to `0.3`):
            See [`PDFilter`].
        proxy_metrics (`dict`, *optional*):
            See [`PDFilter`].
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
        num_threads (`int`, *optional*):
            Threads. `None` is one per core, 8 at most. Each holds one batch of rows.
        settings:
            The settings of [`PDFilter`] that decide which pairs are kept: `source`, `gamma`, `weights`, `per_aspect`, `selector`,
            `margin_column`, `pd_column`, `min_proxy_accuracy`, `on_no_votes` and `seed`.

    Returns:
        [`Manifest`]: counts, arguments and, in `results`, the report without `overlap`.

    Raises:
        InputError: On whatever [`PDFilter`] refuses, and on files whose columns differ.
    """
    given = SelectionSettings(budget, **settings)
    pd_filter = FittedFilter(**given.to_dict(), proxy_metrics=proxy_metrics)
    run_out_of_core(pd_filter, data, output_dir, overwrite=overwrite, num_threads=num_threads)
    manifest = Manifest.load(Path(output_dir).expanduser())
    if manifest is None:
        raise InputError(f"{output_dir} was removed while the selection ran.")
    return manifest


def run_out_of_core(
    pd_filter: FittedFilter,
    data: Data,
    output_dir: str | os.PathLike,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    num_threads: int | None = None,
    batch_rows: int | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    budgets: Budgets | None = None,
    source: RowSource | None = None,
    overlap: bool = False,
) -> StageResult:
    """
    [`select_out_of_core`] by a filter, as a stage that is skipped if it is done. `source` gives the rows of `data` where they are
    opened already; with `overlap`, the report says how many pairs rival selections keep too, unless there are too many rows.
    """
    options = {} if batch_rows is None else {"batch_rows": batch_rows, "rows_per_unit": 4 * batch_rows}
    if source is None:
        source = ParquetSource(data, num_threads=num_threads, **options)
    overlap = overlap and source.num_rows <= OVERLAP_ROWS
    folder = Path(output_dir).expanduser()
    if not dry_run:
        check_folder("select", folder, [path for system, path in source.files if system is None])
    manifest = selection_manifest(pd_filter, source.digest())
    with nullcontext() if dry_run else folder_lock(folder):
        return _held(pd_filter, source, manifest, data, folder, overwrite, dry_run, rows_per_shard, budgets, overlap)


def _held(
    pd_filter: FittedFilter, source: RowSource, manifest: Manifest, data: Data, folder: Path, overwrite: bool, dry_run: bool,
    rows_per_shard: int, budgets: Budgets | None, overlap: bool,
) -> StageResult:  # fmt: skip
    """Makes the selection in a folder that no other command writes to."""
    done = None if dry_run else skip_if_done(manifest, folder, overwrite)
    if done:
        return done
    selection = Selection(pd_filter, source, budgets)
    name = os.fspath(data) if isinstance(data, (str, os.PathLike)) else None
    manifest.results = {"provenance": inherited_provenance(name) if name and "://" not in name else {}}
    if dry_run:
        decision = selection.decide()
        decider = BatchDecider(selection, decision)
        pd_filter.report_ = selection.report(summed(decider), overlaps(decider) if overlap else None)
        return dry_result(manifest, str(folder), _counts(decision), _lines(pd_filter))
    partial = beside(folder, "partial")
    check_folder("select", partial, [])
    with owned_folder("select", partial, overwrite=False, exclusive=False):
        try:
            with timed(manifest):
                _write(selection, manifest, partial, rows_per_shard, overlap)
        except InputError:
            _remove(partial.parent)  # the rows are refused: the same command would not go on either
            raise
        for scratch in _SCRATCH:
            _remove(partial / scratch)
        write_documents(pd_filter, manifest, partial)
    with replaced_folder(folder) as place:
        place.rmdir()
        os.replace(partial, place)
    _remove(partial.parent)
    return StageResult("select", str(folder), manifest.counts, _lines(pd_filter))


def _write(selection: Selection, manifest: Manifest, folder: Path, rows_per_shard: int, overlap: bool) -> None:
    source, pd_filter = selection.source, selection.filter
    decision = _decision(selection, manifest, folder, rows_per_shard)
    tasks = shard_tasks(source, rows_per_shard)
    decider = BatchDecider(selection, decision)
    sums = write_parts(decider, tasks, folder)
    check_unique(source, sorted((folder / "ids").glob("*.npy")), decision.total)
    close_parts(folder, sums, output_schema(source.schema, selection.writes_divergence))
    pd_filter.report_ = selection.report(sums, overlaps(decider) if overlap else None)
    manifest.counts = _counts(decision)
    manifest.results = {"report": pd_filter.report_.to_dict(), **manifest.results}


def _decision(selection: Selection, manifest: Manifest, folder: Path, rows_per_shard: int) -> Decision:
    """The decision of an interrupted run of the same selection, or a new one in an empty folder."""
    key = f"{manifest.key} {rows_per_shard} {FORM}"
    state = read_json(folder / _STATE) if (folder / _STATE).exists() else {}
    if state.get("key") == key:
        decision = Decision.from_dict(state["decision"])
        selection.resume(decision)
        return decision
    _clear(folder)
    decision = selection.decide()
    write_json(folder / _STATE, {"key": key, "decision": decision.to_dict()})
    return decision


def _clear(folder: Path) -> None:
    for name in ("selected", "dropped", *_SCRATCH[:3]):
        _remove(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _counts(decision: Decision) -> dict[str, int]:
    return {"total": decision.total, "kept": decision.kept, "dropped": decision.total - decision.kept}


def _lines(pd_filter: FittedFilter) -> list[str]:
    report = pd_filter.report_
    lines = str(report).splitlines()
    missing = report.to_dict().get("not_computed") if report is not None else None
    return [*lines, "", f"Not computed out of core: {', '.join(missing)}"] if missing else lines
