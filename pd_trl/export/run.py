"""[`export_preferences`]: what it reads, what it refuses before anything is written, and what it leaves."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from ..data import load_source, require_dataset
from ..errors import InputError
from ..runs.artifacts import Manifest, read_rows, replaced_folder, write_parquet
from ..runs.identity import data_key, file_keys
from ..runs.stage_folders import check_folder, skip_if_done, timed
from ..text.names import did_you_mean
from .pairs import Pair, as_messages, pairs_of
from .targets import TARGETS, Target, Written
from .texts import Texts

# Where the rows to train on lie in the folder of a stage, the first that there is.
_PARTS = ("selected", "preferences", "scored")
ON_UNSUPPORTED = ("error", "drop")
_SHOWN = 5


@dataclass
class ExportResult:
    """
    What an export did.

    Args:
        folder (`str`): Where it lies.
        counts (`dict`): Numbers of rows read and written of each part, and left out.
        left_out (`dict`): Numbers of rows left out, by what the target cannot hold.
        files (`list` of `str`): Names of the files of rows and of the configuration.
        skipped (`bool`): Whether the folder already held the same export.
    """

    folder: str
    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    skipped: bool = False


def export_preferences(
    dataset: str | os.PathLike | Dataset,
    to: str,
    output_dir: str | os.PathLike,
    *,
    dropped: str | os.PathLike | Dataset | bool = False,
    tokenizer: Any = None,
    render: bool = False,
    as_chat: bool = False,
    on_unsupported: str = "error",
    split: str = "train",
    revision: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> ExportResult:
    """
    Writes preferences in the form that another trainer reads, with the part of its configuration that names them.

    Args:
        dataset (`str`, path, or [`~datasets.Dataset`]):
            The folder of `pd-trl select` (its kept rows) or `prepare`, a file, a Hub id, or rows with `prompt`, `chosen` and
            `rejected`.
        to (`str`):
            `"trl"`, `"llama-factory"`, `"axolotl"`, `"openrlhf"`, `"nemo-rl"` or `"verl"`.
        output_dir (`str`):
            Folder for the rows (`kept.jsonl`) and the configuration.
        dropped (`bool`, path, or [`~datasets.Dataset`], *optional*, defaults to `False`):
            Whether the dropped rows of a selection's folder are written too, as a set of their own; or these rows.
        tokenizer (`str` or tokenizer, *optional*):
            Tokenizer of the model to train. With it, rows that its chat template refuses are found, lengths are set so that
            nothing is cut, and plain texts get the special tokens that a target leaves out.
        render (`bool`, *optional*, defaults to `False`):
            Whether messages are written as the text of the tokenizer's chat template, for targets that read texts.
        as_chat (`bool`, *optional*, defaults to `False`):
            Whether plain texts become messages: the prompt the user's, the responses the assistant's.
        on_unsupported (`str`, *optional*, defaults to `"error"`):
            What happens to rows that the target cannot hold: an `"error"`, or they are left out (`"drop"`) and counted.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a data set on the Hub.
        revision (`str`, *optional*):
            Its branch, tag or commit.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether another export in `output_dir` may be replaced.
        dry_run (`bool`, *optional*, defaults to `False`):
            Whether to check everything and write nothing.

    Returns:
        [`ExportResult`]

    Raises:
        InputError: When a row is no preference or cannot be held, with counts and what to do; nothing is written then.
    """
    if to not in TARGETS:
        raise InputError(f"`to` must be one of {', '.join(TARGETS)}, got {to!r}.{did_you_mean(str(to), TARGETS)}")
    if on_unsupported not in ON_UNSUPPORTED:
        raise InputError(f"`on_unsupported` must be one of {', '.join(ON_UNSUPPORTED)}, got {on_unsupported!r}.")
    if render and tokenizer is None:
        raise InputError("`render` writes the text of a chat template: name the model with `tokenizer`.")
    if render and as_chat:
        raise InputError("`as_chat` makes messages, and `render` texts of them: choose one.")
    folder = Path(output_dir).expanduser().absolute()
    sources = {"kept": _open(dataset, split, revision)}
    if not isinstance(dropped, bool) or dropped:
        sources["dropped"] = _open_dropped(dataset) if isinstance(dropped, bool) else _open(dropped, split, revision)
    export = _Export(TARGETS[to], to, Texts(tokenizer) if tokenizer is not None else None, render, as_chat)
    named = [str(source) for source in (dataset, dropped) if isinstance(source, (str, os.PathLike))]
    manifest = Manifest(
        "export",
        inputs={part: data_key(rows) for part, rows in sources.items()},
        arguments={
            "to": to,
            "tokenizer": export.texts.key if export.texts is not None else None,
            "render": render,
            "as_chat": as_chat,
            "on_unsupported": on_unsupported,
        },
    )
    if not dry_run:
        check_folder("export", folder, named)
        done = skip_if_done(manifest, folder, overwrite)
        if done and (whole := _whole(folder, overwrite)):
            return whole
    survey = export.survey(sources)
    left_out = dict(sorted(survey.unsupported.items(), key=lambda item: -item[1]))
    if left_out and (on_unsupported == "error" or survey.written["kept"] == 0):
        raise InputError(_refusal(export, left_out, sum(map(len, sources.values())), on_unsupported))
    model = tokenizer if isinstance(tokenizer, (str, os.PathLike)) else None
    written = export.describe(folder, survey, str(model) if model is not None else None)
    texts = export.target.files(written)
    manifest.counts = {name: len(rows) for name, rows in sources.items()}
    manifest.counts |= {"written": sum(survey.written.values()), "left out": sum(left_out.values())}
    result = ExportResult(str(folder), manifest.counts, left_out, [*written.files.values(), *texts])
    if dry_run:
        return result
    with replaced_folder(folder) as place, timed(manifest):
        for part, rows in sources.items():
            export.write(rows, place / written.files[part], set(survey.rows_left_out[part]))
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        data = file_keys(place, written.files.values())
        manifest.results = {"data": data, "left_out": left_out, "files": result.files}
        manifest.save(place)
    return result


def _open(source: Any, split: str, revision: str | None) -> Dataset:
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source).expanduser()
        for part in _PARTS:
            if any((folder / part).glob("train-*-of-*.parquet")) and split == "train":
                return read_rows(folder / part)
        return load_source(source, split=split, revision=revision, prefer=_PARTS)
    return require_dataset(source, "dataset")


def _open_dropped(dataset: Any) -> Dataset:
    folder = Path(dataset).expanduser() / "dropped" if isinstance(dataset, (str, os.PathLike)) else None
    if folder is None or not folder.is_dir():
        raise InputError(
            "The dropped rows lie beside the kept ones in the folder of `pd-trl select`: name that folder, or leave `dropped` out."
        )
    return read_rows(folder)


def _whole(folder: Path, overwrite: bool) -> ExportResult | None:
    """The export that lies in `folder`; `None` where its rows are others and may be replaced."""
    manifest = Manifest.load(folder) or Manifest("export")
    data = manifest.results.get("data", {})
    if file_keys(folder, [name for name in data if (folder / name).is_file()]) == data:
        results = manifest.results
        return ExportResult(str(folder), manifest.counts, results["left_out"], results["files"], skipped=True)
    if overwrite:
        return None
    raise InputError(f"{folder} no longer holds what was exported. Pass --overwrite to export it again.")


@dataclass
class _Survey:
    """What all rows have, before one is written."""

    unsupported: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    rows_left_out: dict[str, list[int]] = field(default_factory=dict)
    kinds: set[bool] = field(default_factory=set)
    tools: bool = False
    longest: int | None = None


@dataclass
class _Export:
    """A target, and how pairs become what it reads."""

    target: Target
    name: str
    texts: Texts | None
    render: bool
    as_chat: bool

    def __post_init__(self) -> None:
        if self.render and not self.target.renders:
            raise InputError(f"{self.target.title} applies the chat template itself: leave `render` out.")
        if self.texts is not None:
            self.target.check_tokenizer(self.texts)

    def survey(self, sources: dict[str, Dataset]) -> _Survey:
        """Reads every row once."""
        found = _Survey()
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
        refused = self.texts.refusal(pair) if self.texts is not None else None
        return refused or self.target.refuses(self.formed(pair) if self.render else pair)

    def formed(self, pair: Pair) -> Pair:
        """The pair with its texts as they are written."""
        if self.texts is None:
            return pair
        if pair.is_chat:
            return self.texts.rendered(pair) if self.render else pair
        return self.texts.with_special_tokens(pair) if self.target.bare else pair

    def describe(self, folder: Path, survey: _Survey, model: str | None) -> Written:
        """How configurations name what will be written."""
        suffix = "parquet" if self.target.parquet else "jsonl"
        return Written(
            folder,
            {part: f"{part}.{suffix}" for part in survey.written},
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


_WAYS_OUT = {
    "messages": "pass the model's tokenizer and `render`, which writes its chat template's text",
    "plain texts": "pass `as_chat`, which makes them messages and so changes their tokens",
    "plain texts whose special tokens it does not add": "pass the model's `tokenizer`",
}


def _refusal(export: _Export, left_out: dict[str, int], total: int, on_unsupported: str) -> str:
    reasons = "; ".join(f"{count:,} with {reason}" for reason, count in list(left_out.items())[:_SHOWN])
    more = f"; and {len(left_out) - _SHOWN} further kinds" if len(left_out) > _SHOWN else ""
    ways = [_WAYS_OUT[reason] for reason in left_out if reason in _WAYS_OUT]
    others = [reason for reason in left_out if reason not in _WAYS_OUT]
    if others and export.target.renders and not export.render and export.texts is None:
        ways.append("pass the model's tokenizer and `render`, which writes its chat template's text")
    elif others and export.target.renders and not export.render:
        ways.append("pass `render`, which writes the chat template's text")
    if on_unsupported == "error" and sum(left_out.values()) < total:
        ways.append("leave these rows out with on_unsupported='drop'")
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
