"""Outputs of servers that decode, see `tests/servers/real_server.py`."""

import json

import pytest

from pd_trl.cli.main import main
from tests.servers.real_server import real_server  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_real_model_answers_and_is_not_asked_twice(real_server, tmp_path):  # noqa: F811
    questions = ["What is the capital of France?", "Name a colour.", "What is 2 + 2?"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"instruction": text}) + "\n" for text in questions))
    command = ["generate", "--model", real_server.model, "--instructions", str(tmp_path / "prompts.jsonl"),
               "--max_new_tokens", "12", "--requests", json.dumps({"timeout": 600, "max_concurrency": 2})]  # fmt: skip

    def outputs(name, base_url=real_server.base_url):
        assert main([*command, "--output_dir", str(tmp_path / name), "--base_url", base_url]) == 0
        return json.loads((tmp_path / name / "model_outputs.json").read_text())

    first, second = outputs("a"), outputs("b")
    assert [entry["instruction"] for entry in first] == questions
    assert "Paris" in first[0]["output"]
    # Greedy: the words may differ only where two tokens are level.
    assert sum(a["output"] == b["output"] for a, b in zip(first, second, strict=True)) >= 2
    # Nobody listens there: a run that stopped before its end uses the answers that it has.
    for name in ("model_outputs.json", "manifest.json"):
        (tmp_path / "a" / name).unlink()
    assert outputs("a", "http://127.0.0.1:9/v1") == first
