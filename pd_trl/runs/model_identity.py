"""What makes two models the same: weights, configuration, tokenizer, templates and code, known by their content."""

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..hub import local_file, local_model_folder
from .identity import canonical, digest_of, file_key, file_keys, settings_key

# What of a model's folder decides its outputs: weights, configuration, tokenizer, templates and code.
_MODEL_SUFFIXES = (
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".json", ".jinja", ".py", ".model", ".txt", ".tiktoken", ".spm", ".vocab", ".bpe",
)  # fmt: skip
_NESTED_SUFFIXES = (".jinja", ".py")
_NO_MODEL_FILES = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state.*)\.(bin|pt|pth)|(license|notice|readme|requirements).*\.txt|"
    r"(trainer_state|manifest|run_identity|pd_reward|pd_card|.*results)\.json",
    re.IGNORECASE,
)
_NO_MODEL_FOLDERS = re.compile(r"checkpoint-\d+|runs|logs|\..*")
_RELATIVE_IMPORT = re.compile(r"^\s*(?:import|from)\s+\.(\w+)", re.MULTILINE)
# Where a configuration was loaded from, and by which version, says nothing of the model.
_NO_CONFIG = {"_name_or_path", "name_or_path", "transformers_version", "is_local", "local_files_only"}
# Extra fields of new versions, and what says nothing of the weights.
_NO_PEFT = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"}


def model_key(name: str | os.PathLike, revision: str | None = None) -> str:
    """
    Hex digest of all that decides the outputs of a model or adapter, its base model's too. The same files elsewhere are the
    same model; a Hub id is the files of its commit.

    Args:
        name (`str`): A folder or a Hub id, which may carry a revision.
        revision (`str`, *optional*): Revision on the Hub.

    Raises:
        InputError: When there is no such folder or repository.
    """
    folder = local_model_folder(name, revision=revision)
    keys: dict[str, Any] = file_keys(folder, _model_files(folder))
    if "adapter_config.json" in keys:
        keys["adapter_config.json"], keys["base"] = _adapter(folder / "adapter_config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if name in keys:
            keys |= _code_elsewhere(_read_object(folder / name).get("auto_map"))
    sidecar = folder / "pd_reward.json"
    if sidecar.is_file():
        # The order of an adapter's heads, what they read and its pad token are known from there; the rest decides how rewards are
        # used, not what they are.
        content = _read_object(sidecar)
        keys["heads"] = list(content.get("heads") or ())
        if content.get("reading"):
            keys["reading"] = canonical(content["reading"])
        if "adapter_config.json" in keys and content.get("pad_token_id") is not None:
            keys["pad_token_id"] = content["pad_token_id"]
    return digest_of(keys)


def _model_files(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _NO_MODEL_FOLDERS.fullmatch(name)]
        suffixes = _MODEL_SUFFIXES if Path(place) == folder else _NESTED_SUFFIXES
        found += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in files
            if name.endswith(suffixes) and not name.startswith(".") and not _NO_MODEL_FILES.fullmatch(name)
        ]
    return found


def _code_elsewhere(auto_map: Any) -> dict[str, str]:
    """The code that a model takes from other repositories (`"repository--module.Class"`), by repository and file."""
    classes = auto_map.values() if isinstance(auto_map, Mapping) else [auto_map]
    names = [name for value in classes for name in (value if isinstance(value, (list, tuple)) else [value])]
    keys: dict[str, str] = {}
    left = {
        (repository, reference.split(".")[0])
        for repository, dashes, reference in (str(name).partition("--") for name in names)
        if dashes
    }
    while left:
        repository, module = left.pop()
        name = f"{repository}--{module}.py"
        if name not in keys:
            try:
                path = local_file(repository, f"{module}.py", repo_type="model")
            except InputError:
                keys[name] = ""  # whoever loads it says what is missing
                continue
            keys[name] = file_key(path)
            text = path.read_text(encoding="utf-8", errors="replace")
            left |= {(repository, other) for other in _RELATIVE_IMPORT.findall(text)}
    return keys


def _adapter(path: Path) -> tuple[Any, str]:
    """The settings of an adapter, without the place of its base model, and the key of that model."""
    settings = _read_object(path)
    base = str(settings.pop("base_model_name_or_path", None) or "")
    settings = {name: value for name, value in settings.items() if name not in _NO_PEFT}
    try:
        return canonical(settings), model_key(base) if base else ""
    except InputError:
        return canonical(settings), base  # whoever loads it says what is missing


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path} as json: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a json object, got {type(content).__name__}.")
    return content


def memory_key(model: Any, tokenizer: Any = None) -> str:
    """Hex digest of a model in memory: its class, configuration, adapters and weights, and of its tokenizer."""
    import torch

    digest = hashlib.blake2b(type(model).__qualname__.encode(), digest_size=16)
    config = model.config.to_dict() if hasattr(model, "config") else {}
    adapters = {name: peft_settings(config) for name, config in getattr(model, "peft_config", {}).items()}
    known = {name: value for name, value in config.items() if name not in _NO_CONFIG}
    digest.update(settings_key([known, adapters]).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    if tokenizer is not None:
        digest.update(tokenizer_key(tokenizer).encode())
    return digest.hexdigest()


def tokenizer_key(tokenizer: Any) -> str:
    """Hex digest of a tokenizer in memory, with its chat templates: of what it saves."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        root = Path(folder)
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        keys: dict[str, Any] = file_keys(root, names)
        for name in names:
            if name in ("tokenizer.json", "tokenizer_config.json"):
                # Truncation and padding are what the last call left, and the next sets them again.
                ignored = {"truncation", "padding"} if name == "tokenizer.json" else _NO_CONFIG
                content = {key: value for key, value in _read_object(root / name).items() if key not in ignored}
                keys[name] = digest_of(content)
    return digest_of([type(tokenizer).__qualname__, keys])


def peft_settings(config: Any) -> dict[str, Any] | None:
    """
    The settings of a PEFT configuration that differ from its defaults, so that a new version's extra fields make no
    difference.
    """
    if config is None:
        return None
    defaults = {
        entry.name: entry.default_factory() if entry.default_factory is not dataclasses.MISSING else entry.default
        for entry in dataclasses.fields(config)
    }
    # `to_dict` lists a set in an order that changes from process to process.
    values = {
        name: own if isinstance(own := getattr(config, name, None), set) else value
        for name, value in config.to_dict().items()
        if name not in _NO_PEFT
    }
    kept = {name: value for name, value in values.items() if name == "peft_type" or value != defaults.get(name)}
    plain = canonical(kept)
    return dict(plain)
