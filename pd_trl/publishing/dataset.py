"""[`publish_dataset`]: a selection and all scored pairs as a data set on the Hub."""

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from datasets import Dataset

from ..cards import BEGIN, DatasetFacts, SourceFacts, dataset_card, split_readme
from ..cards.dataset import dataset_metadata
from ..hub import planned_access, split_revision
from ..hub.readme import join_readme, merge_metadata
from ..runs.artifacts import Manifest, read_json, read_rows
from ..selection.aspect_columns import numeric_column
from ..selection.filter import PDFilter
from ..selection.wording import wording_of
from .facts import dataset_facts
from .publication import Publication, publish
from .selection import FILES, PICTURE, Layout, find_selection, selection_folder
from .verification import verify_rows

logger = logging.getLogger(__name__)


def publish_dataset(
    path_or_dataset: str | os.PathLike | Dataset,
    repo_id: str,
    *,
    pd_filter: PDFilter | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    variant: str | None = None,
    license: str | None = None,
    languages: Sequence[str] = (),
    tags: Sequence[str] = (),
    source: SourceFacts | str | None = None,
    models: Sequence[str] = (),
    reward_models: Mapping[str, str] | None = None,
    report_url: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    picture: bool = True,
    dry_run: bool = False,
    token: str | None = None,
) -> Publication:
    """
    Publishes a selection on the Hub, in one commit or not at all.

    The repository has the configurations `selected` (the kept pairs, the default), `scored` (all pairs, with gaps,
    `pd`, `pd_kept` and `pd_reason`) and `dropped`. It also has `filter.json` with the statistics, the report, the
    manifest and a card. With it, `PDFilter.load(repo_id, budget=0.2)` makes another selection without a model. After
    the push, every configuration is loaded by its commit and its rows are counted. A later publication deletes files
    that are no longer part of it. In an existing card, only the text between our markers and our YAML keys change.

    Args:
        path_or_dataset (`str` or [`~datasets.Dataset`]):
            Folder of `pd-trl select` or of a whole run; or scored pairs in memory, with `pd_filter`.
        repo_id (`str`):
            `"name"` or `"namespace/name"`. Made where it does not exist.
        pd_filter ([`PDFilter`], *optional*):
            The filter for a data set in memory.
        private (`bool`, *optional*):
            Visibility of a new repository. `None` is the namespace's default. An existing repository must agree.
        create_pr (`bool`, *optional*, defaults to `False`):
            Open a pull request instead of changing the repository.
        branch (`str`, *optional*):
            Branch to publish on. It is made if it does not exist.
        tag (`str`, *optional*):
            Tag of the publication, which readers can pin.
        variant (`str`, *optional*):
            Name of a further selection in a repository that has one: its configurations are `selected-<variant>` and so on.
        license (`str`, *optional*):
            Licence, as the Hub abbreviates it. `None` takes that of the source, or what the card says.
        languages, tags (sequence of `str`, *optional*):
            Further languages and tags of the card.
        source (`str`, *optional*):
            Hub id of the source. `None` is what the manifests say.
        models (sequence of `str`, *optional*):
            Hub ids of models that were aligned on it.
        reward_models (`dict`, *optional*):
            Hub id of each aspect's proxy reward model.
        report_url (`str`, *optional*):
            Page of the interactive report.
        recipe (`dict`, *optional*):
            Recipe of the run. `None` is the one in the run's folder, if there is one.
        picture (`bool`, *optional*, defaults to `True`):
            Whether the card shows the distribution of the PD, if matplotlib is installed.
        dry_run (`bool`, *optional*, defaults to `False`):
            Return what would change, and change nothing.
        token (`str`, *optional*):
            Token; the one of `hf auth login` or HF_TOKEN where unset.

    Returns:
        [`Publication`]

    Raises:
        HubError: If the Hub refuses it. The message says if the repository was changed.
        InputError: When there is no selection to publish.
    """
    if isinstance(path_or_dataset, (str, os.PathLike)):
        find_selection(path_or_dataset)
    access = planned_access(
        repo_id, "dataset", private=private, create_pr=create_pr, branch=branch, tag=tag, dry_run=dry_run, token=token
    )
    with selection_folder(path_or_dataset, pd_filter) as folder, TemporaryDirectory(prefix="pd_trl-") as scratch:
        layout = Layout(folder, variant)
        configs = layout.configs()
        files: dict[str, Path | bytes] = {**layout.shards(), **layout.documents(recipe)}
        histogram = _picture(folder, Path(scratch)) if picture else None
        if histogram is not None:
            files[layout.path(PICTURE)] = histogram.read_bytes()
        facts = dataset_facts(
            folder, access.repo_id, configs=configs, source=source, license=license, languages=list(languages),
            tags=list(tags), revision_tag=tag, models=list(models), report_url=report_url,
            picture=layout.path(PICTURE) if histogram is not None else None,
            files={path: FILES[path] for path in FILES if layout.path(path) in files} if variant is None else {},
        )  # fmt: skip
        for proxy in facts.proxies:
            if proxy.aspect in (reward_models or {}):
                # The revision of the manifest is that of the local folder.
                proxy.model, proxy.revision = split_revision((reward_models or {})[proxy.aspect])

        def card_on(existing: str | None) -> str:
            existing = existing and layout.without_configs(existing)
            if variant is not None and existing and BEGIN in existing:
                return _with_variant(existing, facts)
            return dataset_card(facts, existing)

        published = publish(
            access, files, card_on, layout.stale, message=_message(folder, variant), private=private, create_pr=create_pr,
            branch=branch, tag=tag, token=token, dry_run=dry_run, rows={c.name: c.num_rows for c in configs},
        )  # fmt: skip
    if not dry_run and published.sha is not None:
        verify_rows(access.repo_id, published.sha, published.rows, token=token)
    return published


def _message(folder: Path, variant: str | None) -> str:
    manifest = Manifest.load(folder)
    counts = manifest.counts if manifest is not None else {}
    name = f" ({variant})" if variant else ""
    return f"Selection of {counts.get('kept', '?')} of {counts.get('total', '?')} pairs{name}, by pd_trl"


def _with_variant(existing: str, facts: DatasetFacts) -> str:
    """The card of the first selection. A further selection adds only its configurations."""
    metadata, body = split_readme(existing)
    ours = dataset_metadata(facts, "")
    return join_readme(merge_metadata(metadata, {key: ours[key] for key in ("configs", "dataset_info")}), body)


def _picture(folder: Path, scratch: Path) -> Path | None:
    """The histogram of the PD, if matplotlib is installed and there is a PD."""
    parts = [read_rows(folder / part) for part in ("selected", "dropped")]
    if any("pd" not in part.column_names for part in parts):
        return None
    if find_spec("matplotlib") is None:
        logger.info("The card gets no picture of the PD: matplotlib is not installed.")
        return None
    from ..report.plots import divergence_histogram

    values = np.concatenate([numeric_column(part, "pd") for part in parts])
    kept = np.repeat([True, False], [len(part) for part in parts])
    known = np.isfinite(values)  # a pair on which no other aspect votes has no PD
    if not known.any():
        return None
    report = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    return divergence_histogram(values[known], kept[known], scratch / "pd.png", voters=wording_of(report).voters)
