"""What is secret in settings, texts and addresses: decided here for everything that is written, published or shown."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

from .secret_patterns import ADDRESS, ASSIGNED, FLAG, LOGIN, PATH, PEM, QUOTED, TOKEN, USER_AT_HOST, USER_FLAG, VALUE

MASK = "***"
_ROUNDS = 8

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORD = re.compile(
    r"(^|_)(passwords?|passwd|passphrases?|pwd|secrets?|credentials?|authorization|bearer|cookies?|jwt)(_|$)|(^|_)auth$"
)
_KEY = re.compile(
    r"(^|_)(api|access|secret|private|auth|account|ssh|rsa|gpg|pgp|signing|encryption|master|subscription|service|license|client"
    r"|consumer|shared|storage|deploy|session|app|application|functions|admin|root|hub|hf|openai|anthropic|azure|aws|google|gemini"
    r"|mistral|groq|cohere|wandb)_?keys?(_id)?$"
)
# A token under one of these names is a piece of text, or a unit, and no password.
_VOCABULARY = frozenset(
    "pad eos bos unk sep cls mask special added image video audio boi eoi end start stop begin eot eod fim sot new per max min num "
    "first last next prev prompt completion decoder draft extra each response chat prefix suffix role think im placeholder vision "
    "speech bad forced generated target label nl newline space byte blank dummy total mean".split()
)
# Several tokens are a number of them, unless they are said to open something.
_OPENING = frozenset("hub hf access auth api bearer refresh secret personal private deploy bot oauth login".split())
# Parameters of an address or a header that say which service answers, and open nothing.
_HARMLESS = frozenset(
    "version deployment model region engine provider route type accept agent language download revision split config beta "
    "encoding".split()
)
_QUERIES = ("extra_query", "default_query", "query_params")
# The keys of these mappings are names that users give to aspects, policies and files, and no names of settings.
_NAMED_BY_USERS = frozenset(
    "reward_models policies outputs baselines reference_outputs weights aspects models thresholds quantiles metrics column_mapping counts inputs "
    "proxies proxy_metrics conflict rows_per_aspect decided ties unlabelled kept_by_aspect kept_by_votes unseen_labels missing_gaps "
    "gap_correlation overlap heads".split()
)
# What a shell calls its working folder, and the one before it.
_FOLDERS = frozenset(("PWD", "OLDPWD"))
# Where a run lies on this machine, and how it was started, says nothing to others.
_LOCAL = frozenset(("env", "output_dir", "overwrite", "dry_run"))


def _snake(name: str) -> str:
    return "_".join(word.lower() for word in _WORDS.findall(name))


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """
    Whether a setting of this name holds a secret: `hub_token`, `apiKey`, `X-Api-Key`, `passwords`; but not `pad_token`,
    `max_tokens`, or `api_key_env`, which is the name of a variable.
    """
    words = _snake(name).split("_")
    if words[-1] == "env":
        return False
    snake = "_".join(words)
    if _SECRET_WORD.search(snake) or _KEY.search(snake):
        return True
    match = re.fullmatch(r"(\w*?)token(s?)", words[-1])
    if match is None:
        return False
    kind = match[1] or (words[-2] if len(words) > 1 else "")
    return kind in _OPENING if match[2] else kind not in _VOCABULARY


def is_secret_entry(name: object, value: Any) -> bool:
    """Whether the entry `name: value` of a mapping is a secret. A switch is none, and neither is a measured number."""
    if not isinstance(name, str) or isinstance(value, bool) or not is_secret_name(name):
        return False
    return not isinstance(value, float)


def masked_text(text: str, known: Iterable[str | None] = ()) -> str:
    """
    `text` without secrets: those that are `known`, whatever looks like a token or a key, what is assigned to a secret name, and
    user, password and query of an address. The host and the path of an address stay.
    """
    for secret in sorted({secret for secret in known if secret}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    # What is masked can stand for a name or a quote that hid the next secret.
    for _ in range(_ROUNDS):
        shown = _masked_once(text)
        if shown == text:
            break
        text = shown
    return text


def _masked_once(text: str) -> str:
    text = ADDRESS.sub(_masked_address, PEM.sub(MASK, text))
    text = LOGIN.sub(lambda m: f"{m[1] or m[2] or m[3]}{MASK}", USER_AT_HOST.sub("", TOKEN.sub(MASK, text)))
    text = QUOTED.sub(_masked_quoted, USER_FLAG.sub(_masked_user, text))
    return FLAG.sub(lambda m: f"{m[1]}{m[2]}{MASK}" if is_secret_name(m[1]) else m[0], _unassigned(text))


def _masked_user(match: re.Match[str]) -> str:
    value = match["q"] or match["s"] or match["b"] or ""
    return f"{match[1]}{MASK}" if ":" in value or match[1].startswith("sshpass") else match[0]


def _masked_quoted(match: re.Match[str]) -> str:
    text = match[0]
    for _ in range(_ROUNDS):
        text, before = unquote(text), text
        if masked_text(text) != text:
            return MASK
        if text == before:
            break
    return match[0]


def _unassigned(text: str) -> str:
    """`text` without the values that stand behind secret names, as in `api_key=...` or `"password": "..."`."""
    parts, end = [], 0
    for match in ASSIGNED.finditer(text):
        if match.start() < end or not is_secret_name(match[1]) or not (value := VALUE.match(text, match.end())):
            continue
        if value[0].lower() in ("true", "false", "none", "null"):
            continue
        parts += [text[end : match.end()], MASK]
        end = value.end()
    return "".join([*parts, text[end:]])


def _masked_address(match: re.Match[str]) -> str:
    rest, _ = _without_login(match[2])
    place, mark, query = rest.partition("?")
    if mark:
        query, hash_sign, fragment = query.partition("#")
    else:
        place, hash_sign, fragment = place.partition("#")
    # A fragment holds parameters where a login sent its answer there.
    fragment = _masked_query(fragment) if "=" in fragment else fragment
    return f"{match[1]}://{place}{mark}{_masked_query(query)}{hash_sign}{fragment}"


def _without_login(rest: str) -> tuple[str, str]:
    """An address after `://` without `user:password@`, and that. A password may hold unquoted slashes and at signs."""
    authority = re.match(r"[^/?#]*", rest)[0]  # type: ignore[index]
    if "@" in authority:
        end = rest.partition("?")[0].rfind("@") + 1
    elif re.search(r":[^\d\]:]", authority) and not authority.startswith("["):
        end = rest.rfind("@") + 1
    else:
        end = 0
    return rest[end:], rest[:end]


def _masked_query(query: str) -> str:
    shown = []
    for part in re.split("[&;]", query) if query else []:
        name, sign, _ = part.partition("=")
        shown.append(part if sign and _is_harmless(unquote(name)) else f"{name}={MASK}" if sign else MASK)
    return "&".join(shown)


def _is_harmless(name: object) -> bool:
    return _snake(str(name)).rpartition("_")[2] in _HARMLESS and not is_secret_name(str(name))


def known_secrets() -> list[str]:
    """Values of the environment variables whose names are those of secrets, such as HF_TOKEN."""
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= 8 and name not in _FOLDERS and is_secret_name(name)
    ]


def masked(value: Any, *, public: bool = False) -> Any:
    """
    A json-like value without secrets, for a file or a message.

    Entries with secret names are left out, whatever they hold; headers and queries keep what says which service answers; texts
    are as in [`masked_text`]. The result does not depend on the secret, and masking it again changes nothing.

    Args:
        value: Settings.
        public (`bool`, *optional*, defaults to `False`): Whether it leaves this machine: then local settings are left out too,
            and paths are cut to their last part.
    """
    return _masked(value, public, names=True)


def _masked(value: Any, public: bool, names: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _masked_string(value, public, names)
    if isinstance(value, Mapping):
        return {
            _masked_string(key, public) if isinstance(key, str) else key: entry
            for key, entry in _masked_entries(value, public, names)
        }
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return _masked_list(value, public)
    text = str(value)
    shown = _masked_string(text, public)
    return shown if shown != text or isinstance(value, PurePath) else value


def _masked_entries(value: Mapping[Any, Any], public: bool, names: bool) -> Iterator[tuple[Any, Any]]:
    named = next((value[key] for key in ("name", "key", "header") if isinstance(value.get(key), str)), "")
    for key, entry in value.items():
        if (names and is_secret_entry(key, entry)) or (public and key in _LOCAL):
            continue
        if key == "value" and is_secret_entry(named, entry):
            entry = MASK
        if isinstance(entry, Mapping) and _holds_parameters(key):
            entry = {name: text for name, text in entry.items() if _is_harmless(name)}
        elif isinstance(entry, (str, list, tuple)) and _holds_parameters(key):
            entry = [MASK] * bool(entry)
        yield key, _masked(entry, public, names=key not in _NAMED_BY_USERS)


def _holds_parameters(key: object) -> bool:
    """Whether a mapping of this name holds headers, or the query of an address."""
    snake = _snake(key) if isinstance(key, str) else ""
    return snake in _QUERIES or snake.rpartition("_")[2] == "headers"


def _masked_list(values: Iterable[Any], public: bool, in_list: bool = False) -> list[Any]:
    """Entries of a list. After a flag, and in a list of pairs, a name says what its neighbour is."""
    entries = list(values)
    is_pair = in_list and len(entries) == 2
    shown: list[Any] = []
    for i, entry in enumerate(entries):
        before = entries[i - 1] if i else None
        is_value = isinstance(before, str) and (before.startswith("-") or is_pair)
        if is_value and entry is not None and is_secret_entry(before, entry) and not str(entry).startswith("--"):
            shown.append(MASK)
        elif isinstance(entry, str) and before in ("-u", "-U", "--user", "--proxy-user") and ":" in entry:
            shown.append(MASK)
        elif isinstance(entry, (list, tuple)):
            shown.append(_masked_list(entry, public, in_list=True))
        else:
            shown.append(_masked(entry, public, names=True))
    return shown


def _masked_string(text: str, public: bool, names: bool = True) -> str:
    content = parsed_json(text)
    if content is not None:
        shown = _masked(content, public, names)
        return text if shown == content else json.dumps(shown, ensure_ascii=False)
    return _public_path(masked_text(text)) if public else masked_text(text)


def _public_path(text: str) -> str:
    if re.match(r"/|~|\.\.?/|\$\{?\w+\}?/|[A-Za-z]:[/\\]|\\\\", text) and "\n" not in text and "://" not in text:
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1] or text
    return PATH.sub(lambda m: re.split(r"[/\\]", m[0].rstrip("/\\"))[-1], text)


def secrets_in(value: Any, place: str = "", in_list: bool = False) -> Iterator[str]:
    """Where a json-like value holds a secret: the names of the settings, with dots between."""
    if isinstance(value, Mapping):
        by_users = place.rpartition(".")[2] in _NAMED_BY_USERS
        for key, entry in value.items():
            inner = f"{place}.{key}" if place else str(key)
            if is_secret_entry(key, entry) and not by_users:
                yield from [inner] if entry not in (None, "", [], {}) else []
            else:
                yield from secrets_in(entry, inner)
            yield from [place] if isinstance(key, str) and _opens(key) else []
    elif isinstance(value, (list, tuple)):
        shown = _masked_list(value, False, in_list)
        for entry, visible in zip(value, shown, strict=True):
            yield from [place] if visible == MASK != entry else secrets_in(entry, place, in_list=True)
    elif isinstance(value, str):
        content = parsed_json(value)
        yield from secrets_in(content, place) if content is not None else [place] if _opens(value) else []


def parsed_json(text: str) -> Any:
    """The json in a text that holds an object or a list; `None` where it does not."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        return None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a name that stands there twice, a mapping would show the last value only.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate names")
    return found


def _opens(text: str) -> bool:
    """Whether a text holds a token, a key, or an address with a password."""
    if any(pattern.search(text) for pattern in (PEM, TOKEN, LOGIN)):
        return True
    for match in ADDRESS.finditer(text):
        rest, login = _without_login(match[2])
        names = re.findall(r"[?&;#]([^=&;#]+)=", rest)
        if ":" in login or any(is_secret_name(unquote(name)) or name.lower() in ("key", "sig") for name in names):
            return True
    return False
