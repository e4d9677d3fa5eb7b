"""Running commands as a user would: in processes of their own."""

import os
import socket
import subprocess
import sys
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
    """Runs a Python script on `count` processes."""
    port = ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", *port]
    return run([*launch, *script], **kwargs)
