"""[`write_report`]: reads a selection, and writes its page."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from ..data.columnar import arrow_column, as_mask
from ..errors import InputError, InputTypeError
from ..hub import dataset_snapshot
from ..runs.artifacts import MANIFEST_NAME, Manifest, read_rows
from ..selection.filter import PDFilter
from ..selection.filter_file import FILTER_NAME
from ..text.names import MAX_NAME, display_name, display_names
from .decision import decision_of
from .examples import MAX_GAPS, sample_examples
from .facts import page_facts
from .page import render_page
from .ranked import RankedPairs, packed, rank_pairs

PAGE_NAME = "report.html"
MAX_EXAMPLES = 1000


@dataclass
class Selection:
    """
    Pairs with a decision, and the filter that made it.

    Args:
        decided ([`~datasets.Dataset`]): All pairs, with `pd`, `pd_kept` and `pd_reason`.
        pd_filter ([`PDFilter`]): The filter, with its report.
        numbers (`dict`): Numbers of its [`SelectionReport`].
        text (`str`): The report as text.
        provenance (`dict`): The source, from the manifest.
        name (`str`): Name of the selection, for the title.
    """

    decided: Dataset
    pd_filter: PDFilter
    numbers: dict[str, Any]
    text: str
    provenance: dict[str, Any]
    name: str

    @cached_property
    def ranked(self) -> RankedPairs:
        """The pairs in the order of the filter's ranking."""
        return rank_pairs(self.decided, self.pd_filter)


def write_report(
    source: str | os.PathLike | Dataset,
    path: str | os.PathLike,
    *,
    pd_filter: PDFilter | None = None,
    title: str | None = None,
    max_examples: int = MAX_EXAMPLES,
) -> Path:
    """
    Writes the report of a selection as one HTML page, which needs no server and no network.

    On the page, a slider changes the budget. It shows what would be kept, by aspect and by votes, how much the other
    aspects agree, and how long the kept responses are. The page holds the numbers (not the texts) of every pair, so
    the counts are exact at every budget, and at the filter's budget they equal the filter's. A sample of the pairs can
    be searched and read.

    Args:
        source (`str` or [`~datasets.Dataset`]):
            Folder of `pd-trl select` or of a whole run, the Hub id of a published selection, or scored pairs, on which
            `pd_filter` is then fitted.
        path (`str`):
            HTML file to write.
        pd_filter ([`PDFilter`], *optional*):
            Filter for a `Dataset`. `None` is `PDFilter()`.
        title (`str`, *optional*):
            Title of the page. `None` takes it from the data.
        max_examples (`int`, *optional*, defaults to `1000`):
            Maximum number of pairs to show with their texts. There are fewer if the texts would take more than 2.4 MB.

    Returns:
        `Path`: `path`.

    Raises:
        InputError: If the folder is not one of `pd-trl select`, its rows and filter do not belong together, or
            Bokeh is missing.
    """
    return write_page(read_selection(source, pd_filter), path, title=title, max_examples=max_examples)


def write_page(
    selection: Selection, path: str | os.PathLike, *, title: str | None = None, max_examples: int = MAX_EXAMPLES
) -> Path:
    """Writes the page of a selection that has been read; see [`write_report`]."""
    check_max_examples(max_examples)
    ranked, pd_filter = selection.ranked, selection.pd_filter
    decision = decision_of(selection.decided, ranked, pd_filter)
    layout, numbers = packed({**ranked.columns, **decision.columns})
    aspects = ranked.matrix.names if ranked.matrix is not None else []
    examples = sample_examples(selection.decided, ranked, max_examples, pd_filter.seed)
    facts = page_facts(ranked, pd_filter, selection.numbers, selection.provenance)
    record = {
        "total": len(ranked.rows),
        "kept": ranked.kept,
        "selector": pd_filter.selector,
        "budget_is_share": isinstance(pd_filter.budget, float),
        "groups": {key: list(display_names(names).values()) for key, names in ranked.groups.items()},
        "voters": facts["voters"],
        "layout": layout,
        "aspects": [display_name(name) for name in aspects[:MAX_GAPS]],
        "delta_unit": "tokens" if "delta_length" in selection.decided.column_names else "characters",
        "examples": examples,
        "decision": decision.record,
    }
    text = render_page(
        {
            **facts,
            "title": display_name(title or f"Selection report: {display_name(selection.name)}", 2 * MAX_NAME),
            "report_text": selection.text,
            "shown": len(examples["rank"]),
            "columns": sorted(ranked.columns),
            "aspects": aspects,
            "gaps_shown": min(len(aspects), MAX_GAPS),
            "findable": bool(decision.ids),
            "decision": decision.record,
        },
        blocks={
            "numbers": numbers,
            "record": json.dumps(record, allow_nan=False).encode(),
            "ids": json.dumps(decision.ids).encode(),
        },
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def check_max_examples(value: object) -> None:
    """Raises `InputError` unless `value` is a whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"`max_examples` must be a whole number of at least 0, got {value!r}.")


def read_selection(source: str | os.PathLike | Dataset, pd_filter: PDFilter | None = None) -> Selection:
    """The selection in a folder of `pd-trl select`, or the one that `pd_filter` makes from scored pairs."""
    if isinstance(source, Dataset):
        pd_filter = pd_filter or PDFilter()
        decided = pd_filter.fit_transform(source)
        return _selection(decided, pd_filter, {}, "pairs")
    if not isinstance(source, (str, os.PathLike)):
        raise InputTypeError(
            f"A report needs a folder of `pd-trl select` or a `Dataset`, got {type(source).__name__}."
        )
    if pd_filter is not None:
        raise InputError("A folder of `pd-trl select` has its own filter: pass `pd_filter` only with a `Dataset`.")
    folder = local_selection(source)
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "select":
        found = f"holds the results of '{manifest.stage}'" if manifest is not None else "holds no results"
        raise InputError(f"{source} must be a folder of `pd-trl select`, but it {found}. Run `pd-trl select` first.")
    # A part without rows is not published.
    given = [name for name, count in (("selected", "kept"), ("dropped", "dropped")) if manifest.counts.get(count) != 0]
    parts = [part for name in given if len(part := read_rows(folder / name))]
    decided = concatenate_datasets(parts)
    counts = {"total": len(decided), "kept": int(as_mask(arrow_column(decided, "pd_kept")).sum())}
    changed = {name: count for name, count in counts.items() if manifest.counts.get(name) != count}
    if changed:
        found = ", ".join(f"{name} {count} instead of {manifest.counts.get(name)}" for name, count in changed.items())
        raise InputError(f"The rows in {source} do not match its manifest: {found}. Run `pd-trl select` again.")
    provenance = manifest.results.get("provenance") or {}
    origin = provenance.get("source") or {}
    name = origin.get("dataset") or origin.get("name") or folder.absolute().name
    return _selection(decided, PDFilter.load(folder / FILTER_NAME), provenance, str(name))


def local_selection(source: str | os.PathLike) -> Path:
    """The folder of a selection: of `pd-trl select`, inside a run's folder, or published on the Hub."""
    folder = Path(source).expanduser()
    if folder.exists():
        return folder / "select" if (folder / "select" / MANIFEST_NAME).is_file() else folder
    text = str(source)
    if folder.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1:
        raise InputError(
            f"{text} must be a folder of `pd-trl select`, or the Hub id of a published one, but there is none."
        )
    files = [MANIFEST_NAME, FILTER_NAME, "report.*", "selected/*", "dropped/*"]
    return dataset_snapshot(text, what="selection", files=files)


def _selection(decided: Dataset, pd_filter: PDFilter, provenance: dict[str, Any], name: str) -> Selection:
    report = pd_filter.report_
    if report is None:
        raise InputError("The filter has no report: run `pd-trl select` again.")
    return Selection(decided, pd_filter, report.to_dict(), str(report), provenance, name)
