"""The real annotator and the real client against a replay server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.alpaca.recorded import Recorded, leaderboard

# alpaca_eval is an extra: without it there is nothing to adapt.
pytest.importorskip("openai", reason="the extra `alpaca` is not installed")
pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")

KEY = "sk-replay-7fe2a0b9c41d"
OFFICIAL = "weighted_alpaca_eval_gpt4_turbo"


@pytest.fixture(autouse=True)
def key(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_CLIENT_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def evaluate(tmp_path) -> Callable[..., Any]:
    """`evaluate(recorded, server)` evaluates through the official annotator."""
    from pd_trl.evaluation import evaluate_alpaca
    from pd_trl.servers.requests import RequestSettings

    def run(recorded: Recorded, server: Any = None, folder: str = "alpaca", **settings: Any) -> Any:
        if server is not None:
            settings = {"judge": OFFICIAL, "base_url": server.base_url, **settings}
        settings.setdefault("requests", RequestSettings(retry_wait=0.02, timeout=20.0))
        return evaluate_alpaca(
            recorded.model,
            reference_outputs=recorded.reference,
            output_dir=tmp_path / folder,
            difficulty_file=recorded.difficulty_file,
            **{"num_resamples": 0, **settings},
        )

    return run


@pytest.fixture(scope="session")
def claude(shared_data) -> Recorded:
    return leaderboard(shared_data, "claude-2.1")


@pytest.fixture(scope="session")
def vicuna(shared_data) -> Recorded:
    return leaderboard(shared_data, "vicuna-7b")


@pytest.fixture
def files(tmp_path) -> Callable[[Recorded], dict[str, Path]]:
    """Writes outputs, reference and annotations as json files."""
    import json

    def write(recorded: Recorded) -> dict[str, Path]:
        paths = {}
        for name in ("model", "reference", "annotations"):
            paths[name] = tmp_path / f"{name}.json"
            paths[name].write_text(json.dumps(getattr(recorded, name)), encoding="utf-8")
        return paths

    return write
