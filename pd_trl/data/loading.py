"""From any source to pairs: open, convert, normalise, check, and give ids."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError, InputTypeError
from ..hub import split_revision
from .adapters import ADAPTERS, Adapter, Converted, Options, get_adapter, hub_adapter, recognize
from .chat import equal_text, text_kind
from .checks import first_reasons, raise_problems
from .columnar import dataset_table, table_dataset
from .forms import read_forms
from .labels import label_columns
from .normal_form import add_ids, column_order, id_problems, row_problems, unify_texts
from .pairing import check_pairing
from .prompts import warn_of_parts, with_system
from .readable import readable_rows, without_odd
from .sources import SourceLike, open_source

logger = logging.getLogger(__name__)

Pairing: TypeAlias = Literal["all", "adjacent", "best_worst", "random"]
OnInvalid: TypeAlias = Literal["error", "drop"]


@dataclass
class LoadReport:
    """
    Report of [`load_pairs`].

    Args:
        source (`str`):
            Name of the source.
        adapter (`str`):
            Adapter used.
        pairing (`str`, *optional*):
            Pairing rule used; `None` if each row of the source is a pair.
        rows (`int`):
            Rows of the source.
        skipped (`dict[str, int]`):
            Rows, prompts or responses that formed no pair, by reason.
        formed (`int`):
            Pairs formed: `kept` plus all of `dropped`.
        kept (`int`):
            Pairs returned.
        dropped (`dict[str, int]`):
            Pairs dropped, by reason. Each pair has one reason.
        identical (`int`):
            Returned pairs with two identical responses.
        labelled (`dict[str, int]`):
            Labelled pairs of each aspect (and `overall`), ties included.
        chat (`bool`):
            Whether the pairs are conversational.
        left_out (`list[str]`):
            Columns or fields of the source that were not passed through.
    """

    source: str
    adapter: str
    pairing: str | None
    rows: int
    skipped: dict[str, int]
    formed: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    identical: int = 0
    labelled: dict[str, int] = field(default_factory=dict)
    chat: bool = False
    left_out: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dictionary that JSON can hold."""
        return asdict(self)


def _filter(columns: dict[str, pa.ChunkedArray], keep: np.ndarray) -> dict[str, pa.ChunkedArray]:
    mask = pa.chunked_array([pa.array(keep)])
    return {name: column.filter(mask) for name, column in columns.items()}


def resolve(
    name_or_path: Any, adapter: str | None, config: str | None, mapping: Mapping[str, str] | None, split: str
) -> tuple[Adapter | None, Mapping[str, Any], str | None]:
    """Returns the given adapter, if any, and the names of the configuration and the split on the Hub."""
    chosen = None
    if mapping is not None:
        if adapter not in (None, "columns"):
            raise InputError(f"column_mapping needs adapter='columns' (or none), but adapter is {adapter!r}.")
        chosen = ADAPTERS["columns"]
    elif adapter is not None:
        chosen = get_adapter(adapter)
    hub_id = split_revision(name_or_path)[0] if isinstance(name_or_path, str) else None
    served = hub_adapter(hub_id)
    if served is None or hub_id is None:
        return chosen, {}, None
    keys = {served_id.lower(): names for served_id, names in served.hub_splits.items()}
    names = keys.get(f"{hub_id}/{config}".lower() if config else hub_id.lower(), {})
    base = split.split("[")[0]
    hub_split = split.replace(base, names[base], 1) if base in names else None
    return chosen, served.load_kwargs.get(config or "", {}), hub_split


def read_pairs(
    name_or_path: SourceLike,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    adapter: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    pairing: Pairing | None = None,
    on_invalid: OnInvalid = "error",
    rating_range: tuple[float, float] | None = None,
    seed: int = 42,
    num_proc: int | None = None,
) -> tuple[datasets.Dataset, LoadReport]:
    """
    Returns pairs, and the report of what was read, skipped, dropped and kept. For the arguments see [`load_pairs`].
    """
    if on_invalid not in ("error", "drop"):
        raise InputError(f"on_invalid must be 'error' or 'drop', but got {on_invalid!r}.")
    if pairing is not None:
        check_pairing(pairing)
    if column_mapping is not None and not isinstance(column_mapping, Mapping):
        raise InputTypeError(f"column_mapping must be a dictionary, but got a {type(column_mapping).__name__}.")
    chosen, load_kwargs, hub_split = resolve(name_or_path, adapter, config, column_mapping, split)
    source = open_source(
        name_or_path,
        split=split,
        config=config,
        revision=revision,
        num_proc=num_proc,
        load_kwargs=load_kwargs,
        hub_split=hub_split,
    )
    table = dataset_table(source.dataset)
    num_rows = len(table)
    table, invalid, unreadable = readable_rows(table, source, on_invalid)
    table, odd = read_forms(table, column_mapping)
    if odd and on_invalid == "error":
        raise_problems(odd, len(table), "Mend them, or drop them with on_invalid='drop'.")
    if chosen is None:
        chosen = recognize({field.name: field.type for field in table.schema}, source.hub_id, source.name)
    if chosen.pairing is None and pairing is not None:
        raise InputError(
            f"pairing={pairing!r} is for sources with several responses per prompt, but each row of {source.name} "
            f"(adapter {chosen.name!r}) is one pair already. Leave pairing out."
        )
    rule = pairing or chosen.pairing
    table, more = without_odd(table, odd, invalid, source, by_two=rule == chosen.pairing == "adjacent")
    unreadable |= more
    converted = chosen.convert(table, Options(rule or "all", seed, split, column_mapping, on_invalid))
    skipped = unreadable | converted.skipped
    report = LoadReport(source.name, chosen.name, rule, num_rows, skipped, left_out=converted.left_out)
    if len(converted.table) == 0:
        raise InputError(f"{source.name} ({num_rows:,} rows) gives no pairs: {skipped}.")
    columns = _finish(converted, rating_range or chosen.rating_range, on_invalid, report)
    pairs = pa.table({name: columns[name] for name in column_order(columns)})
    _log(report)
    return table_dataset(pairs, source.dataset.features), report


def _finish(
    converted: Converted, rating_range: tuple[float, float] | None, on_invalid: str, report: LoadReport
) -> dict[str, pa.ChunkedArray]:
    """Normalises the columns of an adapter, checks them, and fills in the report."""
    table, found = converted.table, dict(converted.problems)
    columns = unify_texts({name: table.column(name) for name in table.column_names}, found)
    columns = with_system(columns, found)
    warn_of_parts(columns)
    columns |= label_columns(columns, rating_range, found if on_invalid == "drop" else None)
    found |= row_problems(columns)
    if on_invalid == "drop":
        found |= id_problems(columns)
    report.formed = report.kept = len(table)
    if found:
        if on_invalid == "error":
            raise_problems(found, len(table), "Fix these rows, or drop them with on_invalid='drop'.", unit="pair")
        invalid, report.dropped = first_reasons(found, len(table))
        report.kept = int((~invalid).sum())
        if report.kept == 0:
            raise InputError(f"No pair of {report.source} is left: {report.dropped}.")
        columns = _filter(columns, ~invalid)
    columns = add_ids(columns)
    report.identical = int(equal_text(columns["response_a"], columns["response_b"]).sum())
    report.chat = text_kind(columns["prompt"].type) == "chat"
    report.labelled = {
        name.removeprefix("pref_"): len(column) - column.null_count
        for name, column in columns.items()
        if name.startswith("pref_")
    }
    return columns


def _log(report: LoadReport) -> None:
    logger.info(
        "%s: %d rows (adapter %s, pairing %s), %d pairs formed, %d kept.",
        report.source,
        report.rows,
        report.adapter,
        report.pairing,
        report.formed,
        report.kept,
    )
    for reason, count in report.skipped.items():
        logger.warning("%s: %d %s formed no pair.", report.source, count, reason)
    for reason, count in report.dropped.items():
        logger.warning("%s: %d pairs dropped, %s.", report.source, count, reason)
    if report.identical:
        logger.warning("%s: %d pairs have two identical responses.", report.source, report.identical)
    for aspect, count in report.labelled.items():
        if count == 0:
            logger.warning("%s: aspect %r has no labelled pair.", report.source, aspect)
    if report.left_out:
        logger.info("%s: not passed through: %s.", report.source, ", ".join(report.left_out))


def load_pairs(
    name_or_path: SourceLike,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    adapter: str | None = None,
    column_mapping: Mapping[str, str] | None = None,
    pairing: Pairing | None = None,
    on_invalid: OnInvalid = "error",
    rating_range: tuple[float, float] | None = None,
    seed: int = 42,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """
    Loads preference data of any known schema as pairs of responses with labels per aspect.

    Args:
        name_or_path (`str`, path, list of paths, or `Dataset`):
            A dataset id on the Hub (with a revision: `"me/data@v1"`), a local folder, parquet, jsonl, json (.gz
            and .jsonl.zst too), csv or tsv files, a dataset in memory, or `"sample"`: 150 readable pairs that come with
            the package, for demonstration. A file or folder called `sample` in the working directory goes before it,
            with a warning.
        split (`str`, defaults to `"train"`):
            Split to load, with slicing as in `datasets` (`"train[:1000]"`).
        config (`str`, *optional*):
            Configuration, e.g. `"preference"` of nvidia/HelpSteer2.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        adapter (`str`, *optional*):
            Name of one of `ADAPTERS`; else chosen by the Hub id, or by the columns.
        column_mapping (`Mapping[str, str]`, *optional*):
            Our names to the names in the source: `prompt`, `response_a` and `response_b` (or `chosen` and `rejected`),
            `prompt_id`, `pair_id`, `aspect`, `rating_<aspect>_a`, `rating_<aspect>_b`, `pref_<aspect>` (1 = a better,
            0 = b better, 0.5 = tie). Other columns pass through.
        pairing (`str`, *optional*):
            How more than two responses to a prompt become pairs. `"all"`: all unordered pairs (default of
            UltraFeedback and HelpSteer). `"adjacent"`: neighbours (default of HelpSteer2, whose rows 2i and 2i+1 are a
            pair). `"best_worst"`: the best and the worst by the overall score, or else by the mean rating. `"random"`:
            one pair per prompt.
        on_invalid (`str`, defaults to `"error"`):
            What happens to rows that cannot be used: null or empty texts, malformed conversations, messages that can
            be read only in part, ratings that are not numbers or out of range, bytes that are not text. `"error"`
            raises an error that names them. `"drop"` drops them with a count and a reason.
        rating_range (`tuple[float, float]`, *optional*):
            Lowest and highest rating of an aspect. Ratings outside cannot be used. Known for the public sources.
        seed (`int`, defaults to `42`):
            Seed of `pairing="random"`.
        num_proc (`int`, *optional*):
            Processes that read files.

    Returns:
        `Dataset`: Pairs with `pair_id`, `prompt_id`, `prompt`, `response_a`, `response_b`, `rating_<aspect>_a`,
        `rating_<aspect>_b`, `pref_<aspect>`, and the other columns of the source, in memory. If the source has its own
        chosen and rejected responses, the chosen one is side a, and `label_aspect` names the aspect of that label
        (usually `overall`). An `instruction` is followed by its `input`. The text of a `system` column becomes the
        prompt's system message.

    Raises:
        InputTypeError: If an argument or a column has the wrong type.
        InputError: If the source cannot be read, its schema is not known, or values cannot be used.
    """
    return read_pairs(
        name_or_path,
        split=split,
        config=config,
        revision=revision,
        adapter=adapter,
        column_mapping=column_mapping,
        pairing=pairing,
        on_invalid=on_invalid,
        rating_range=rating_range,
        seed=seed,
        num_proc=num_proc,
    )[0]
