"""Units on Ray: Ray Data streams them to a pool of actors, each of which reads, scores and writes its own."""

import contextlib
import functools
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...errors import InputError
from .plan import Unit
from .progress import Progress
from .scorer import UnitScorer, UnitWork

logger = logging.getLogger(__name__)

# Units that an actor is given at a time: it reads the next while it scores one. More would make the end uneven.
_UNITS_PER_TASK = 4
_TASKS_PER_ACTOR = 8
_ERROR = "error"
# What decides how an actor works, beside what `ray start` gave its machine. Keys and tokens are not handed on.
_HANDED_ON = ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS")


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


def score_on_ray(work: UnitWork, units: Sequence[Unit], num_actors: int | None, progress: Progress) -> None:
    """
    Scores units by actors of the Ray cluster that Ray's own settings name (`RAY_ADDRESS`), or of this machine.

    Args:
        work ([`UnitWork`]): What is done with each unit.
        units (sequence of [`Unit`]): Those that are left.
        num_actors (`int`, *optional*): Actors. `None` is one for each GPU, or for each CPU where there is none.
        progress ([`Progress`]): What is told of each unit.

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
        count = min(count, len(units))
        logger.info("%d Ray actors (%d GPUs, %d CPUs) score %d units.", count, gpus, cpus, len(units))
        for result in _results(ray, work, units, count, gpus > 0):
            progress.add(result)


def _results(ray: Any, work: UnitWork, units: Sequence[Unit], count: int, on_gpus: bool) -> Iterator[dict[str, Any]]:
    size = max(1, min(_UNITS_PER_TASK, len(units) // (count * _TASKS_PER_ACTOR)))
    tasks = [{"units": [asdict(unit) for unit in units[i : i + size]]} for i in range(0, len(units), size)]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        _Actor, fn_constructor_args=(work,), batch_size=1, batch_format="numpy", zero_copy_batch=False,
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=2),
        num_cpus=1, num_gpus=1 if on_gpus else 0,
        runtime_env={"env_vars": {name: os.environ[name] for name in _HANDED_ON if name in os.environ}},
    )  # fmt: skip
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        for result in batch["result"]:
            if _ERROR in result:
                raise InputError(result[_ERROR])
            yield result


class _Actor:
    """[`UnitScorer`] as Ray Data calls it: a batch is one task, the units of which follow each other."""

    def __init__(self, work: UnitWork):
        self.work = work

    @functools.cached_property
    def scorer(self) -> UnitScorer:
        # Not before the first task: Ray tells an error there from the death of an actor.
        return UnitScorer(self.work)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        units = [Unit(**{**unit, "row_groups": tuple(unit["row_groups"])}) for unit in batch["units"][0]]
        # Ray would hand on the trace of an error and not the error itself.
        try:
            for result in self.scorer.each(self._begun(units)):
                yield {"result": [result]}
        except InputError as error:
            yield {"result": [{_ERROR: str(error)}]}
        except OSError as error:
            yield {"result": [{_ERROR: f"On {platform.node()}: {error}"}]}

    def _begun(self, units: Sequence[Unit]) -> Iterator[Unit]:
        for unit in units:
            if not self.scorer.folder.is_done(unit.index):
                # Ray gives a unit to one actor at a time: whoever began before is gone.
                self.scorer.folder.notes.begin(unit.index, anyway=True)
            yield unit


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that is running, or one of this machine for as long as the block."""
    if ray.is_initialized():
        yield
        return
    try:
        # Without an address, Ray would look for a cluster that was once started here, and wait minutes for one that is gone.
        address = None if os.environ.get("RAY_ADDRESS") else "local"
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"No Ray cluster answers at {os.environ.get('RAY_ADDRESS', 'this machine')}: {' '.join(str(error).split())[:300]}. Start one "
            "with `ray start --head`, and name it with RAY_ADDRESS."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
