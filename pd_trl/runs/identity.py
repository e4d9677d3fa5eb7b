"""What makes two runs the same: data, files, models and settings, each known by its content and not by its place."""

import dataclasses
import enum
import hashlib
import json
import os
import re
import tempfile
import time
import typing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import InputError
from ..hub import local_file, local_model_folder
from ..safety.schema import parse_yaml
from ..safety.secrets import masked
from .training_fields import DECIDING, DECIDING_THE_BEST

_BLOCK = 1 << 22
# A file that changed so recently could change again within the clock's tick: its digest is not remembered.
_SETTLED_SECONDS = 2.0
_remembered: dict[tuple[int, ...], str] = {}

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

# A whole number of these is a count, and a fraction a share: 1 is one pair, 1.0 all.
_BUDGETS = ("budget", "pd_budget")


def digest_of(value: Any) -> str:
    """Hex digest of a json-like value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def settings_key(value: Any) -> str:
    """Hex digest of settings in their one form, see [`canonical`]."""
    return digest_of(canonical(value))


def canonical(value: Any, name: str = "") -> Any:
    """
    The one form of what means the same: 2 and 2.0, lists and tuples, sets in any order, members of an enum and their values,
    and mappings in any order.

    Args:
        value: Settings.
        name (`str`, *optional*): The key under which they stand.
    """
    if isinstance(value, enum.Enum):
        return canonical(value.value, name)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if name in _BUDGETS:
            return f"{value!r} pairs" if isinstance(value, int) else f"{value!r} of the pairs"
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): canonical(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(entry) for entry in value), key=lambda entry: json.dumps(entry, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [canonical(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical(dataclasses.asdict(value))
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return canonical(value.item(), name)
    # An address in memory differs from process to process.
    return re.sub(r" at 0x[0-9a-f]+", "", str(value)).removeprefix("torch.")


def deciding(arguments: Any, names: Iterable[str]) -> dict[str, Any]:
    """
    The named arguments of a stage, for a manifest. A mapping that the command line gave as json or YAML is a mapping.

    Args:
        arguments (dataclass): The stage's arguments.
        names (iterable of `str`): Those that decide its result.
    """
    hints = typing.get_type_hints(type(arguments))
    return {name: _parsed(getattr(arguments, name), hints.get(name)) for name in names}


def _parsed(value: Any, hint: Any) -> Any:
    kinds = typing.get_args(hint) or (hint,)
    if isinstance(value, str) and any(kind is dict or typing.get_origin(kind) is dict for kind in kinds):
        try:
            content = json.loads(value)
        except ValueError:
            try:
                content = parse_yaml(value, "a mapping")
            except InputError:
                return value
        return content if isinstance(content, dict) else value
    return value


def data_key(dataset: Dataset, columns: list[str] | None = None) -> str:
    """Hex digest of the rows of `dataset` (of `columns`, where given), in order, however and wherever they are stored."""
    names = sorted(columns if columns is not None else dataset.column_names)
    media = {name for name in names if hasattr(dataset.features[name], "decode")}
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16)
    # The format of Arrow leaves images and sounds as they are stored.
    for table in dataset.select_columns(names).with_format("arrow").iter(batch_size=1000):
        cells = {name: table.column(name).to_pylist() for name in names}
        for name in media:
            cells[name] = [_media_key(cell) for cell in cells[name]]
        digest.update(json.dumps([cells[name] for name in names], ensure_ascii=False, default=_cell).encode())
    return digest.hexdigest()


def _media_key(cell: Any) -> Any:
    """The content of a stored image or sound, which may be a file."""
    if not isinstance(cell, Mapping):
        return cell
    if cell.get("bytes") is not None:
        return _cell(cell["bytes"])
    path = cell.get("path")
    return file_key(path) if path and os.path.isfile(path) else path


def _cell(value: Any) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest() if isinstance(value, bytes) else str(value)


def file_key(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes. A file that did not change since is not read again."""
    before = _signature(path)
    if before in _remembered:
        return _remembered[before]
    settled = time.time() - os.stat(path).st_ctime > _SETTLED_SECONDS
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if settled and _signature(path) == before:
        _remembered[before] = digest.hexdigest()
    return digest.hexdigest()


def _signature(path: str | os.PathLike) -> tuple[int, ...]:
    # `cp -p` sets the time of modification to the original's; nobody sets that of the change.
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_keys(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """[`file_key`] of files by their names in `folder`, several at a time."""
    ordered = sorted(names)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(ordered, pool.map(lambda name: file_key(folder / name), ordered), strict=True))


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
        # The order of an adapter's heads is known from there; the rest decides how rewards are used, not what they are.
        keys["heads"] = list(_read_object(sidecar).get("heads") or ())
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


def shard_identity(
    *, data: str, model: str, aspects: Sequence[str], computation: Mapping[str, Any], **settings: Any
) -> dict[str, Any]:
    """
    What the shards of a scoring run have in common.

    Args:
        data (`str`): Key of the texts.
        model (`str`): Key of the model.
        aspects (sequence of `str`): Whose rewards it gives, in order.
        computation (mapping): What rounds: type of the weights, backend, attention.
        settings: What else decides a score.
    """
    return {"data": data, "model": model, "aspects": list(aspects), **computation, **settings}


# Extra fields of new versions, and what says nothing of the weights.
_NO_PEFT = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"}


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


# How a model is fetched and placed; its revision is part of its key.
_NO_LOADING = {
    "cache_dir", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage", "max_memory", "offload_folder", "proxies",
    "revision", "token", "use_auth_token",
}  # fmt: skip


def training_identity(args: Any) -> dict[str, Any]:
    """
    The training arguments that decide the weights, for a manifest. Fields that a new version adds are none of them until
    `training_fields` says so.

    Args:
        args ([`~transformers.TrainingArguments`]): Training arguments.
    """
    names = DECIDING | (DECIDING_THE_BEST if getattr(args, "load_best_model_at_end", False) else frozenset())
    values = {name: getattr(args, name) for name in sorted(names) if hasattr(args, name)}
    loading = values.get("model_init_kwargs") or {}
    values["model_init_kwargs"] = {name: value for name, value in loading.items() if name not in _NO_LOADING}
    for name in ("chat_template_path", "deepspeed"):
        if isinstance(values.get(name), (str, os.PathLike)):
            values[name] = _content_at(values[name])
    if hasattr(values.get("accelerator_config"), "to_dict"):
        values["accelerator_config"] = values["accelerator_config"].to_dict()
    plain = canonical({name: masked(value) for name, value in values.items()})
    return dict(plain)


def _content_at(name: str | os.PathLike) -> str:
    """The content of a file or folder; what is no path is its name."""
    path = Path(name).expanduser()
    if path.is_file():
        return file_key(path)
    return model_key(path) if path.is_dir() else str(name)
