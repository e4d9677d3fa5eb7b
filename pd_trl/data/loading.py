"""From any source to pairs: open, convert, normalise, check, and give ids."""

from collections.abc import Mapping
from typing import Any

import datasets

from ..errors import InputError, InputTypeError
from ..hub import split_revision
from .adapters import ADAPTERS, Adapter, Options, get_adapter, hub_adapter
from .opened import LoadReport, OnInvalid, OpenedPairs, Pairing
from .pairing import check_pairing
from .sources import SourceLike, open_source


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


def read_pairs(name_or_path: SourceLike, **arguments: Any) -> tuple[datasets.Dataset, LoadReport]:
    """
    Returns pairs, and the report of what was read, skipped, dropped and kept. For the arguments see [`load_pairs`].
    """
    return open_pairs(name_or_path, **arguments).pairs()


def open_pairs(
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
) -> OpenedPairs:
    """Opens a source of pairs. For the arguments see [`load_pairs`]."""
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
    return OpenedPairs(source, chosen, pairing, Options("all", seed, split, column_mapping, on_invalid), rating_range)


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
