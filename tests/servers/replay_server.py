"""An OpenAI-compatible server on 127.0.0.1 that answers as a recorded judge did, and fails when it is told to."""

import contextlib
import hashlib
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Records = list[dict[str, Any]]

_PROMPT = re.compile(
    r'"instruction": """(?P<instruction>.*)""",\n\}\n\n## Model Outputs.*?"model_identifier": "m",\n        '
    r'"output": """(?P<m>.*)"""\n    \},\n    \{\n        "model_identifier": "M",\n        "output": """(?P<M>.*)"""\n    \}\n\}\n\n## Task',
    re.DOTALL,
)


def parse_prompt(text: str) -> tuple[str, str, str]:
    """Instruction, and the outputs shown as m and M, of a prompt of alpaca_eval_clf."""
    match = _PROMPT.search(text)
    if match is None:
        raise ValueError("not a prompt of alpaca_eval_clf")
    return match["instruction"], match["m"], match["M"]


class ReplayServer(ThreadingHTTPServer):
    """
    Answers of recorded annotations by what the prompt shows. `status` decides on failures from the prompt and the number of the
    try: a status, a choice, "timeout", or a function of the handler that sends whatever it likes. `counts` are requests by prompt, `answered` those whose answer was sent whole.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, records: Records, status: Callable[[str, int], Any] | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.by_question: dict[tuple[str, str, str], Any] = {}
        for record in records:
            shown = (record["output_1"], record["output_2"])
            for pair, preference in ((shown, record["preference"]), (shown[::-1], 3 - record["preference"])):
                answer = record.get("raw_completion"), preference
                self.by_question[(record["instruction"], *pair)] = answer
        self.status = status or (lambda prompt, attempt: 200)
        self.counts: Counter = Counter()
        self.answered: Counter = Counter()
        self.statuses: Counter = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.paths: set[str] = set()
        self.lock = threading.Lock()
        self.hold_after: int | None = None
        self.served_as: str | None = None
        self.reached = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def choice(self, prompt: str) -> dict[str, Any]:
        """The recorded judge's choice; where only its preference is known, log-probabilities that say the same."""
        instruction, first, second = parse_prompt(prompt)
        raw, preference = self.by_question[(instruction, first, second)]
        if raw and self.says(raw, preference):
            return {key: raw[key] for key in ("finish_reason", "index", "logprobs", "message")}
        share = min(max(2 - preference, 1e-12), 1 - 1e-12)
        top = [{"token": t, "bytes": None, "logprob": math.log(p)} for t, p in (("m", share), ("M", 1 - share))]
        text = "m" if share >= 0.5 else "M"
        content = [{"token": text, "bytes": None, "logprob": 0.0, "top_logprobs": top}]
        message = {"role": "assistant", "content": text}
        return {"finish_reason": "length", "index": 0, "logprobs": {"content": content}, "message": message}

    @staticmethod
    def says(raw: dict[str, Any], preference: float) -> bool:
        """Whether a recorded answer, given in the order of outputs it was asked in, is that of this order."""
        top = {t["token"]: math.exp(t["logprob"]) for t in raw["logprobs"]["content"][0]["top_logprobs"]}
        share = top.get("m", 0.0) / (top.get("m", 0.0) + top.get("M", 0.0))
        return abs(2 - share - preference) < 1e-6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReplayServer
    # Without this, each answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        server = self.server
        with server.lock:
            server.counts[prompt] += 1
            server.bodies.append(body)
            server.paths.add(self.path)
            server.keys.add(self.headers.get("authorization"))
            attempt = server.counts[prompt]
            hold = server.hold_after is not None and sum(server.answered.values()) >= server.hold_after
        if hold:
            server.reached.set()
            time.sleep(60)
            return
        status = server.status(prompt, attempt)
        with server.lock:
            server.statuses[status if isinstance(status, (int, str)) else "answer"] += 1
        if callable(status):
            self.close_connection = True
            with contextlib.suppress(OSError):
                status(self)
            return
        if status == "timeout":
            time.sleep(2.0)
            self.close_connection = True
            return
        if isinstance(status, int) and status != 200:
            # Some servers repeat the key that they were given.
            message = f"trouble {status} with {self.headers.get('authorization')}"
            self._send(status, {"error": {"message": message, "code": str(status)}})
            return
        try:
            choice = status if isinstance(status, dict) else server.choice(prompt)
        except (KeyError, ValueError) as error:
            self._send(400, {"error": {"message": f"the record has no such question: {str(error)[:200]}"}})
            return
        usage = {"prompt_tokens": len(prompt) // 5, "completion_tokens": 1, "total_tokens": len(prompt) // 5 + 1}
        self._send(
            200,
            {
                "id": "replay",
                "object": "chat.completion",
                "created": 0,
                "model": server.served_as or body["model"],
                "choices": [choice],
                "usage": usage,
            },
        )
        with server.lock:
            server.answered[prompt] += 1

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 429:
            self.send_header("retry-after", "0.05")
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def replay(records: Records, status: Callable[[str, int], Any] | None = None) -> Iterator[ReplayServer]:
    """A server for the block."""
    server = ReplayServer(records, status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def failing(share: float, kinds: tuple[Any, ...] = (429, 500, "timeout")) -> Callable[[str, int], Any]:
    """Fails that share of the answers, whatever the order of requests: a prompt's try has one fate."""

    def status(prompt: str, attempt: int) -> Any:
        digest = hashlib.blake2b(f"{attempt}{prompt}".encode(), digest_size=8).digest()
        fate = int.from_bytes(digest[:4], "big") / 2**32
        return kinds[digest[4] % len(kinds)] if fate < share else 200

    return status
