"""The layout of a selection on the Hub: its files and configurations."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import Dataset, DatasetDict

from ..cards import ConfigFacts, split_readme
from ..errors import InputError, InputTypeError
from ..hub import Head
from ..hub.readme import join_readme, name_of
from ..runs.artifacts import MANIFEST_NAME, read_json, read_rows
from ..runs.identity import data_key
from ..safety.schema import anything, mapping, optional, read_document, record
from ..selection.artifact import SQL_NAME, selection_manifest, write_selection
from ..selection.filter import PDFilter
from .facts import check_manifest, features_to_yaml
from .privacy import published_json, published_value

# Files that are published beside the rows, with their descriptions.
FILES = {
    "filter.json": "statistics of the selection: scales of the gaps, thresholds, arguments; PDFilter.load reads it",
    SQL_NAME: "the selection as a condition of SQL, over the columns of the scored pairs",
    "report.json": "numbers of the report",
    "report.txt": "the report",
    MANIFEST_NAME: "what made it: arguments, counts, versions",
    "recipe.yaml": "the recipe of the whole run",
}
PICTURE = "assets/pd.png"
_PARTS = ("selected", "dropped")
_SHARD = r"train-\d{5}-of-\d{5}\.parquet"


@contextmanager
def selection_folder(source: str | os.PathLike | Dataset, pd_filter: PDFilter | None = None) -> Iterator[Path]:
    """
    The folder of a selection: of `pd-trl select`, the `select` in a run's folder, or a temporary one made from a data set.

    Raises:
        InputError: When there is no selection.
    """
    if isinstance(source, DatasetDict):
        raise InputTypeError(f"One split is published at a time: pass one of {', '.join(source)}.")
    if isinstance(source, Dataset):
        with TemporaryDirectory(prefix="pd_trl-") as scratch:
            _write(source, pd_filter, Path(scratch))
            yield Path(scratch)
        return
    if pd_filter is not None:
        raise InputError("`pd_filter` is only for a data set in memory; a folder has its own filter.")
    yield find_selection(source)


def find_selection(source: str | os.PathLike) -> Path:
    """The folder of `pd-trl select` itself, or the one in a run's folder; raises `InputError` if there is none."""
    path = Path(source).expanduser()
    folder = path / "select" if (path / "select" / MANIFEST_NAME).is_file() else path
    check_manifest(folder)
    return folder


def _write(dataset: Dataset, pd_filter: PDFilter | None, folder: Path) -> None:
    if pd_filter is None:
        raise InputError(
            "To publish a data set, also pass the filter for its rows as `pd_filter`, such as PDFilter(0.3), or pass "
            "the folder of `pd-trl select` instead of the data set."
        )
    fitted = pd_filter.thresholds_ is not None
    decided = pd_filter.transform(dataset) if fitted else pd_filter.fit_transform(dataset)
    kept = sum(decided["pd_kept"][:])
    manifest = selection_manifest(pd_filter, data_key(dataset))
    manifest.counts = {"total": len(decided), "kept": kept, "dropped": len(decided) - kept}
    write_selection(decided, pd_filter, manifest, folder)


@dataclass
class Layout:
    """
    Places of a selection's files in the repository. They are the same as in the folder.

    Args:
        folder (`Path`): Folder of the selection.
        variant (`str`, *optional*): Name of a further selection in the same repository: its folder there, and the
            end of its configurations' names.
    """

    folder: Path
    variant: str | None = None

    def __post_init__(self) -> None:
        if self.variant is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.variant):
            raise InputError(f"`variant` must be letters, digits, '.', '_' and '-', got {self.variant!r}.")
        if self.variant in (*_PARTS, "scored", "assets"):
            raise InputError(f"`variant` must not be {self.variant!r}, which has another meaning here.")

    def path(self, name: str) -> str:
        """Path in the repository."""
        return f"{self.variant}/{name}" if self.variant else name

    def config(self, name: str) -> str:
        """Name of a configuration."""
        return f"{name}-{self.variant}" if self.variant else name

    def shards(self) -> dict[str, Path]:
        """Parquet files by their path in the repository."""
        files = {}
        for part in _PARTS:
            for shard in sorted((self.folder / part).glob("train-*-of-*.parquet")):
                if pq.read_metadata(shard).num_rows:
                    files[self.path(f"{part}/{shard.name}")] = shard
        return files

    def documents(self, recipe: Mapping[str, Any] | None = None) -> dict[str, bytes]:
        """The files beside the rows, without tokens and local paths."""
        documents = {}
        for name in FILES:
            path = self.folder / name
            if path.is_file() and path.suffix == ".json":
                content = read_json(path)
                if name == MANIFEST_NAME and "files" in content:
                    # The documents are written anew, and a shard without rows is not published.
                    shards = self.shards()
                    content["files"] = {f: key for f, key in content["files"].items() if self.path(f) in shards}
                documents[self.path(name)] = published_json(content)
            elif path.is_file():
                documents[self.path(name)] = path.read_bytes()
        run = self.folder.parent / "run.json"
        if recipe is None and run.is_file():
            form = record({"recipe": optional(mapping(anything))}, others=anything)
            recipe = read_document(run, form, "what `pd-trl run` writes").get("recipe")
        if recipe:
            text = yaml.safe_dump(published_value(dict(recipe)), sort_keys=False, allow_unicode=True)
            documents[self.path("recipe.yaml")] = text.encode()
        return documents

    def stale(self, head: Head) -> list[str]:
        """Files of an earlier publication of this selection that are no longer part of it."""
        prefix = re.escape(self.path(""))
        ours = re.compile(rf"{prefix}(?:{'|'.join(_PARTS)})/{_SHARD}")
        current = self.shards()
        return sorted(path for path in head.files if ours.fullmatch(path) and path not in current)

    def without_configs(self, card: str) -> str:
        """A card without the configurations of this selection, which may have changed."""
        metadata, body = split_readme(card)
        ours = {self.config(name) for name in (*_PARTS, "scored")}
        for key in ("configs", "dataset_info"):
            entries = metadata.get(key)
            if isinstance(entries, list):
                metadata[key] = [entry for entry in entries if name_of(entry) not in ours]
        return join_readme(metadata, body) if metadata else card

    def configs(self) -> list[ConfigFacts]:
        """The configurations. `scored` consists of the files of both parts, so no row is stored twice."""
        sizes, rows, memory = {}, {}, {}
        features = None
        for part in _PARTS:
            data = read_rows(self.folder / part)
            features = features or features_to_yaml(data)
            rows[part], memory[part] = len(data), data.data.nbytes
            sizes[part] = sum(path.stat().st_size for path in (self.folder / part).glob("train-*.parquet"))
        found = []
        # `datasets` cannot load a split without rows: if all pairs are kept, there is no `dropped`.
        given = tuple(part for part in _PARTS if rows[part])
        for name, parts in (("selected", ("selected",)), ("scored", given), ("dropped", ("dropped",))):
            if not all(rows[part] for part in parts):
                continue
            patterns = [self.path(f"{part}/train-*") for part in parts]
            found.append(ConfigFacts(
                self.config(name), sum(rows[part] for part in parts), patterns[0] if len(patterns) == 1 else patterns,
                features=features, num_bytes=sum(memory[part] for part in parts),
                download_size=sum(sizes[part] for part in parts), default=name == "selected",
            ))  # fmt: skip
        return found
