"""
A README.md of the Hub: its YAML, the part between our markers, and what the user wrote.

`RepoCard` and `metadata_update` do not do here. They read YAML without bounds, drop what a `model-index` says beyond their own fields,
write anchors, and replace lists of tags: tests/cards/test_library_cards.py, test_yaml_is_written_without_anchors.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..errors import InputError
from ..safety.schema import parse_yaml, shown

BEGIN, END = "<!-- pd_trl:begin -->", "<!-- pd_trl:end -->"
_FRONT_MATTER = re.compile(
    r"^\ufeff?\s*---[ \t]*\r?\n(?P<yaml>.*?)(?:^|\r?\n)---[ \t]*(?:\r?\n|$)", re.DOTALL | re.MULTILINE
)
_MARKERS = re.compile(rf"^[ \t]*(?:{re.escape(BEGIN)}|{re.escape(END)})[ \t]*\r?$", re.MULTILINE)

# Lists that grow rather than being replaced.
_UNITED = ("tags", "datasets", "source_datasets", "task_categories", "language")
# Lists of mappings whose entries are told apart by a key.
_NAMED = {"configs": "config_name", "dataset_info": "config_name", "model-index": "name"}
_ADVICE = "Correct the block between the first two lines of '---' in the card (README.md), and publish again."
# What a user may have set better than we can know.
_KEPT = ("license", "license_name", "license_link", "pretty_name", "library_name", "pipeline_tag", "inference")


def split_readme(text: str) -> tuple[dict[str, Any], str]:
    """
    The YAML of a card as a mapping, and the text below it.

    Raises:
        InputError: When there is YAML that is broken or is no mapping.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text.lstrip("\ufeff")
    try:
        metadata = parse_yaml(found["yaml"], "The existing card")
    except InputError as error:
        raise InputError(f"{error} {_ADVICE}") from None
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise InputError(
            f"The YAML of the existing card must be a mapping of names to values, found {shown(metadata)}. {_ADVICE}"
        )
    return metadata, text[found.end() :]


class _Dumper(yaml.SafeDumper):
    """Writes a value as often as it occurs: readers of cards know no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def join_readme(metadata: Mapping[str, Any], body: str) -> str:
    """A card from its YAML and its text."""
    dumped = yaml.dump(dict(metadata), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)  # noqa: S506
    return f"---\n{dumped}---\n\n{body.strip()}\n"


def merge_section(text: str, section: str) -> str:
    """
    `text` with `section` between our markers: in place of what is there, or at the end.

    Raises:
        InputError: When the markers of `text` are not one pair.
    """
    block = f"{BEGIN}\n{section}\n{END}"
    found = list(_MARKERS.finditer(text))
    if not found:
        return f"{text.rstrip()}\n\n{block}\n" if text.strip() else f"{block}\n"
    if [match[0].strip() for match in found] != [BEGIN, END]:
        raise InputError(
            f"The existing card must have the line {BEGIN} once and the line {END} once after it, found "
            f"{len(found)} such lines in another order or number. Remove them: the generated part is then added at the end."
        )
    return text[: found[0].start()] + block + text[found[1].end() :]


def outside_text(text: str) -> str:
    """What a card says outside the YAML and our markers."""
    _, body = split_readme(text)
    found = list(_MARKERS.finditer(body))
    if len(found) == 2:
        body = body[: found[0].start()] + body[found[1].end() :]
    return body.strip()


def merge_metadata(existing: Mapping[str, Any], ours: Mapping[str, Any], forced: Sequence[str] = ()) -> dict[str, Any]:
    """
    YAML of a card that is there and ours, merged: keys that are not ours survive, lists of tags and the like are united,
    configurations and results are replaced by name, a licence or title that is there stays.

    Args:
        existing (`dict`): YAML of the card that is there.
        ours (`dict`): Our YAML; values of `None` and empty ones are left out.
        forced (sequence of `str`): Keys of ours that win over those that are there, whatever they are.
    """
    merged = dict(existing)
    for key, value in ours.items():
        if value is None or value == [] or value == {}:
            continue
        if key in forced:
            merged[key] = value
        elif key in _UNITED:
            merged[key] = list(dict.fromkeys([*_listed(existing.get(key)), *_listed(value)]))
        elif key in _NAMED:
            merged[key] = _merge_named(existing.get(key), value, _NAMED[key])
        elif key not in _KEPT or not existing.get(key):
            merged[key] = value
    # The fields that name a licence go together.
    if "license" not in forced and existing.get("license"):
        for key in ("license_name", "license_link"):
            if key not in existing:
                merged.pop(key, None)
    if isinstance(merged.get("configs"), list):
        merged["configs"] = _one_default(
            merged["configs"], {entry.get("config_name") for entry in ours.get("configs", [])}
        )
    return merged


def name_of(entry: Any, key: str = "config_name") -> str | None:
    """The name of an entry of a list in a card, such as a configuration; `None` where it has none."""
    name = entry.get(key) if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def _merge_named(existing: Any, ours: list[dict[str, Any]], key: str) -> list[Any]:
    """Entries by their name, ours in place of those of the same name."""
    entries = [existing] if isinstance(existing, dict) else list(existing) if isinstance(existing, list) else []
    if key == "config_name":
        # `datasets` writes the only configuration as a mapping without a name.
        entries = [{key: "default", **entry} if isinstance(entry, dict) else entry for entry in entries]
    by_name = {entry[key]: entry for entry in ours}
    kept = [by_name.pop(name, entry) if (name := name_of(entry, key)) else entry for entry in entries]
    return [*kept, *by_name.values()]


def _one_default(configs: list[Any], ours: set[Any]) -> list[Any]:
    """One configuration with `default: true`: one that is not ours, where the user chose it, else ours."""
    defaults = [c for c in configs if isinstance(c, dict) and c.get("default") is True]
    chosen = next((c for c in defaults if name_of(c) not in ours), defaults[0] if defaults else None)
    return [
        {k: v for k, v in c.items() if k != "default" or c is chosen} if isinstance(c, dict) else c for c in configs
    ]
