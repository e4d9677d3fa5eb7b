"""Other processes, ended together with this one."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

# Seconds that processes have to end by themselves after a signal.
PATIENCE = 10.0
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))

# Windows has no other end of a process than that of SIGTERM there.
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class StageEnded(Exception):
    """
    A stage in other processes failed, or a signal ended it.

    Args:
        message (`str`): What to tell the user.
        code (`int`): Exit code of this process.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


def run_forwarding(program: list[str], environment: Mapping[str, str], mark: str) -> int:
    """
    Runs a program that starts others and returns its exit code. SIGTERM, SIGINT and SIGHUP are passed on to all of them.
    After such a signal none of them is left.

    Args:
        program (`list` of `str`): Command line.
        environment (mapping): Its environment.
        mark (`str`): A variable of the environment whose value tells these processes from all others.

    Raises:
        StageEnded: When a signal ended them.
    """
    received: list[tuple[int, float]] = []
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))
        if child is not None:
            _signal(_family(child.pid), number)

    with _handled(forward):
        # In a session of its own, it hears of Ctrl-C from here alone, and once.
        child = subprocess.Popen(program, env=dict(environment), start_new_session=True)
        if received:
            _signal(_family(child.pid), received[0][0])
        while (code := child.poll()) is None:
            if received and time.monotonic() - received[0][1] > PATIENCE:
                _signal(_family(child.pid), _KILL)
            time.sleep(0.05)
        if code or received:
            _end(mark, environment[mark])
    if received:
        name = signal.Signals(received[0][0]).name
        raise StageEnded(
            f"ended by {name}. Finished work is kept: the same command goes on from there.", 128 + received[0][0]
        )
    return code


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """A block in which signals go to `handler`; those that the caller ignores (`nohup`) stay ignored."""
    before: dict[int, Any] = {}
    try:
        # Only the main thread may.
        with contextlib.suppress(ValueError):
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _family(pid: int) -> list[Any]:
    """A process and all that it and its own started, the youngest first."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        return [*reversed(process.children(recursive=True)), process]
    except psutil.Error:
        return []


def _signal(processes: list[Any], number: int) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _end(mark: str, value: str) -> None:
    """Ends what is left of the processes with this value of the variable `mark`, also where their parent is gone."""
    import psutil

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(mark) == value:
                left.append(process)
    _signal(left, signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=PATIENCE)
    _signal(alive, _KILL)
    psutil.wait_procs(alive, timeout=PATIENCE)
