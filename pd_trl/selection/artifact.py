"""What `select` leaves: both parts, the filter, the report and the manifest."""

from pathlib import Path

from datasets import Dataset

from ..runs.artifacts import Manifest, write_json, write_rows
from ..runs.identity import settings_key
from .filter_file import FILTER_NAME
from .fitted import FittedFilter
from .reasons import split_kept
from .sql import shown_sql

SQL_NAME = "selection.sql"


def selection_manifest(pd_filter: FittedFilter, scored: str) -> Manifest:
    """The manifest of a selection from data with the key `scored`, which covers whole rows: the selection writes them."""
    inputs = {"scored": scored}
    if pd_filter.proxy_metrics:
        inputs["proxy_metrics"] = settings_key(pd_filter.proxy_metrics)
    settings = pd_filter.to_dict()
    return Manifest("select", inputs=inputs, arguments={**settings, "weights": settings["weights"] or None})


def write_selection(decided: Dataset, pd_filter: FittedFilter, manifest: Manifest, folder: Path) -> None:
    """Writes a selection into an empty folder: both parts, the filter's statistics, the report, and the manifest."""
    for name, rows in zip(("selected", "dropped"), split_kept(decided), strict=True):
        write_rows(rows, folder / name)
    write_documents(pd_filter, manifest, folder)


def write_documents(pd_filter: FittedFilter, manifest: Manifest, folder: Path) -> None:
    """Writes what lies beside the rows of a selection: the filter's statistics, the report, and the manifest."""
    pd_filter.save(folder / FILTER_NAME)
    if sql := shown_sql(pd_filter):
        (folder / SQL_NAME).write_text(
            "-- DuckDB: true for the pairs that this selection keeps, over the columns of the scored pairs.\n"
            f"-- Other databases: PDFilter.load(FOLDER).to_sql('spark') or 'bigquery'.\n{sql}\n",
            encoding="utf-8",
        )
    if pd_filter.report_ is not None:
        write_json(folder / "report.json", pd_filter.report_.to_dict())
        (folder / "report.txt").write_text(f"{pd_filter.report_}\n", encoding="utf-8")
    manifest.save(folder)
