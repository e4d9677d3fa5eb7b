"""How the pairs of a data set become what a target reads: first every row is looked at, then written."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from ..errors import InputError
from ..runs.artifacts import write_parquet
from .pairs import Pair, as_messages, pairs_of
from .targets import Target, Written
from .texts import Texts

# Kinds of rows that a message names.
_SHOWN = 5


@dataclass
class Survey:
    """What all rows have, before one is written."""

    unsupported: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    rows_left_out: dict[str, list[int]] = field(default_factory=dict)
    kinds: set[bool] = field(default_factory=set)
    tools: bool = False
    longest: int | None = None


@dataclass
class Exporter:
    """A target, and how pairs become what it reads."""

    target: Target
    name: str
    texts: Texts | None
    render: bool
    as_chat: bool

    def __post_init__(self) -> None:
        if self.render and not self.target.renders:
            raise InputError(f"{self.target.title} applies the chat template itself: leave `render` (--render) out.")
        if self.texts is not None:
            self.target.check_tokenizer(self.texts)

    def survey(self, sources: dict[str, Dataset]) -> Survey:
        """Reads every row once."""
        found = Survey()
        for part, rows in sources.items():
            left_out = found.rows_left_out.setdefault(part, [])
            found.written[part] = 0
            for pair in self._pairs(rows):
                found.kinds.add(pair.is_chat)
                reason = self.refusal(pair)
                if reason is not None:
                    found.unsupported[reason] += 1
                    left_out.append(pair.row)
                    continue
                found.written[part] += 1
                found.tools = found.tools or bool(pair.tools) or any(m.get("tool_calls") for m in pair.messages)
                if self.texts is not None:
                    found.longest = max(found.longest or 0, self.texts.length(pair))
        if len(found.kinds) > 1:
            raise InputError("Strings and messages are mixed. Make all rows strings, or all rows messages.")
        return found

    def _pairs(self, rows: Dataset) -> Iterable[Pair]:
        return map(as_messages, pairs_of(rows)) if self.as_chat else pairs_of(rows)

    def refusal(self, pair: Pair) -> str | None:
        """What of a pair cannot be held; `None` where all can."""
        if pair.media:
            return "images, sounds or videos"
        if any(not isinstance(m["content"], (str, type(None))) for m in pair.messages):
            return "messages of several parts"
        if pair.is_chat and not self.target.reads_chat and not self.render:
            return "messages"
        if not pair.is_chat and not self.target.reads_strings:
            return "plain texts"
        if not pair.is_chat and self.target.bare and self.texts is None:
            return "plain texts whose special tokens it does not add"
        refused = self.texts.refusal(pair, self.render or self.target.ends) if self.texts is not None else None
        return refused or self.target.refuses(self.formed(pair) if self.render else pair)

    def formed(self, pair: Pair) -> Pair:
        """The pair with its texts as they are written."""
        if self.texts is None:
            return pair
        if pair.is_chat:
            if not self.render:
                return pair
            rendered = self.texts.rendered(pair)
            return self.texts.ended(rendered) if self.target.ends else rendered
        return self.texts.with_special_tokens(pair) if self.target.bare else pair

    def describe(self, folder: Path, survey: Survey, model: str | None) -> Written:
        """How configurations name what will be written."""
        suffix = "parquet" if self.target.parquet else "jsonl"
        return Written(
            folder,
            {part: f"{part}.{suffix}" for part, count in survey.written.items() if count},
            dict(survey.written),
            chat=True in survey.kinds and not self.render,
            tools=survey.tools,
            longest=survey.longest,
            model=model,
        )

    def write(self, rows: Dataset, path: Path, left_out: set[int]) -> None:
        """Writes the rows of a part, but those left out."""
        pairs = (pair for pair in self._pairs(rows) if pair.row not in left_out)
        records = (self.target.row(self.formed(pair)) for pair in pairs)
        if self.target.parquet:
            write_parquet(_texts_dataset(records), path)
            return
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _texts_dataset(records: Iterator[dict[str, Any]]) -> Dataset:
    columns: dict[str, list[str]] = {}
    for record in records:
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    return Dataset.from_dict(
        columns, features=Features.from_dict(dict.fromkeys(columns, {"dtype": "string", "_type": "Value"}))
    )


_TOKENIZER, _RENDER = "the model's `tokenizer` (--tokenizer)", "`render` (--render)"
_WAYS_OUT = {
    "messages": f"pass {_TOKENIZER} and {_RENDER}, which writes its chat template's text",
    "plain texts": "pass `as_chat` (--as_chat), which makes them messages and so changes their tokens",
    "plain texts whose special tokens it does not add": f"pass {_TOKENIZER}",
}


def refusal_text(export: Exporter, left_out: dict[str, int], total: int, on_unsupported: str) -> str:
    reasons = "; ".join(f"{count:,} with {reason}" for reason, count in list(left_out.items())[:_SHOWN])
    more = f"; and {len(left_out) - _SHOWN} further kinds" if len(left_out) > _SHOWN else ""
    ways = [_WAYS_OUT[reason] for reason in left_out if reason in _WAYS_OUT]
    others = [reason for reason in left_out if reason not in _WAYS_OUT]
    if others and export.target.renders and not export.render and export.texts is None:
        ways.append(_WAYS_OUT["messages"])
    elif others and export.target.renders and not export.render:
        ways.append(f"pass {_RENDER}, which writes the chat template's text")
    if on_unsupported == "error" and sum(left_out.values()) < total:
        ways.append("leave these rows out with on_unsupported='drop' (--on_unsupported drop)")
    if others:
        ways.append(
            "export to trl or axolotl, which read what TRL reads"
            if export.name not in ("trl", "axolotl")
            else "mend them"
        )
    return (
        f"{export.target.title} cannot hold {sum(left_out.values()):,} of {total:,} rows: {reasons}{more}. Nothing was written. "
        f"Ways out: {'; or '.join(dict.fromkeys(ways))}."
    )
