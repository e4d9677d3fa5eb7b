"""Facts for the card of a scored data set, collected from the folder of `pd-trl select`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..cards import ConfigFacts, DatasetFacts, ExampleFacts, ProxyFacts, SourceFacts
from ..data.id_columns import row_ids
from ..errors import InputError
from ..method.ranking import ranked_rows
from ..runs import forms
from ..runs.artifacts import MANIFEST_NAME, Manifest, read_rows
from ..runs.provenance import source_provenance
from ..safety.media import without_media
from ..safety.schema import anything, check_content, integer, optional, read_document, read_text, record
from ..selection.artifact import SQL_NAME
from ..selection.aspect_columns import numeric_column
from ..selection.settings import FORMS

_COUNTS = ("total", "kept", "dropped")
# Arguments in the manifest of a selection that its card shows, in the form of the command line.
_SHOWN = record({
    "counts": record(dict.fromkeys(_COUNTS, integer(0)), required=_COUNTS, others=anything),
    "arguments": record({**{name: optional(form) for name, form in FORMS.items()}, "weights": anything}),
})  # fmt: skip
_SQL_BYTES = 1 << 20
_ADVICE = "Run `pd-trl select` again."


def dataset_facts(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    configs: Sequence[ConfigFacts] | None = None,
    source: SourceFacts | str | None = None,
    **choices: Any,
) -> DatasetFacts:
    """
    Facts of the card of a selection.

    Args:
        folder (`str`):
            Folder of `pd-trl select`.
        repo_id (`str`):
            Where it is to be published.
        configs (sequence of [`ConfigFacts`], *optional*):
            Configurations, with their files and sizes. `None` is `selected`, `scored` and `dropped`, with sizes unknown.
        source ([`SourceFacts`] or `str`, *optional*):
            Source of the pairs, or its Hub id. `None` is what the manifests say.
        choices:
            Further fields of [`DatasetFacts`] that the publisher chooses, such as `license` or `revision_tag`.

    Raises:
        InputError: When `folder` is not one of `pd-trl select`.
    """
    folder = Path(folder).expanduser()
    manifest = check_manifest(folder)
    selected, dropped = read_rows(folder / "selected"), read_rows(folder / "dropped")
    report = read_document(folder / "report.json", forms.report, "the report of a selection", _ADVICE)
    provenance = manifest.results.get("provenance") or {}
    counts = manifest.counts
    arguments = {name: manifest.arguments[name] for name in FORMS if name in manifest.arguments}
    shown = {"counts": counts, "arguments": arguments}
    check_content(shown, _SHOWN, folder / MANIFEST_NAME, "a manifest of `pd-trl select`", _ADVICE)
    return DatasetFacts(
        repo_id=repo_id,
        selector=str(manifest.arguments.get("selector", "pd")),
        total=counts["total"],
        kept=counts["kept"],
        dropped=counts["dropped"],
        configs=list(configs) if configs is not None else default_configs(selected, counts),
        arguments=arguments,
        report=report,
        conflict=provenance.get("conflict") or {},
        source=_source(source, provenance),
        proxies=_proxies(report, provenance),
        example_kept=typical_example(selected),
        example_dropped=typical_example(dropped),
        versions=manifest.versions,
        created=manifest.created[:10],
        sql=read_text(folder / SQL_NAME, _SQL_BYTES) if (folder / SQL_NAME).is_file() else None,
        **choices,
    )


def check_manifest(folder: Path) -> Manifest:
    """The manifest of a selection; raises `InputError` where `folder` is not one of `pd-trl select`."""
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "select":
        found = f"was made by `pd-trl {manifest.stage}`" if manifest is not None else "is none"
        raise InputError(
            f"Only the folder of `pd-trl select` (or of a whole run) can be published, but {folder} {found}."
        )
    return manifest


def default_configs(selected: Dataset, counts: Mapping[str, int]) -> list[ConfigFacts]:
    """The three configurations of a publication, their sizes unknown."""
    features = features_to_yaml(selected)
    rows = {"selected": counts["kept"], "scored": counts["total"], "dropped": counts["dropped"]}
    return [
        ConfigFacts(name, count, f"{name}/train-*", features=features, default=name == "selected")
        for name, count in rows.items()
    ]


def features_to_yaml(dataset: Dataset) -> list[dict[str, Any]]:
    """The columns of a data set in the form of `dataset_info`."""
    return dataset.features._to_yaml_list()


def typical_example(dataset: Dataset) -> ExampleFacts | None:
    """
    An example row: among those with short texts, the one of median PD (or of median `pair_id`, if there is no PD).
    `None` if there are no rows.
    """
    if not len(dataset):
        return None
    dataset = without_media(dataset)
    columns = dataset.column_names
    values = np.nan_to_num(numeric_column(dataset, "pd")) if "pd" in columns else np.zeros(len(dataset))
    ids = row_ids(dataset, unique=False) if "pair_id" in columns else np.arange(len(dataset))
    order = ranked_rows(np.arange(len(dataset)), values, ids)
    # From the median outwards: the example is neither the best nor the worst.
    middle = len(order) // 2
    nearest = order[np.argsort(np.abs(np.arange(len(order)) - middle), kind="stable")][:50]
    rows = [_example(dataset[int(row)]) for row in nearest]
    return min(rows, key=lambda row: max(0, len(row.prompt) + len(row.chosen) + len(row.rejected) - 1500))


def _example(row: Mapping[str, Any]) -> ExampleFacts:
    prefix = "reward_gap_"
    gaps = {
        name[len(prefix) :]: float(value)
        for name, value in row.items()
        if name.startswith(prefix) and value is not None
    }
    value = row.get("pd")
    return ExampleFacts(
        prompt=_text(row.get("prompt")),
        chosen=_text(row.get("chosen")),
        rejected=_text(row.get("rejected")),
        aspect=row.get("aspect"),
        pd=None if value is None else float(value),
        reason=row.get("pd_reason"),
        gaps=gaps,
    )


def _text(value: Any) -> str:
    """A text, or the last message of a chat, with the number of earlier messages."""
    if not isinstance(value, list):
        return "" if value is None else str(value)
    messages = [message for message in value if isinstance(message, Mapping)]
    if not messages:
        return ""
    earlier = f"({len(messages) - 1} earlier messages) " if len(messages) > 1 else ""
    return f"{earlier}{messages[-1].get('content') or ''}"


def _source(source: SourceFacts | str | None, provenance: Mapping[str, Any]) -> SourceFacts:
    if isinstance(source, SourceFacts):
        return source
    record = source_provenance(source) if isinstance(source, str) else provenance.get("source", {})
    known = {entry.name for entry in fields(SourceFacts)}
    return SourceFacts(**{name: value for name, value in record.items() if name in known})


def _proxies(report: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[ProxyFacts]:
    """The proxies in the manifests, and those whose accuracy is in the report."""
    recorded = provenance.get("proxies", {})
    proxies = []
    for aspect, entry in report.get("aspects", {}).items():
        known, measured = recorded.get(aspect, {}), entry.get("proxy", {})
        if not known and not measured:
            continue
        metrics = {
            name: value
            for name, value in {**known.get("metrics", {}), **measured}.items()
            if not isinstance(value, bool)
        }
        proxies.append(ProxyFacts(
            aspect, model=known.get("model"), revision=known.get("revision"), base_model=known.get("base_model"),
            num_train=known.get("num_train"), metrics=metrics,
            read=dict(report.get("outputs", {}).get(aspect, {})),
        ))  # fmt: skip
    return proxies
