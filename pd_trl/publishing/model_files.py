"""Which files of a model go to the Hub, what is checked of them, and how local names are removed from them."""

import json
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from ..cards import ModelFacts
from ..errors import InputError
from ..hub import split_revision
from ..hub.head import Content
from ..hub.names import is_repo_id
from ..models.adapters import ADAPTER_CONFIG, adapter_config, read_config
from ..models.sidecar import SIDECAR_NAME
from ..runs.artifacts import read_json
from ..safety.schema import anything, mapping, parse_json, read_document, record, text

logger = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_BESIDE = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece*.model", "chat_template.*",
    "additional_chat_templates/*.jinja", "preprocessor_config.json", "processor_config.json", "LICENSE*", "NOTICE*",
    SIDECAR_NAME,
)  # fmt: skip
# Files of an earlier push that would be loaded instead of the new model, or that hold a pickle.
OUTDATED = (*_WEIGHTS, "adapter_config.json", "pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin",
             "training_args.bin", "optimizer.*", "scheduler.*", "rng_state*.pth", SIDECAR_NAME)  # fmt: skip
_DTYPE_BYTES_HEADER = 8
_INDEX = record({"weight_map": mapping(text())}, others=anything)


def model_files(folder: str | os.PathLike, extra: Sequence[str] = ()) -> dict[str, Path]:
    """
    The files of a model that are published, by their path in the repository: weights in safetensors, configuration,
    tokenizer, `pd_reward.json`, licence and evaluation results. Never pickles, checkpoints, optimiser states or logs.

    Args:
        folder (`str`): Folder of a model or adapter.
        extra (sequence of `str`): Patterns of further files.

    Raises:
        InputError: If there is no model, its weights are not safetensors, or one of their files is missing or incomplete.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"The model to publish must be a folder, but {folder} is not one.")
    config = next(
        (folder / name for name in ("adapter_config.json", "config.json") if (folder / name).is_file()), None
    )
    if config is None:
        raise InputError(f"{folder} holds no model: it has neither config.json nor adapter_config.json.")
    patterns = [*_WEIGHTS, *_BESIDE, *extra]
    if "auto_map" in read_config(config):
        patterns.append("*.py")  # a model with its own code cannot be loaded without it
    files = {
        path.relative_to(folder).as_posix(): path
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name != "README.md"
    }
    pickles = sorted(path.name for path in folder.glob("*") if fnmatch(path.name, "*model*.bin"))
    _check_weights(folder, files, pickles)
    return dict(sorted(files.items()))


def _check_weights(folder: Path, files: Mapping[str, Path], pickles: Sequence[str]) -> None:
    weights = [path for name, path in files.items() if name.endswith(".safetensors")]
    if not weights:
        found = f", only {', '.join(pickles)}: load it and save it again with `save_pretrained`" if pickles else ""
        raise InputError(f"{folder} has no weights in safetensors (*.safetensors){found}. Pickles are not published.")
    for name, path in files.items():
        if name.endswith(".safetensors.index.json"):
            index = read_document(path, _INDEX, "an index of weights")
            missing = sorted(set(index.get("weight_map", {}).values()) - set(files))
            if missing:
                raise InputError(
                    f"{path} names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not there."
                )
    for path in weights:
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    """Raises `InputError` unless the file is as long as its header says."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(_DTYPE_BYTES_HEADER))
            header = parse_json(file.read(length), path) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = _DTYPE_BYTES_HEADER + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file ({type(error).__name__}). Save the model again.") from None
    if size != expected:
        raise InputError(
            f"{path} has {size:,} bytes, but its header says {expected:,}: it was cut short. Save the model again."
        )


def without_local_names(files: Mapping[str, Path], folder: Path, facts: ModelFacts) -> dict[str, Content]:
    """The files to publish. A folder of this machine that they name is replaced by the model's Hub id, or removed."""
    published: dict[str, Content] = dict(files)
    for name in ("config.json", "tokenizer_config.json"):
        if name in files:
            content = read_json(files[name])
            cleaned = _cleaned(content)
            if cleaned != content:
                published[name] = _json(cleaned)
    if ADAPTER_CONFIG in files:
        config = adapter_config(folder)
        stated = config.get("base_model_name_or_path")
        base, revision = split_revision(_base_on_hub(folder, facts) or "")
        if stated != (base or None):
            content = {**config, "base_model_name_or_path": base or None, "revision": revision}
            published[ADAPTER_CONFIG] = _json(_cleaned(content))
    return published


def _base_on_hub(folder: Path, facts: ModelFacts) -> str | None:
    """Hub id of an adapter's base: from the publisher, the trainer or the adapter itself."""
    if facts.base_model and is_repo_id(split_revision(facts.base_model)[0], namespaced=False):
        return facts.base_model
    stated = adapter_config(folder).get("base_model_name_or_path")
    if not is_local_model(stated, folder):
        return str(stated)
    logger.warning(
        "The base model of the adapter in %s is a folder of this machine (%s). Its name is left out, so others cannot "
        "load the adapter by its id. Publish the base too, and name it: `base_model` (--base_model org/model).",
        folder, stated,
    )  # fmt: skip
    return None


def is_local_model(name: object, folder: Path) -> bool:
    """Whether the name of a model in a configuration is not a Hub id, or is a local folder."""
    if not isinstance(name, str) or not is_repo_id(split_revision(name)[0], namespaced=False):
        return True
    return Path(name).exists() or (folder / name).exists()


def _cleaned(value: object) -> object:
    """Json without the folders that transformers writes into a configuration."""
    if isinstance(value, dict):
        return {
            key: _cleaned(entry)
            for key, entry in value.items()
            if not (key in ("_name_or_path", "name_or_path") and isinstance(entry, str) and _is_path(entry))
        }
    return [_cleaned(entry) for entry in value] if isinstance(value, list) else value


def _is_path(name: str) -> bool:
    return bool(name) and (not is_repo_id(split_revision(name)[0], namespaced=False) or Path(name).exists())


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
