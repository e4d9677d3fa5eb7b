"""Outputs of a server that decodes, see `tests/servers/real_server.py`."""

import json

import pytest

from pd_trl.cli.main import main
from tests.servers.real_server import base_url  # noqa: F401

pytestmark = pytest.mark.slow


def test_a_real_model_answers_and_is_not_asked_twice(base_url, tmp_path):  # noqa: F811
    questions = ["What is the capital of France?", "Name a colour.", "What is 2 + 2?"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"instruction": text}) + "\n" for text in questions))
    command = ["generate", "--model", "judge", "--instructions", str(tmp_path / "prompts.jsonl"), "--max_new_tokens", "12",
               "--requests", json.dumps({"timeout": 300, "max_concurrency": 2})]  # fmt: skip
    for name in "ab":
        assert main([*command, "--output_dir", str(tmp_path / name), "--base_url", base_url]) == 0
    first, second = (json.loads((tmp_path / name / "model_outputs.json").read_text()) for name in "ab")
    assert [entry["instruction"] for entry in first] == questions
    assert all(entry["output"].strip() for entry in first)
    # Greedy: the words may differ only where two tokens are level.
    assert sum(a["output"] == b["output"] for a, b in zip(first, second, strict=True)) >= 2
    # Nobody listens there: what is done is not asked again.
    assert main([*command, "--output_dir", str(tmp_path / "a"), "--base_url", "http://127.0.0.1:9/v1"]) == 0
