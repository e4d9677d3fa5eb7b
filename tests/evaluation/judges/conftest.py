import pytest

pytest.importorskip("openai", reason="the extra `alpaca` is not installed")


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_CLIENT_CONFIG_PATH", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
