"""A local Hub in a process of its own, and clients of it in processes whose environment is set before they import anything."""

import contextlib
import io
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import ROOT

ME = "hf_WriteTokenOfMe0123456789abcdef"
ME_READ_ONLY = "hf_ReadTokenOfMe0123456789abcdefg"
ME_EXPIRED = "hf_ExpiredTokenOfMe0123456789abcd"
ME_FINE_GRAINED = "hf_FineTokenOfMe0123456789abcdefg"  # may write to the data set me/allowed only
OTHER = "hf_WriteTokenOfOther0123456789abc"
NEWCOMER = "hf_WriteTokenOfNewcomer0123456789"  # contributor of acme
TOKENS = (ME, ME_READ_ONLY, ME_EXPIRED, ME_FINE_GRAINED, OTHER, NEWCOMER)


@dataclass
class Outcome:
    """What a function in a client's process returned or raised, and all that it printed and logged."""

    value: Any = None
    error: Exception | None = None
    output: str = ""

    def refused(self, *words: str) -> str:
        """The message of the error that was raised, after checking that it has `words`."""
        assert self.error is not None, self.value
        for word in words:
            assert word in str(self.error), str(self.error)
        return str(self.error)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _hurry() -> None:
    """In a client: pauses between tries are a tenth of what is asked for. How long they are is tested beside `seconds_to_wait`."""
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds / 10)


def _call(function: Callable[..., Any], arguments: tuple, keywords: dict[str, Any], token: str | None) -> Outcome:
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    root.addHandler(handler)
    before, level = root.level, logging.DEBUG
    root.setLevel(level)
    # Each call is a process of its own to the code under test, but for its imports.
    if preflight := sys.modules.get("pd_trl.hub.preflight"):
        preflight._identities.clear()
    outcome = Outcome()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            outcome.value = function(*arguments, **keywords)
    except Exception as error:
        outcome.error = error if isinstance(error, (ValueError, OSError)) else RuntimeError(repr(error))
        said.write(str(error))
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    outcome.output = said.getvalue()
    return outcome


@dataclass
class LocalHub:
    """
    Args:
        base (`str`): URL of the server.
        root (`Path`): Its files.
        mode (`str`): How its clients upload: `"xet"` or `"lfs"`.
        home (`Path`): Folder for the caches of its clients.
    """

    base: str
    root: Path
    mode: str
    home: Path
    workers: dict[str, ProcessPoolExecutor] = field(default_factory=dict)

    def environment(self, user: str = "me") -> dict[str, str]:
        """Environment of a client; each user has caches of their own."""
        return {
            "HF_ENDPOINT": self.base, "HF_HOME": str(self.home / user), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if self.mode == "xet" else "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def call(
        self, function: Callable[..., Any], *arguments: Any, token: str | None = ME, user: str = "me", **keywords: Any
    ) -> Outcome:
        """Runs a function of a module in the client of a user, and checks that no token was printed or logged."""
        if user not in self.workers:
            self.workers[user] = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _hurry)
            # The process starts with its first task.
            with _environment(self.environment(user)):
                self.workers[user].submit(os.getpid).result(timeout=60)
        outcome = self.workers[user].submit(_call, function, arguments, keywords, token).result(timeout=240)
        assert not any(token in outcome.output for token in TOKENS), "a token was printed or logged"
        return outcome

    def run(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """The value of [`call`], which must not fail."""
        outcome = self.call(function, *arguments, **keywords)
        if outcome.error is not None:
            raise AssertionError(outcome.output) from outcome.error
        return outcome.value

    def command(
        self, *arguments: object, token: str | None = ME, user: str = "me", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """Runs `pd-trl` in a process, as a user would."""
        environment = {**os.environ, **self.environment(user), **(env or {})}
        environment.pop("HF_TOKEN", None)
        if token is not None:
            environment["HF_TOKEN"] = token
        command = [sys.executable, "-m", "pd_trl", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT)
        assert not any(token in done.stdout + done.stderr for token in TOKENS), "a token was printed"
        return done

    def fault(self, path: str, **settings: Any) -> None:
        """The next request whose path matches fails, see [`Hub`]."""
        self._request("POST", "/_test/faults", {"path": path, **settings})

    def log(self) -> list[dict[str, Any]]:
        """Requests since the last [`reset`]."""
        return self._request("GET", "/_test/log")

    def requests(self, method: str, path: str) -> list[dict[str, Any]]:
        """Requests since the last [`reset`] whose path has `path`."""
        return [entry for entry in self.log() if entry["method"] == method and path in entry["path"]]

    def reset(self) -> None:
        """Forgets faults and requests."""
        self._request("DELETE", "/_test/log")

    def tree(self, kind: str, repo_id: str, branch: str = "main") -> dict[str, dict[str, Any]]:
        """Files of a branch, as the server has them; none where there is no repository."""
        repo = self.repo(kind, repo_id)
        if repo is None:
            return {}
        commit = self.root / "repos" / kind / repo_id / "commits" / f"{repo['branches'][branch]}.json"
        return json.loads(commit.read_text())["tree"]

    def repo(self, kind: str, repo_id: str) -> dict[str, Any] | None:
        """A repository as the server has it."""
        path = self.root / "repos" / kind / repo_id / "repo.json"
        return json.loads(path.read_text()) if path.exists() else None

    def text(self, kind: str, repo_id: str, path: str) -> str:
        """A text file at the head of a repository."""
        return (self.root / "blobs" / self.tree(kind, repo_id)[path]["sha256"]).read_text()

    def copy(self, kind: str, source: str, repo_id: str) -> None:
        """Makes another repository with the same history, without a client."""
        folder, target = (self.root / "repos" / kind / name for name in (source, repo_id))
        shutil.copytree(folder, target)
        (target / "repo.json").write_text(
            json.dumps({**json.loads((folder / "repo.json").read_text()), "id": repo_id})
        )

    def num_commits(self, kind: str, repo_id: str) -> int:
        """Commits of a repository, the first and those of pull requests included."""
        return len(list((self.root / "repos" / kind / repo_id / "commits").glob("*.json")))

    def close(self) -> None:
        for worker in self.workers.values():
            # Without the interpreter's teardown, which waits for the threads of the libraries.
            worker.submit(os._exit, 0)
            worker.shutdown()

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())


@contextmanager
def local_hub(folder: Path, mode: str = "lfs", page_size: int = 5) -> Iterator[LocalHub]:
    """A server on a free port of 127.0.0.1 for as long as the block runs; small pages, so that clients must turn them."""
    root = folder / "server"
    command = [sys.executable, "-m", "tests.hub.server", "--root", str(root), "--page-size", str(page_size)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line.startswith("READY "), line
        hub = LocalHub(line.split()[1], root, mode, folder / "home")
        yield hub
        hub.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
