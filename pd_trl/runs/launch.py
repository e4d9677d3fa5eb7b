"""The processes of one launch: what the first tells the others, through the store that they all meet at."""

import os
from datetime import timedelta
from typing import Any

from ..errors import InputError

_SECONDS = 600.0
_count = 0


def is_main_process() -> bool:
    """Whether this process writes the results."""
    return process_rank() == 0


def process_rank() -> int:
    """Number of this process in its launch, from 0."""
    return int(os.environ.get("RANK", 0))


def num_processes() -> int:
    """Processes of this launch, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def shared(value: str | None = None, *, seconds: float = _SECONDS) -> str:
    """
    The value of the first process, which the others wait for. All processes call it in the same order.

    Args:
        value (`str`, *optional*): What the first process says; the others give none.
        seconds (`float`, *optional*): How long to wait.

    Raises:
        InputError: When the first process cannot be reached, or says nothing.
    """
    if is_main_process() and num_processes() == 1:
        return str(value)
    key = _next_key()
    if is_main_process():
        _store(seconds).set(key, str(value))
        return str(value)
    try:
        store = _store(seconds)
        store.wait([key], timedelta(seconds=seconds))
        return str(store.get(key).decode())
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"The first process of this launch cannot be reached, or did not answer within {seconds:.0f} s ({str(error).strip().splitlines()[0]}). See its "
            "messages, and start all processes by one launcher."
        ) from None


def wait_for_all(*, seconds: float = 24 * 3600.0) -> None:
    """Lets no process go on before all are here."""
    if num_processes() == 1:
        return
    key, store = _next_key(), _store(seconds)
    if store.add(key, 1) == num_processes():
        store.set(f"{key}/all", "here")
    store.wait([f"{key}/all"], timedelta(seconds=seconds))


def _next_key() -> str:
    # A restart of the launcher keeps its store.
    global _count
    _count += 1
    return f"pd_trl/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{_count}"


_kept: list[Any] = []


def _store(seconds: float) -> Any:
    """The store of the process group, or of the launcher where there is no group yet."""
    import torch.distributed as dist

    if dist.is_initialized():
        from torch.distributed.distributed_c10d import _get_default_store

        return _get_default_store()
    if not _kept:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=timedelta(seconds=seconds))))
        _kept.append(store)
    return _kept[0]
