"""`python -m tests.hub.server --root DIR [--port PORT] [--no-xet] [--page-size N]`"""

import argparse
import socket
import sys
from pathlib import Path

import uvicorn

from .app import Hub
from .store import Store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-xet", action="store_true")
    parser.add_argument("--page-size", type=int, default=1000)
    options = parser.parse_args()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", options.port))
    base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    hub = Hub(Store(options.root, base, options.page_size), not options.no_xet)
    server = uvicorn.Server(uvicorn.Config(hub, log_level="warning", lifespan="off", access_log=False))
    sock.listen()
    sys.stdout.write(f"READY {base}\n")
    sys.stdout.flush()
    server.run(sockets=[sock])


if __name__ == "__main__":
    main()
