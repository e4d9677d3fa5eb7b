"""Work on Ray: Ray Data streams its items to a pool of actors, each with a worker whose models stay loaded."""

import contextlib
import functools
import json
import logging
import os
import platform
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from ..errors import InputError

logger = logging.getLogger(__name__)

ENGINES = ("process", "ray")
NO_SERVER = (
    "--engine ray is for a model that Ray's actors load. One process asks a server many questions at a time (`max_concurrency`): "
    "leave `engine` out."
)
_TASKS_PER_ACTOR = 8
# Seconds in which somebody must listen at the address of a cluster.
_PATIENCE = 20.0
# Parts that a set is cut into, as far as batches stay whole.
_PARTS = 64
_ERROR, _RESULT, _SAID = "error", "result", "said"
# What decides how an actor works, beside what `ray start` gave its machine. Keys and tokens are not handed on.
_HANDED_ON = ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS")


Item = TypeVar("Item")


class Worker(Protocol):
    """What an actor has of a run."""

    def each(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """What came of items, as json-like values."""
        ...


class Work(Protocol):
    """What is done with items. It travels to other machines, and holds names of models rather than models."""

    def worker(self) -> Worker:
        """What does it there. Raises `InputError` where it cannot be done."""
        ...


def import_ray() -> Any:
    """The package `ray` with Ray Data; raises `InputError` where it cannot be imported."""
    try:
        # Errors arrive here as exceptions: what else its core writes to the terminal is of no use there.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        import ray
        import ray.data

        for handler in logging.getLogger("ray.data").handlers:
            # Its own only: others, which a program or pytest added, serve other loggers too.
            if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
                handler.setLevel(logging.ERROR)
    except ImportError as error:
        raise InputError(f'Ray cannot be imported ({error}). Install it with `pip install "pd_trl[ray]"`.') from None
    return ray


def on_ray(
    work: Work, items: Sequence[Any], num_actors: int | None = None, *, items_per_task: int = 1
) -> Iterator[dict[str, Any]]:
    """
    Has items done by actors of the Ray cluster that Ray's own settings name (`RAY_ADDRESS`), or of this machine. Those of an actor
    that dies are given to another.

    Args:
        work ([`Work`]): What is done with each item.
        items (sequence): Json-like values.
        num_actors (`int`, *optional*): Actors. `None` is one for each GPU, or for each CPU where there is none.
        items_per_task (`int`, *optional*, defaults to `1`):
            Most items that an actor is given at a time, so that its worker may prepare the next. Their results arrive together.

    Yields:
        `dict`: what came of each item, in any order.

    Raises:
        InputError: Without Ray, or where an actor raises it.
    """
    ray = import_ray()
    with _cluster(ray):
        found = ray.cluster_resources()
        gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
        most = gpus or cpus
        count = num_actors or max(1, most)
        if count > most:
            raise InputError(
                f"`num_actors` is {count}, but the Ray cluster has {gpus} GPUs and {cpus} CPUs, and each actor has one{' GPU' if gpus else ''}."
                " Ask for fewer."
            )
        count = min(count, len(items))
        size = max(1, min(items_per_task, len(items) // max(1, count * _TASKS_PER_ACTOR)))
        tasks = [{"task": json.dumps(items[i : i + size])} for i in range(0, len(items), size)]
        logger.info("%d Ray actors (%d GPUs, %d CPUs), %d tasks.", count, gpus, cpus, len(tasks))
        yield from _results(ray, work, tasks, count, gpus > 0)


def parts_of(items: Sequence[Item], batch_size: int, most: int) -> list[list[Item]]:
    """Items in parts of whole batches: as many as may be lost with an actor (`most`), or fewer, so that each actor has some."""
    size = min(most, batch_size * max(1, len(items) // (_PARTS * batch_size)))
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _results(ray: Any, work: Work, tasks: list[Any], count: int, on_gpus: bool) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        _Actor, fn_constructor_args=(work,), batch_size=1, batch_format="pyarrow", zero_copy_batch=False,
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=2),
        num_cpus=1, num_gpus=1 if on_gpus else 0,
        runtime_env={"env_vars": {name: os.environ[name] for name in _HANDED_ON if name in os.environ}},
    )  # fmt: skip
    said: set[str] = set()
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for answer in map(json.loads, batch["answer"].to_pylist()):
            if _ERROR in answer:
                raise InputError(answer[_ERROR])
            for warning in answer[_SAID]:
                if warning not in said:
                    said.add(warning)
                    logger.warning("%s", warning)
            yield answer[_RESULT]


class _Actor:
    """[`Worker`] as Ray Data calls it: a batch is one task, the items of which follow each other."""

    def __init__(self, work: Work):
        self.work = work
        self.warnings = _Warnings()
        logging.getLogger(__name__.partition(".")[0]).addHandler(self.warnings)

    @functools.cached_property
    def worker(self) -> Worker:
        # Not before the first task: Ray tells an error there from the death of an actor.
        return self.work.worker()

    def __call__(self, batch: Any) -> Iterator[Any]:
        # Ray would hand on the trace of an error and not the error itself.
        try:
            for result in self.worker.each(json.loads(batch["task"][0].as_py())):
                yield _answer({_RESULT: result, _SAID: self.warnings.taken()})
        except InputError as error:
            yield _answer({_ERROR: str(error)})
        except OSError as error:
            yield _answer({_ERROR: f"On {platform.node()}: {error}"})


def _answer(content: dict[str, Any]) -> Any:
    import pyarrow as pa

    return pa.table({"answer": [json.dumps(content)]})


class _Warnings(logging.Handler):
    """Keeps the warnings of an actor: nobody reads them on its machine."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def taken(self) -> list[str]:
        """The warnings since the last call."""
        texts, self.texts = self.texts, []
        return texts


def _check_answers(address: str) -> None:
    """Raises `OSError` where nobody listens at an address of a host and a port: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that is running, or one of this machine for as long as the block."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    # Without an address, Ray would look for a cluster that was once started here, and wait minutes for one that is gone.
    options: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
    try:
        if address:
            _check_answers(address)
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises that class itself
        said = " ".join(str(error).split())[:300].rstrip(".")
        if address:
            raise InputError(
                f"No Ray cluster answers at {address}: {said}. Start one with `ray start --head`, and name it with RAY_ADDRESS."
            ) from None
        raise InputError(
            f"Ray does not start on this machine: {said}. Try again when the machine is less busy, or start a cluster with `ray start "
            "--head` and name it with RAY_ADDRESS."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
