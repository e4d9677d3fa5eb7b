"""What a server may send instead of an answer: functions of the handler of a [`ReplayServer`]."""

import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

Fault = Callable[[Any], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def chat(content: Any = "A", **changes: Any) -> dict[str, Any]:
    """A whole answer of a chat endpoint."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    } | changes


def json_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()


def raw(data: bytes) -> Fault:
    return lambda handler: handler.wfile.write(data)


def body(content: bytes | Any, status: int = 200, **headers: str) -> Fault:
    """Bytes, or a value as json, with a status and headers."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    def send(handler: Any) -> None:
        handler.send_response(status)
        sent = {"content-type": "application/json", "content-length": str(len(data)), "connection": "close", **headers}
        for name, value in sent.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return send


def drip(start: bytes, seconds: float = 0.03) -> Fault:
    """After its start, a byte now and then, for as long as somebody listens."""

    def send(handler: Any) -> None:
        handler.wfile.write(start)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            handler.wfile.write(b"x")
            time.sleep(seconds)

    return send


def informational(handler: Any) -> None:
    """No headers but those that say that headers will come."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 50)
        time.sleep(0.001)


class Endless:
    """A body without end; `sent` is what was taken of it."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.sent = status, 0

    def __call__(self, handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n\r\n" % self.status)
        piece = b" " * 65_536
        while self.sent < 2_000_000_000:
            handler.wfile.write(piece)
            self.sent += len(piece)


def bomb(megabytes: int = 20, coding: str = "gzip") -> Fault:
    """Little data that unpacks to much."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    data = b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
    return body(data, content_encoding=coding)


def packed(content: Any) -> Fault:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return body(packer.compress(json.dumps(content).encode()) + packer.flush(), content_encoding="gzip")


def reset(handler: Any) -> None:
    """Half an answer, and then the connection is gone."""
    handler.wfile.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
