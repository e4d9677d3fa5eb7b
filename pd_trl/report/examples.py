"""A sample of kept and dropped pairs to read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.id_columns import row_ids
from ..safety.media import without_media
from ..text.names import display_name, display_names
from .ranked import RankedPairs

# Longest text shown, in characters, and bytes of all texts together. They bound the size of the page.
MAX_CHARACTERS = 1500
MAX_BYTES = 2_400_000
# Maximum number of gaps shown beside a pair, and the longest id.
MAX_GAPS = 12
_MAX_ID = 200
_TEXTS = ("prompt", "chosen", "rejected")


def sample_examples(decided: Dataset, ranked: RankedPairs, most: int, seed: int) -> dict[str, Any]:
    """
    Draws kept and dropped pairs in equal numbers, if there are enough, by `seed` and `pair_id`. Returns columns in
    rank order.

    Args:
        decided ([`~datasets.Dataset`]): Pairs with a decision.
        ranked ([`RankedPairs`]): Their ranking.
        most (`int`): Maximum number of pairs. There are fewer if their texts would take more than `MAX_BYTES`.
        seed (`int`): Seed of the draw.
    """
    ranks = _draw(decided, ranked, most, seed)
    rows = without_media(decided).select(ranked.rows[ranks].tolist())
    columns: dict[str, list[Any]] = {name: [] for name in ("rank", "id", "aspect", "pd", "gaps", "reason", *_TEXTS)}
    aspects = display_names(ranked.groups.get("aspect", []))
    size = 0
    for rank, row in zip(ranks.tolist(), rows, strict=True):
        texts = {name: readable(row.get(name)) for name in _TEXTS}
        size += sum(len(text.encode(errors="replace")) for text in texts.values())
        if size > MAX_BYTES:
            break
        gaps = [] if ranked.matrix is None else ranked.matrix.gaps[ranked.rows[rank], :MAX_GAPS].tolist()
        value = row.get("pd") if "pd" in ranked.columns else None
        record = {
            "rank": rank, "id": display_name(row["pair_id"], _MAX_ID), "aspect": aspects.get(row.get("aspect")), "reason": row["pd_reason"],
            "pd": None if value is None else round(float(value), 4),
            "gaps": [round(gap, 4) if np.isfinite(gap) else None for gap in gaps],
        }  # fmt: skip
        for name, content in {**record, **texts}.items():
            columns[name].append(content)
    order = np.argsort(columns["rank"])
    return {name: [values[i] for i in order] for name, values in columns.items()}


def _draw(decided: Dataset, ranked: RankedPairs, most: int, seed: int) -> NDArray[np.integer]:
    """Ranks of the sample. Kept and dropped pairs alternate, so the first pairs are a fair sample too."""
    keys = row_ids(decided, unique=False).draws(seed)[ranked.rows]
    kept, dropped = np.arange(ranked.kept), np.arange(ranked.kept, len(keys))
    parts = [part[np.argsort(keys[part], kind="stable")] for part in (kept, dropped)]
    turn = np.concatenate([np.arange(part.size) for part in parts])
    return np.concatenate(parts)[np.argsort(turn, kind="stable")][:most]


def readable(value: Any) -> str:
    """A text, or a chat as text with its roles, cut to `MAX_CHARACTERS`."""
    if isinstance(value, list):
        messages = [message for message in value if isinstance(message, Mapping)]
        value = "\n\n".join(f"[{message.get('role')}] {message.get('content') or ''}" for message in messages)
    text = "" if value is None else str(value)
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} … (the first {MAX_CHARACTERS:,} of {len(text):,} characters)"
