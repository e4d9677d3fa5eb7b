"""
An OpenAI-compatible server on 127.0.0.1 that gives one answer to everything, so many seconds after the question, on kept connections.

    python scripts/speed/scripted_server.py judge 0.005

It prints its port. Requests with a key of their own are no different from others.
"""

import asyncio
import json
import re
import sys

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def answer(kind: str) -> bytes:
    """What a judge ("judge"), a judge with log-probabilities ("rate") or a policy ("generate") says, as it is sent."""
    text = {"judge": "A", "rate": "4", "generate": "The capital of France is Paris. " * 20}[kind]
    choice: dict[str, object] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    if kind == "rate":
        top = [{"token": str(i), "logprob": -0.5 - i, "bytes": [48 + i % 10]} for i in range(20)]
        top[4]["logprob"] = -0.2
        choice["logprobs"] = {"content": [{"token": "4", "logprob": -0.2, "bytes": [52], "top_logprobs": top}]}
    usage = {"prompt_tokens": 210, "completion_tokens": 1, "total_tokens": 211}
    body = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [choice],
            "usage": usage,
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, sent: bytes, seconds: float):
        self.sent, self.seconds, self.read = sent, seconds, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self.read, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self.read) < whole:
                return
            self.read = self.read[whole:]
            asyncio.get_running_loop().call_later(self.seconds, self.transport.write, self.sent)  # type: ignore[attr-defined]


async def serve(sent: bytes, seconds: float) -> None:
    """Serves until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(sent, seconds), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(answer(sys.argv[1]), float(sys.argv[2])))
