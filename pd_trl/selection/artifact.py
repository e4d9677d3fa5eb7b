"""What `select` leaves: both parts, the filter, the report and the manifest."""

from pathlib import Path

from datasets import Dataset

from ..runs.artifacts import Manifest, write_json, write_rows
from ..runs.identity import settings_key
from .reasons import split_kept
from .filter import FILTER_NAME, PDFilter

IDENTITY = ("budget", "source", "gamma", "weights", "per_aspect", "selector", "margin_column", "pd_column",
             "min_proxy_accuracy", "seed", "on_no_votes")  # fmt: skip


def selection_manifest(pd_filter: PDFilter, scored: str) -> Manifest:
    """What a selection of data with the key `scored` will have done: the rows count whole, for they are what it writes."""
    arguments = {name: getattr(pd_filter, name) for name in IDENTITY}
    inputs = {"scored": scored}
    if pd_filter.proxy_metrics:
        inputs["proxy_metrics"] = settings_key(pd_filter.proxy_metrics)
    return Manifest("select", inputs=inputs, arguments={**arguments, "weights": dict(pd_filter.weights) or None})


def write_selection(decided: Dataset, pd_filter: PDFilter, manifest: Manifest, folder: Path) -> None:
    """Writes a selection into an empty folder: both parts, the filter's statistics, the report, and the manifest."""
    for name, rows in zip(("selected", "dropped"), split_kept(decided), strict=True):
        write_rows(rows, folder / name)
    write_documents(pd_filter, manifest, folder)


def write_documents(pd_filter: PDFilter, manifest: Manifest, folder: Path) -> None:
    """Writes what lies beside the rows of a selection: the filter's statistics, the report, and the manifest."""
    pd_filter.save(folder / FILTER_NAME)
    if pd_filter.report_ is not None:
        write_json(folder / "report.json", pd_filter.report_.to_dict())
        (folder / "report.txt").write_text(f"{pd_filter.report_}\n", encoding="utf-8")
    manifest.save(folder)
