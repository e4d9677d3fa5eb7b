"""Where data and models came from: looked up once, and handed on from stage to stage in the manifests."""

import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

from ..errors import InputError
from ..hub import hub_api
from ..hub.names import is_repo_id
from ..hub.readme import split_readme
from ..safety.secrets import masked_text
from .artifacts import Manifest

logger = logging.getLogger(__name__)

# A card is worth no longer wait than this, in seconds.
_TIMEOUT = 10.0
_SHA = re.compile(r"[0-9a-f]{40}")


def inherited_provenance(name: str | os.PathLike | None) -> dict[str, Any]:
    """What the stage whose folder is `name` recorded of its sources; of a data set of the Hub, its name."""
    if not name:
        return {}
    folder = Path(name).expanduser()
    if folder.is_dir():
        manifest = Manifest.load(folder) or Manifest.load(folder.parent)
        return dict(manifest.results.get("provenance", {})) if manifest is not None else {}
    repo_id, _, revision = str(name).partition("@")
    return {"source": source_provenance(repo_id, revision or None)}


def trained_on(name: str | None) -> list[str]:
    """Hub ids of the data behind `name`, a stage's folder or a data set of the Hub, as far as they are known."""
    if name and not Path(name).expanduser().exists() and is_repo_id(name.partition("@")[0]):
        return [name.partition("@")[0]]
    source = inherited_provenance(name).get("source", {}).get("dataset")
    return [source] if source else []


def source_provenance(
    name: str, revision: str | None = None, config: str | None = None, split: str | None = None
) -> dict[str, Any]:
    """
    A record of a source of pairs: of a data set of the Hub its commit, licence and languages, where it can be reached; of a
    file its name, never its path.
    """
    path = Path(name).expanduser()
    if path.is_dir() and (manifest := Manifest.load(path) or Manifest.load(path.parent)) is not None:
        seed = manifest.arguments.get("seed")
        made = f"made by the stage '{manifest.stage}' of pd_trl" + (f", seed {seed}" if seed is not None else "")
        return dict(manifest.results.get("provenance", {}).get("source", {"name": made}))
    if path.exists() or not is_repo_id(name):
        return {"name": Path(masked_text(str(name))).name or masked_text(str(name))}
    record = {"dataset": name, "config": config, "split": split, **repo_facts(name, "dataset", revision)}
    return {key: value for key, value in record.items() if value}


def proxy_provenance(name: str | os.PathLike, folder: Path, sidecar: Any) -> dict[str, Any]:
    """
    A record of a reward model: its Hub id and commit, or a digest of what made it, its base model, and its quality.

    Args:
        name (`str`): Folder or Hub id, as the user gave it.
        folder (`Path`): Where its files are.
        sidecar ([`RewardSidecar`]): What it says about itself.
    """
    manifest = Manifest.load(folder)
    on_hub = not Path(name).expanduser().exists() and is_repo_id(str(name).partition("@")[0])
    snapshot = _SHA.fullmatch(folder.name)
    # Older manifests have the name among the inputs.
    base = manifest.results.get("base_model") or manifest.inputs.get("model") if manifest is not None else None
    record = {
        "model": str(name).partition("@")[0] if on_hub else None,
        "revision": folder.name if snapshot else manifest.key if manifest is not None else None,
        "base_model": base if base and is_repo_id(base) and not Path(base).exists() else None,
        "num_train": sidecar.num_train,
        "metrics": sidecar.metrics,
    }
    return {key: value for key, value in record.items() if value}


def loaded_revision(dataset: Any) -> str | None:
    """The commit of the Hub that a `Dataset` was loaded from, as `datasets` names its cache; `None` where it says none."""
    files = dataset.cache_files if isinstance(dataset, Dataset) else []
    names = {Path(file["filename"]).parent.name for file in files}
    return names.pop() if len(names) == 1 and _SHA.fullmatch(min(names)) else None


@lru_cache(maxsize=64)
def _looked_up(name: str, repo_type: str, revision: str | None) -> tuple[tuple[str, Any], ...]:
    try:
        info = hub_api().repo_info(name, repo_type=repo_type, revision=revision, timeout=_TIMEOUT)
    except (HTTPError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        logger.info("The Hub has nothing to say about the %s %s (%s).", repo_type, name, type(error).__name__)
        return ()
    data = getattr(info, "card_data", None)
    card = data.to_dict() if data is not None else {}
    return tuple({"revision": info.sha, **licence_of(card)}.items())


def repo_facts(name: str, repo_type: str, revision: str | None = None) -> dict[str, Any]:
    """Commit, licence and languages of a repository of the Hub; empty where it cannot be reached."""
    return dict(_looked_up(name, repo_type, revision))


def model_facts(name: str | os.PathLike) -> dict[str, Any]:
    """Licence, languages and, on the Hub, the commit of a model: from the card in a local folder, or from the Hub."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return repo_facts(str(name), "model") if is_repo_id(str(name)) else {}
    try:
        card, _ = split_readme((folder / "README.md").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError):
        return {}
    return licence_of(card)


def licence_of(card: dict[str, Any]) -> dict[str, Any]:
    """Licence and languages from the YAML of a card."""
    found: dict[str, Any] = {}
    for key in ("license", "license_name", "license_link"):
        value = card.get(key)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and value:
            found[key] = value
    languages = card.get("language")
    languages = [languages] if isinstance(languages, str) else languages
    if isinstance(languages, list) and all(isinstance(entry, str) for entry in languages) and languages:
        found["languages"] = languages
    return found
