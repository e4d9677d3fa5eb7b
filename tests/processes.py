"""Running commands as a user would: in processes of their own."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def run(command: list[str], *, timeout: float = 240, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs a command from the checkout, one thread a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=ROOT)


def run_processes(count: int, script: list[str], **kwargs) -> subprocess.CompletedProcess:
    """
    Runs a Python script on `count` processes, as torchrun would; the launcher itself would take as long as a process to start.
    The result is that of the first process that failed, or of the first.
    """
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}

    def work(rank: int) -> subprocess.CompletedProcess:
        own = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        return run([sys.executable, *script], env=own, **kwargs)

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(work, range(count)))
    return next((done for done in found if done.returncode), found[0])
