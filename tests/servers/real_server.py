"""
A server that decodes, such as llama.cpp's or vLLM's with a small model, for slow tests:

    PD_TRL_LLAMA_SERVER=path/to/llama-server PD_TRL_JUDGE_GGUF=path/to/model.gguf pytest -m slow tests/rating/test_real_server.py
    PD_TRL_JUDGE_SERVER=http://127.0.0.1:8080/v1 pytest -m slow tests/rating/test_real_server.py      # one that runs already

Its model answers to the name `judge`.
"""

import os
import socket
import subprocess
import time
import urllib.request

import pytest

ADDRESS, BINARY, MODEL = "PD_TRL_JUDGE_SERVER", "PD_TRL_LLAMA_SERVER", "PD_TRL_JUDGE_GGUF"


@pytest.fixture(scope="module")
def base_url(tmp_path_factory):
    if os.environ.get(ADDRESS):
        yield os.environ[ADDRESS]
        return
    if not (os.environ.get(BINARY) and os.environ.get(MODEL)):
        pytest.skip(
            f"no server that decodes: set {ADDRESS} to one that runs, or {BINARY} and {MODEL} to llama.cpp's and a model"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        os.environ[BINARY],
        "-m",
        os.environ[MODEL],
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-c",
        "8192",
        "-np",
        "2",
    ]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
