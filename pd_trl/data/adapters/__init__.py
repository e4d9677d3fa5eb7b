"""Adapters of public preference datasets to pairs, by name."""

from collections.abc import Mapping

import pyarrow as pa

from ...errors import InputError
from ..columnar import closest
from . import binarized, columns, helpsteer, helpsteer3, lists, responses, saferlhf, ultrafeedback
from .base import Adapter, Converted, Options

ADAPTERS: dict[str, Adapter] = {
    "ultrafeedback": ultrafeedback.ADAPTER,
    "helpsteer": helpsteer.HELPSTEER,
    "helpsteer2": helpsteer.HELPSTEER2,
    "helpsteer2_preference": helpsteer.HELPSTEER2_PREFERENCE,
    "helpsteer3": helpsteer3.ADAPTER,
    "saferlhf": saferlhf.ADAPTER,
    "binarized": binarized.ADAPTER,
    "columns": columns.ADAPTER,
    "responses": responses.ADAPTER,
    "lists": lists.ADAPTER,
}


def get_adapter(name: str) -> Adapter:
    """Returns the adapter of this name, or raises [`InputError`] listing the names."""
    if name not in ADAPTERS:
        raise InputError(f"Unknown adapter {name!r}.{closest(name, list(ADAPTERS))} Adapters: {', '.join(ADAPTERS)}.")
    return ADAPTERS[name]


def hub_adapter(hub_id: str | None) -> Adapter | None:
    """Returns the adapter that serves a Hub id, if any."""
    if hub_id is None:
        return None
    for adapter in ADAPTERS.values():
        if hub_id.lower() in (served.lower() for served in adapter.hub_ids):
            return adapter
    return None


def recognize(fields: Mapping[str, pa.DataType], hub_id: str | None, where: str) -> Adapter:
    """
    Returns the adapter for a source: by its Hub id, or else by its columns.

    Args:
        fields (`Mapping[str, pa.DataType]`):
            Columns of the source and their Arrow types.
        hub_id (`str`, *optional*):
            Its id on the Hub.
        where (`str`):
            Name of the source in error messages.

    Raises:
        InputError: If no adapter fits, or more than one does.
    """
    served = hub_adapter(hub_id)
    if served is not None and (served.matches(fields) or set(served.columns) <= set(fields)):
        return served
    matching = [adapter for adapter in ADAPTERS.values() if adapter.matches(fields)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = [adapter.name for adapter in matching]
        raise InputError(
            f"{where} fits several adapters: {', '.join(names)}. Choose one, e.g. adapter={names[0]!r}, or name the "
            "columns with column_mapping."
        )
    nearest = max(
        ADAPTERS.values(), key=lambda adapter: len(set(adapter.columns) & set(fields)) / len(adapter.columns)
    )
    absent = [name for name in nearest.columns if name not in fields]
    raise InputError(
        f"{where} has an unknown schema. Its columns are {list(fields)}; the closest adapter is "
        f"{nearest.name!r}, which also expects {absent}. Name the columns yourself, e.g. column_mapping={{'prompt': "
        "'<column>', 'response_a': '<column>', 'response_b': '<column>', 'rating_<aspect>_a': '<column>', "
        "'rating_<aspect>_b': "
        "'<column>'}, with 'pref_<aspect>' (1 = a better, 0 = b better) where there are no ratings, or "
        "'chosen' and 'rejected' for the responses."
    )


__all__ = ["ADAPTERS", "Adapter", "Converted", "Options", "get_adapter", "hub_adapter", "recognize"]
