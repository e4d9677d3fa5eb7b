"""Which variables are sent to which server."""

import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.recipe_rules import check_servers
from pd_trl.safety.keys import check_key_variable
from pd_trl.servers.client import OpenAIClient

FOREIGN = "https://llm.example.com/v1"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("OPENAI_API_KEY", None), ("JUDGE_API_KEY", FOREIGN), ("GROQ_API_KEY", "https://api.groq.com/openai/v1"),
        ("OPENAI_API_KEY", "http://localhost:8000/v1"), ("OPENAI_API_KEY", "http://[::1]:8000/v1"), ("WHATEVER", "http://127.0.0.1:1"),
        ("HF_TOKEN", "https://router.huggingface.co/v1"), ("HF_TOKEN", "https://me:pw@huggingface.co:443/v1"),
    ],
)  # fmt: skip
def test_what_a_recipe_may_send(name, address):
    check_key_variable(name, address, named_by_user=False)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("OPENAI_API_KEY", FOREIGN), ("OPENAI_API_KEY", "https://api.openai.com.evil.example/v1"), ("MY_TOKEN", FOREIGN),
        ("OPENAI_API_KEY", "https://api.openai.com@evil.example/v1"), ("STRIPE_API_KEY", FOREIGN),
        ("GROQ_API_KEY", "https://groq.com.example/v1"), ("HOME", None), ("ANTHROPIC_API_KEY", None),
        ("OPENAI_API_KEY", "http://192.168.1.2:8000/v1"), ("OPENAI_API_KEY", "http://127.0.0.1.evil.example/v1"),
    ],
)  # fmt: skip
def test_what_only_the_user_may_send(name, address):
    with pytest.raises(InputError, match="command line") as refusal:
        check_key_variable(name, address, named_by_user=False)
    assert name in str(refusal.value)
    check_key_variable(name, address)


@pytest.mark.parametrize("by_user", [True, False])
@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("HF_TOKEN", FOREIGN), ("hf_token", FOREIGN), ("HUGGING_FACE_HUB_TOKEN", FOREIGN), ("HUGGINGFACE_API_KEY", FOREIGN),
        ("HF_API_KEY", None), ("HF_TOKEN", "http://huggingface.co/v1"), ("HF_TOKEN", "https://huggingface.co.example/v1"),
        ("HF_TOKEN", "https://x.endpoints.huggingface.cloud/v1"), ("HF_TOKEN", "http://127.0.0.1:8000/v1"),
        ("AWS_SECRET_ACCESS_KEY", FOREIGN), ("AWS_API_KEY", FOREIGN), ("GITHUB_TOKEN", FOREIGN), ("GH_TOKEN", None),
        ("SSH_AUTH_SOCK", FOREIGN), ("PGPASSWORD", FOREIGN), ("sk-abcdefghijklmnop", FOREIGN), ("A B", FOREIGN), ("", FOREIGN),
    ],
)  # fmt: skip
def test_what_nobody_sends(name, address, by_user, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(InputError) as refusal:
        check_key_variable(name, address, named_by_user=by_user)
    assert "sk-" not in str(refusal.value)


def test_the_hub_is_where_the_user_says(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.intern:8080")
    check_key_variable("HF_TOKEN", "http://hub.intern:9000/v1", named_by_user=False)


def test_a_client_in_python_keeps_the_rule(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 30)
    with pytest.raises(InputError, match="Hugging Face Hub"):
        OpenAIClient(FOREIGN, "HF_TOKEN")


def test_servers_of_a_section(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    check_servers({"base_url": FOREIGN})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    for section in (
        {"base_url": FOREIGN},
        {"judge_kwargs": {"base_url": FOREIGN}},
        {"judge_kwargs": f'{{"base_url": "{FOREIGN}"}}'},
        {"judge_kwargs": {"base_url": FOREIGN, "api_key_env": "STRIPE_API_KEY"}},
    ):
        with pytest.raises(InputError, match="command line"):
            check_servers(section)
        check_servers(section, list(section))
