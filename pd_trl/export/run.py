"""[`export_preferences`]: what it reads, what it refuses before anything is written, and what it leaves."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..data import load_source, require_dataset
from ..errors import InputError
from ..runs.artifacts import Manifest, read_rows, replaced_folder
from ..runs.identity import data_key, file_keys
from ..runs.stage_folders import check_folder, skip_if_done, timed
from ..text.names import did_you_mean
from .forming import Exporter, refusal_text
from .targets import TARGETS
from .texts import Texts

# Where the rows to train on lie in the folder of a stage, the first that there is.
_PARTS = ("selected", "preferences", "scored")
ON_UNSUPPORTED = ("error", "drop")


@dataclass
class ExportResult:
    """
    What an export did.

    Args:
        folder (`str`): Where it lies.
        counts (`dict`): Numbers of rows read and written of each part, and left out.
        left_out (`dict`): Numbers of rows left out, by what the target cannot hold.
        files (`list` of `str`): Names of the files of rows and of the configuration.
        notes (`list` of `str`): What would stop it, of a dry run.
        skipped (`bool`): Whether the folder already held the same export.
    """

    folder: str
    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
    _check(to, tokenizer, render, as_chat, on_unsupported)
    folder = Path(output_dir).expanduser().absolute()
    sources = {"kept": _open(dataset, split, revision)}
    if not isinstance(dropped, bool) or dropped:
        sources["dropped"] = _open_dropped(dataset) if isinstance(dropped, bool) else _open(dropped, split, revision)
    export = Exporter(TARGETS[to], to, Texts(tokenizer) if tokenizer is not None else None, render, as_chat)
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
    found = Manifest.load(folder) if dry_run else None
    if found is not None and found.key == manifest.key and (whole := _whole(folder, overwrite)):
        return whole
    survey = export.survey(sources)
    left_out = dict(sorted(survey.unsupported.items(), key=lambda item: -item[1]))
    if left_out and (on_unsupported == "error" or survey.written["kept"] == 0):
        raise InputError(refusal_text(export, left_out, sum(map(len, sources.values())), on_unsupported))
    model = tokenizer if isinstance(tokenizer, (str, os.PathLike)) else None
    written = export.describe(folder, survey, str(model) if model is not None else None)
    texts = export.target.files(written)
    manifest.counts = {name: len(rows) for name, rows in sources.items()}
    manifest.counts |= {"written": sum(survey.written.values()), "left out": sum(left_out.values())}
    result = ExportResult(str(folder), manifest.counts, left_out, [*written.files.values(), *texts])
    if dry_run:
        if found is not None and not overwrite:
            result.notes.append(f"{folder} holds the result of another run: refused unless --overwrite is given.")
        return result
    with replaced_folder(folder) as place, timed(manifest):
        for part, name in written.files.items():
            export.write(sources[part], place / name, set(survey.rows_left_out[part]))
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        data = file_keys(place, written.files.values())
        manifest.results = {"data": data, "left_out": left_out, "files": result.files}
        manifest.save(place)
    return result


def _check(to: str, tokenizer: Any, render: bool, as_chat: bool, on_unsupported: str) -> None:
    if to not in TARGETS:
        raise InputError(f"`to` must be one of {', '.join(TARGETS)}, got {to!r}.{did_you_mean(str(to), TARGETS)}")
    if on_unsupported not in ON_UNSUPPORTED:
        raise InputError(f"`on_unsupported` must be one of {', '.join(ON_UNSUPPORTED)}, got {on_unsupported!r}.")
    if render and tokenizer is None:
        raise InputError(
            "`render` (--render) writes the text of a chat template: name the model with `tokenizer` (--tokenizer)."
        )
    if render and as_chat:
        raise InputError("`as_chat` (--as_chat) makes messages, and `render` (--render) texts of them: choose one.")


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
            "The dropped rows lie beside the kept ones in the folder of `pd-trl select`: name that folder, or leave `dropped` (--dropped) out."
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
