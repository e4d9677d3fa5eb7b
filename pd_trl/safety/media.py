"""Columns of images, sounds and the like: they are carried along as bytes, and never fetched from where they say they are."""

import importlib.util
import io
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InputError

_ROWS = 1000


def media_columns(features: datasets.Features | None) -> list[str]:
    """Names of the columns that hold media, alone or inside lists and mappings."""
    return [name for name, feature in (features or {}).items() if _holds_media(feature)]


def check_media(dataset: datasets.Dataset, name: str) -> datasets.Dataset:
    """
    Returns `dataset` where all its media are there as bytes.

    Args:
        dataset ([`~datasets.Dataset`]): Rows that were read.
        name (`str`): What to call them in messages.

    Raises:
        InputError: Where a value only says where it lies. To read it would be to fetch an address, or a file of this machine, that
            the author of the data chose.
    """
    columns = media_columns(dataset.features)
    if columns:
        row = 0
        for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=_ROWS):
            check_media_table(table, dataset.features, name, row)
            row += table.num_rows
    return dataset


def check_media_table(
    table: pa.Table | pa.RecordBatch, features: datasets.Features, name: str, first_row: int = 0
) -> None:
    """[`check_media`] of a part of the rows, which starts at `first_row`."""
    for column in media_columns(features):
        if column not in table.schema.names:
            continue
        values = table.column(column)
        chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
        bare = np.concatenate([np.zeros(0, bool), *(_named_only(chunk, features[column]) for chunk in chunks)])
        rows = np.flatnonzero(bare)
        if rows.size:
            raise InputError(
                f"Column {column!r} of {name} must hold its media as bytes, but row {first_row + rows[0]} only names a place "
                f"({rows.size} such rows in this part), and nothing is fetched from there. Remove the column, or store the bytes: "
                "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)."
            )


def without_media(dataset: datasets.Dataset) -> datasets.Dataset:
    """`dataset` without its columns of media, which reading a row would decode."""
    columns = media_columns(dataset.features)
    return dataset.remove_columns(columns) if columns else dataset


def check_images(dataset: datasets.Dataset, columns: list[str], name: str) -> None:
    """
    Raises `InputError` where the bytes of one of these columns, images or lists of them, are no image. Columns that are not
    declared to hold media are passed over.
    """
    columns = [column for column in columns if column in media_columns(dataset.features)]
    if not importlib.util.find_spec("PIL"):
        return
    row = 0
    for table in dataset.select_columns(columns).with_format("arrow").iter(batch_size=_ROWS) if columns else ():
        for column in columns:
            for index, value in enumerate(table.column(column).to_pylist()):
                if not _opens(value):
                    raise InputError(
                        f"Column {column!r} of {name} must hold images, but the bytes in row {row + index} are none that can be read. "
                        "Mend or remove the row, or remove the column."
                    )
        row += table.num_rows


def _opens(value: Any) -> bool:
    """Whether the bytes of an image, or of each of a list, begin as those of an image do. Its pixels are not read."""
    if isinstance(value, list):
        return all(map(_opens, value))
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        return True
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def undecoded(stream: datasets.IterableDataset) -> datasets.IterableDataset:
    """`stream` with its media as bytes and names, which reading a row of it would otherwise decode."""
    return stream.decode(False) if media_columns(stream.features) else stream


def undecoded_batches(dataset: datasets.Dataset, batch_size: int = _ROWS) -> Iterator[dict[str, list[Any]]]:
    """The rows in batches of columns, as plain Python values; media as their bytes and names."""
    if not media_columns(dataset.features):
        yield from dataset.with_format(None).iter(batch_size=batch_size)
        return
    for table in dataset.with_format("arrow").iter(batch_size=batch_size):
        yield table.to_pydict()


def _holds_media(feature: Any) -> bool:
    if isinstance(feature, dict):
        return any(_holds_media(entry) for entry in feature.values())
    if isinstance(feature, (list, tuple)):
        return any(_holds_media(entry) for entry in feature)
    inner = getattr(feature, "feature", None)
    return _holds_media(inner) if inner is not None else hasattr(feature, "embed_storage")


def _named_only(values: pa.Array, feature: Any) -> NDArray[np.bool_]:
    """Which values name a place of media whose bytes are not there."""
    found = np.zeros(len(values), dtype=bool)
    if not len(values) or not _holds_media(feature):
        return found
    if isinstance(feature, dict):
        for name, entry in feature.items():
            found |= _named_only(pc.struct_field(values, name), entry)
        return found
    inner = feature[0] if isinstance(feature, (list, tuple)) else getattr(feature, "feature", None)
    if inner is not None:
        parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        found[parents[_named_only(pc.list_flatten(values), inner)]] = True
        return found
    if not pa.types.is_struct(values.type):
        # Media stored as texts are names, and as bytes are themselves.
        is_name = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return np.asarray(values.is_valid()) if is_name else found
    content, place = (pc.struct_field(values, name) for name in ("bytes", "path"))
    return np.asarray(pc.and_(content.is_null(), place.is_valid()))
