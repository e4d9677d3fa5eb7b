"""
Ratings by a server that decodes, such as llama.cpp's with a small model:

    PD_TRL_LLAMA_SERVER=path/to/llama-server PD_TRL_JUDGE_GGUF=path/to/model.gguf pytest -m slow tests/rating/test_real_server.py
    PD_TRL_JUDGE_SERVER=http://127.0.0.1:8080/v1 pytest -m slow tests/rating/test_real_server.py      # one that runs already
"""

import os
import socket
import subprocess
import time
import urllib.request

import pytest

from pd_trl import load_pairs, server_judge
from pd_trl.rating.rubric import load_rubric
from pd_trl.rating.run import rate
from tests.rating.scripted import write_pairs

pytestmark = pytest.mark.slow
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


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_a_real_model_rates(base_url, tmp_path, mode):
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 3))
    judge = server_judge("judge", base_url=base_url, settings={"timeout": 300, "max_concurrency": 2})
    rated, report = rate(
        pairs, judge, load_rubric(), mode=mode, max_problem_share=1.0, output_dir=tmp_path / "out", repeat_share=0
    )
    assert report.calls["asked"] == 3 * 2 * 4
    answered = report.calls["asked"] - report.calls["unanswered"]
    assert answered > 0 and report.tokens["questions"] > 0
    # llama.cpp gives log-probabilities, and a small model is never sure.
    assert report.calls["expected"] > 0
    values = [row[f"rating_honesty_{side}"] for row in rated for side in "ab"]
    low, high = (1, 5) if mode == "pointwise" else (0, 1)
    assert all(value is None or low <= value <= high for value in values)
