"""Which environment variables may be sent to which server as its key."""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from ..errors import InputError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPENAI = ("openai.com", "openai.azure.com", "cognitiveservices.azure.com")
_HUB = ("huggingface.co", "hf.co")
# What opens the user's accounts elsewhere is sent to no judge, whoever names it.
_NEVER = re.compile(
    r"(AWS|GITHUB|GH|GITLAB|BITBUCKET|SSH|GPG|GNUPG|DOCKER|KUBE|KUBERNETES|VAULT|NPM|PYPI|TWINE|UV|POETRY|CONDA|GOOGLE_APPLICATION"
    r"|GCP|GCLOUD|ARM|ANSIBLE|TF|TERRAFORM|CI|ACTIONS|RUNNER|SLURM|PG|POSTGRES|MYSQL|REDIS|MONGO|DATABASE|DB|SUDO|PD_TRL)(_|$)"
    r"|PGPASSWORD$"
)
_IS_HUBS = re.compile(r"(HF|HUGGINGFACE|HUGGING_FACE|HUGGINGFACEHUB)(_|$)")
# Keys of well-known services, and the hosts that they are for. Services that answer no chat have none.
_HOMES: dict[str, tuple[str, ...]] = {
    "OPENAI": _OPENAI,
    "AZURE": ("azure.com",),
    "ANTHROPIC": ("anthropic.com",),
    "GEMINI": ("googleapis.com",),
    "GOOGLE": ("googleapis.com",),
    "MISTRAL": ("mistral.ai",),
    "GROQ": ("groq.com",),
    "TOGETHER": ("together.xyz", "together.ai"),
    "OPENROUTER": ("openrouter.ai",),
    "DEEPSEEK": ("deepseek.com",),
    "COHERE": ("cohere.com", "cohere.ai"),
    "CO": ("cohere.com", "cohere.ai"),
    "FIREWORKS": ("fireworks.ai",),
    "PERPLEXITY": ("perplexity.ai",),
    "XAI": ("x.ai",),
    "NVIDIA": ("nvidia.com",),
    "DASHSCOPE": ("aliyuncs.com",),
    "MOONSHOT": ("moonshot.cn", "moonshot.ai"),
    "CEREBRAS": ("cerebras.ai",),
    "SAMBANOVA": ("sambanova.ai",),
    "REPLICATE": ("replicate.com",),
    **dict.fromkeys(
        ("WANDB", "COMET", "NEPTUNE", "STRIPE", "DATADOG", "DD", "SENDGRID", "MAILGUN", "TWILIO", "SLACK", "NOTION", "LINEAR",
         "SENTRY", "PINECONE", "ALGOLIA", "CLOUDFLARE", "CF", "KAGGLE", "LANGSMITH", "LANGCHAIN", "TAVILY", "SERPAPI"),
        (),
    ),
}  # fmt: skip


def check_key_variable(name: str, base_url: str | None, *, named_by_user: bool = True) -> None:
    """
    Raises `InputError` unless the environment variable `name` may be sent to the server at `base_url` as its key.

    A Hub token goes to the Hub's hosts only; cloud, source-code and database secrets go nowhere. A variable that no user named,
    but a recipe or a default, must in addition be called `..._API_KEY`; that of a well-known service goes to this service or to
    this machine.

    Args:
        name (`str`): Name of the variable.
        base_url (`str`, *optional*): Address of the server. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        named_by_user (`bool`, *optional*, defaults to `True`): Whether the user named it, on the command line or in Python.
    """
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise InputError(
            "`api_key_env` must be the name of an environment variable, such as OPENAI_API_KEY. (Not shown, it may be a key.)"
        )
    address = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    host = _host(address)
    upper = name.upper()
    if _IS_HUBS.match(upper):
        if not _is_hubs_address(address, host):
            raise InputError(
                f"The token in {name} is for the Hugging Face Hub and is not sent to {host}. Put the key of that server into a "
                "variable of its own, and name that one with `api_key_env`."
            )
        return
    if _NEVER.match(upper):
        raise InputError(
            f"The variable {name} holds a secret of another service and is not sent to {host}. Put the key of that server into a "
            "variable of its own, such as JUDGE_API_KEY, and name that one with `api_key_env`."
        )
    if named_by_user or _is_local(host):
        return
    homes = _HOMES.get(upper.split("_")[0])
    if not upper.endswith("_API_KEY") or (homes is not None and not _belongs(host, homes)):
        raise InputError(
            f"The recipe would send the variable {name} to {host}. A recipe may send a service's key to this service or to this "
            f"machine, and variables called ..._API_KEY of no known service. If you trust {host}, name the variable on the command "
            f"line: `api_key_env` {name}."
        )


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_hubs_address(address: str, host: str) -> bool:
    # A server that anyone can rent there, such as an inference endpoint, is not the Hub.
    return (_belongs(host, _HUB) and address.lower().startswith("https:")) or (
        host != "" and host == _host(os.environ.get("HF_ENDPOINT", ""))
    )


def _belongs(host: str, homes: tuple[str, ...]) -> bool:
    return any(home and (host == home or host.endswith(f".{home}")) for home in homes)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback
