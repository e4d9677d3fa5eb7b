"""What a recipe, which may be someone else's file, is allowed to do."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import InputError
from ..safety.keys import check_key_variable
from ..safety.secrets import parsed_json, secrets_in

# How many threads and devices work, and how talkative libraries are. None of these loads code, opens a file or names a server.
ENVIRONMENT = frozenset(
    "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS RAYON_NUM_THREADS "
    "TOKENIZERS_PARALLELISM CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING "
    "CUBLAS_WORKSPACE_CONFIG PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_ENABLE_MPS_FALLBACK NCCL_DEBUG NCCL_P2P_DISABLE "
    "NCCL_IB_DISABLE NCCL_SHM_DISABLE NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME TORCH_NCCL_ASYNC_ERROR_HANDLING HF_HUB_OFFLINE "
    "HF_DATASETS_OFFLINE TRANSFORMERS_OFFLINE HF_HUB_DISABLE_TELEMETRY HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DISABLE_XET "
    "HF_HUB_DOWNLOAD_TIMEOUT TRANSFORMERS_VERBOSITY DATASETS_VERBOSITY WANDB_MODE WANDB_PROJECT WANDB_DISABLED TRACKIO_PROJECT".split()
)
_DEFAULT_KEY = "OPENAI_API_KEY"
_MOST_VALUES = 100_000


def check_file(content: Mapping[str, Any], path: object) -> dict[str, str]:
    """
    Raises `InputError` unless the content of a recipe or configuration may be used: it holds no secret, and its `env` sets only
    variables of [`ENVIRONMENT`]. Returns these; nothing is set.
    """
    _check_size(content, path)
    check_no_secret(content, f"The configuration {path}")
    environment = content.get("env") or {}
    if not isinstance(environment, Mapping):
        raise InputError(f"`env` in {path} must be a mapping of environment variables to values.")
    checked = {}
    for name, value in environment.items():
        if name not in ENVIRONMENT:
            raise InputError(
                f"`env` in {path} sets {str(name)!r}, which a recipe may not. It may set {', '.join(sorted(ENVIRONMENT))}. Set others "
                "yourself, before the command."
            )
        if not isinstance(value, (str, int, float)) or not str(value).isprintable():
            raise InputError(f"`env` in {path} must give {name} a text or a number, got {value!r}.")
        checked[name] = str(value)
    return checked


def check_no_secret(content: Mapping[str, Any], where: str) -> None:
    """Raises `InputError` where settings hold a token, a key or a password. The message does not show it."""
    places = list(dict.fromkeys(secrets_in(content)))
    if places:
        raise InputError(
            f"{where} must hold no secret, but there is one at {', '.join(f'`{place}`' for place in places)}. Settings are written "
            f"into results and published with them. Take it out, and set the environment variable {_instead_of(places[0])}."
        )


def _instead_of(place: str) -> str:
    lower = place.lower()
    if "wandb" in lower:
        return "WANDB_API_KEY"
    if lower.endswith("base_url"):
        return "OPENAI_BASE_URL, which holds the whole address"
    if "judge" in lower or "api" in lower or "openai" in lower or lower.startswith("evaluate"):
        return f"{_DEFAULT_KEY}, or another that `api_key_env` names"
    return "HF_TOKEN, or log in with `hf auth login`"


def check_servers(section: Mapping[str, Any], named: Collection[str] = ()) -> None:
    """
    Raises `InputError` where a section would send a key of the user to a server that the section itself names.

    Args:
        section (mapping): Arguments of a stage.
        named (collection of `str`): Those of them that the user gave on the command line.
    """
    _check_server(section, bool({"base_url", "api_key_env"} & set(named)))
    for key, value in section.items():
        value = parsed_json(value) if isinstance(value, str) else value
        if isinstance(value, Mapping):
            _check_server(value, key in named)


def _check_server(settings: Mapping[str, Any], named_by_user: bool) -> None:
    address, variable = settings.get("base_url"), settings.get("api_key_env")
    if variable is not None or (address is not None and os.environ.get(_DEFAULT_KEY)):
        address = str(address) if address is not None else None
        check_key_variable(variable or _DEFAULT_KEY, address, named_by_user=named_by_user)


def _check_size(content: Any, path: object) -> None:
    """Aliases make a small file stand for a huge or an endless one."""
    left, count = [content], 0
    while left:
        value = left.pop()
        count += 1
        if count > _MOST_VALUES:
            raise InputError(
                f"The configuration {path} has more than {_MOST_VALUES:,} values. Check its aliases (`*name`)."
            )
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value


def set_environment(environment: Mapping[str, str]) -> None:
    """Sets the variables that [`check_file`] returned."""
    os.environ.update(environment)
