"""No secret survives in what is written, and ordinary settings stay as they are."""

import copy
import json
import os
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pd_trl.errors import InputError
from pd_trl.publishing.privacy import published_value
from pd_trl.runs.artifacts import MANIFEST_NAME, Manifest, digest_of, write_json
from pd_trl.runs.results import EvalResult, save_results
from pd_trl.runs.row_log import RowLog
from pd_trl.safety.secrets import is_secret_name, known_secrets, masked, masked_text, secrets_in

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"
bodies = st.text(ALPHABET, min_size=24, max_size=40)
SECRET_NAMES = (
    "hub_token", "token", "apiKey", "x-api-key", "X-Api-Key", "access_token", "OPENAI_API_KEY", "HF_TOKEN", "password", "passwd",
    "db_password", "clientSecret", "secrets", "credentials", "Authorization", "auth", "api_keys", "privateKey", "cookie",
    "aws_secret_access_key", "push_to_hub_token", "openai_api_keys", "APIKey", "hubTokens",
)  # fmt: skip
ORDINARY = {
    "max_tokens": 8, "tokens_per_batch": 512, "tokenizer": "gpt2", "pad_token": "<pad>", "eos_token": "</s>", "num_tokens": 3,
    "bos_token": "<s>", "max_completion_tokens": 16, "special_tokens": ["<a>", "<b>"], "api_key_env": "JUDGE_API_KEY",
    "key": "abc", "keys": ["a"], "use_auth_token": True, "tokenizer_name_or_path": "me/tok", "length_penalty_per_token": 0.01,
    "aspects": ["secret", "token", "password"], "weights": {"password": 1.0, "token": 2}, "author": "me", "seed": 42,
    "reward_models": {"secret": "me/rm-secret"}, "proxy_metrics": {"password": {"pair_accuracy": 0.9, "num_pairs": 8}},
    "conflict": {"password": {"secret": 0.1}}, "ties": {"secret": 3}, "dataset_name": "me/data@v1", "judge": "openai:gpt-4@v1.0",
    "url": "https://medium.com/@me/a?version=1", "path": "/home/me/hf_Mistral7B", "note": "Basic Mathematics: tokens and keys",
    "query": "a%20b%3Dc", "command": "sort -u names, curl -u name", "share": "100%25 of tokens",
}  # fmt: skip


def _shapes(body: str) -> dict[str, tuple[object, str]]:
    """Settings that hold a secret with this body, and the text that must not be seen."""
    token = f"hf_{body}"
    shapes: dict[str, tuple[object, str]] = {
        f"{name} {kind}": ({name: value}, body)
        for name in SECRET_NAMES
        for kind, value in {"text": body, "list": [body, body], "mapping": {"x": body}}.items()
    }
    texts = {
        "user": f"https://me:{body}@host:8000/v1", "only user": f"https://{body}@host/v1", "slash": f"http://me:a/{body}@host/v1",
        "at": f"https://me:p@{body}@host/v1", "query": f"https://host/v1?key={body}", "any query": f"https://host/v1?a=1&k={body}",
        "bare query": f"https://host/v1?{body}", "signature": f"s3://b/x?X-Amz-Signature={body}&sig={body}",
        "fragment": f"https://host/cb#access_token={body}", "data base": f"postgresql://u:{body}@db/x", "hf": f"a {token}, and",
        "sk": f"sk-{body}", "sk-proj": f"sk-proj-{body[:12]}-{body[12:]}", "github": f"ghp_{body}", "bearer": f"Bearer {body}",
        "header": f"Authorization: Bearer {body}", "header line": f"x-api-key: {body}", "basic": f"Basic {body}=",
        "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----", "cut pem": f"-----BEGIN KEY-----\n{body}",
        "assigned": f"api_key={body}", "quoted": f"the 'password': '{body}'", "flag": f"run --hub_token {body} --x", "env": f"HF_TOKEN={body}",
        "jwt": f"eyJ{body}.{body}.{body}", "proxy": f"me:{body}@proxy:3128",
        "json in json": f'said {json.dumps(json.dumps({"password": body, "x": 1}))[1:-1]}',
        "curl": f"curl -u me:{body} http://host", "curl without a space": f"curl -s -ume:{body} http://host",
        "quoted user": f"wget --user 'me:a {body}' x", "proxy user": f"--proxy-user=me:{body}", "sshpass": f"sshpass -p {body} ssh host",
        "encoded json": quote(json.dumps({"password": body})), "encoded twice": quote(quote(json.dumps({"api_key": body}))),
        "json": json.dumps({"extra_headers": {"X-Own": body}, "list": [{"apiKey": body}]}),
    }  # fmt: skip
    shapes |= {f"text {kind}": ({"note": text, "list": ["a", text]}, body) for kind, text in texts.items()}
    shapes["headers"] = {"extra_headers": {"X-My-Own": body}}, body
    shapes["headers list"] = {"default_headers": [["X-My-Own", body]]}, body
    shapes["headers text"] = {"extra_headers": f"X-My-Own: {body}"}, body
    shapes["query mapping"] = {"extra_query": {"k": body}}, body
    shapes["flags"] = {"arguments": ["--hub_token", body, "--seed", "1"]}, body
    shapes["user among arguments"] = {"arguments": ["curl", "-u", f"me:{body}", "host"]}, body
    shapes["pairs"] = {"fields": [["x-api-key", body], ["a", "b"]]}, body
    shapes["named"] = {"variables": [{"name": "API_KEY", "value": body}]}, body
    shapes["as a key"] = {f"https://me:{body}@host": 1}, body
    return shapes


def _nested(value: object, depth: list[str]) -> object:
    for kind in depth:
        value = {"m": {"judge_kwargs": value, **ORDINARY}, "l": [1, value], "t": (value, "x"), "s": json.dumps(value)}[
            kind
        ]
    return value


@settings(max_examples=25, deadline=None)
@given(bodies, st.lists(st.sampled_from("mlt"), max_size=4), st.booleans())
def test_no_secret_survives_wherever_it_lies(body, depth, in_json):
    for kind, (value, secret) in _shapes(body).items():
        nested = _nested(value, [*depth, *(["s"] if in_json else [])])
        before = copy.deepcopy(nested)
        shown = masked(nested)
        assert secret not in json.dumps(shown, default=str), kind
        assert secret not in json.dumps(published_value(nested), default=str), kind
        assert masked(shown) == shown, kind
        assert nested == before, "the settings themselves must stay as they are"


@given(bodies)
@settings(max_examples=20, deadline=None)
def test_identity_does_not_depend_on_the_secret(body):
    for kind, (value, secret) in _shapes(body).items():
        other = json.loads(json.dumps(value).replace(secret, secret[::-1]))
        assert digest_of(masked(value)) == digest_of(masked(other)), kind


def test_ordinary_settings_stay():
    assert masked(ORDINARY) == ORDINARY
    assert masked(json.dumps(ORDINARY)) == json.dumps(ORDINARY)
    assert list(secrets_in(ORDINARY)) == []
    for name in ORDINARY.keys() - {"use_auth_token"}:
        assert not is_secret_name(name), name


def test_servers_stay_apart():
    addresses = [
        "https://one.example/v1", "https://two.example/v1", "https://one.example:8443/v1", "http://one.example/v1",
        "https://one.example/v2", "https://one.example/v1?api-version=1", "https://one.example/v1?api-version=2",
        "https://one.example/v1?deployment=a", "https://me:pw@three.example/v1",
    ]  # fmt: skip
    assert len({masked_text(address) for address in addresses}) == len(addresses)
    assert masked_text("https://a:b@h/v1?model=x") == masked_text("https://c:d@h/v1?model=x") == "https://h/v1?model=x"
    headers = [{"extra_headers": {"X-Model": name, "X-Own": "s"}} for name in "ab"]
    assert masked(headers[0]) != masked(headers[1])


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("/home/me/private/data.jsonl", "data.jsonl"), ("~/private/data.jsonl", "data.jsonl"), ("../secret/data", "data"),
        ("file:///home/me/data.jsonl", "data.jsonl"), ("gold:/home/me/world", "gold:world"), ("reward:~/rm", "reward:rm"),
        ("C:\\Users\\me\\data", "data"), ("see /home/me/x and ~/y.", "see x and y."), ("me/data", "me/data"), ("runs/x", "runs/x"),
        ("$HOME/private/x", "x"), ("${HOME}/x/y", "y"), ("\\\\server\\share\\x", "x"), ("C:/Users/me/x", "x"), ("FILE:/home/me/x", "x"),
        ("https://h/a/b", "https://h/a/b"), ("/home/me/my data.jsonl", "my data.jsonl"), ('{"a": "/home/me/x"}', '{"a": "x"}'),
    ],
)  # fmt: skip
def test_paths_of_this_machine_are_not_published(given, published):
    assert masked({"a": [given]}, public=True) == {"a": [published]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@example({"a": ["--token", "x", "y"]})
@example("token: ***")
@example("https://a:b@c:d@e?f#g=h")
@settings(max_examples=300, deadline=None)
def test_masking_twice_is_masking_once(value):
    assert masked(masked(value)) == masked(value)


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ-",
        "key",
        "--a",
        "a:",
        "-----BEGIN A-----",
        "https://",
        "%a:",
        "=",
        '{"a":',
        "[",
        "hf_a ",
        "x=y:",
        "%22",
        "%2522=",
        "curl ",
        "curl -u a:",
    ],
)
def test_hostile_texts_take_no_time(piece):
    start = time.process_time()
    masked(piece * (100_000 // len(piece)))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("body", ["Kd83hfKq0sPz7Lm2Xc9vBn5T"])
def test_files_of_a_run(tmp_path, body):
    os.umask(0o022)
    for i, (kind, (value, secret)) in enumerate(_shapes(body).items()):
        folder = tmp_path / str(i)
        manifest = Manifest("dpo", arguments={"settings": value}, results={"settings": value})
        manifest.save(folder)
        assert Manifest.load(folder).key == manifest.key, kind
        assert manifest.is_done_in(folder), kind
        with RowLog(folder / "answers.jsonl", {"settings": value}) as log:
            log.add("a", 1)
        with RowLog(folder / "answers.jsonl", {"settings": value}) as log:
            assert log.rows == {"a": 1}
        save_results([EvalResult("t", "m", 1.0, 1, settings={"settings": value})], folder)
        for path in folder.iterdir():
            assert secret not in path.read_text(), (kind, path.name)
        for name in (MANIFEST_NAME, "answers.jsonl"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_answers_of_an_earlier_version_are_found(tmp_path):
    path = tmp_path / "answers.jsonl"
    identity = {"model": "m", "extra_headers": {"X-Own": "s"}}
    path.write_text(json.dumps({"identity": identity}) + "\n" + json.dumps({"key": "a", "row": 1}) + "\n")
    with RowLog(path, identity) as log:
        assert log.rows == {"a": 1}
    with pytest.raises(InputError, match="model differ"), RowLog(path, {**identity, "model": "n"}):
        pass


def test_files_that_were_open_to_all_are_closed(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("")
    path.chmod(0o644)
    with RowLog(path, {}):
        pass
    write_json(tmp_path / "x.json", {}, private=True)
    assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir() if entry.suffix != ".lock"} == {0o600}


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_are_found(name):
    assert is_secret_name(name)
    assert list(secrets_in({"dpo": {"a": [{name: "x"}]}})) == [f"dpo.a.{name}"]


def test_a_recipe_may_name_an_address_with_a_plain_query():
    recipe = {
        "a": "https://h/x.parquet?download=true&page=2",
        "b": {"extra_headers": {"X-Own": "1"}},
        "c": {"token": None},
    }
    assert list(secrets_in(recipe)) == []


def test_errors_quote_no_secret():
    error = InputError("Cannot reach https://me:pa55word@host/v1?key=abcdef with api_key=zzz.")
    assert not re.search("pa55word|abcdef|zzz", f"{error} {error!r}")


def test_the_working_folder_is_no_secret(monkeypatch, tmp_path):
    """A shell calls it PWD, which is short for a password elsewhere: every path in a message would be masked."""
    for name in ("PWD", "OLDPWD"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("DB_PWD", "a-password-of-mine")
    assert str(tmp_path) not in known_secrets() and "a-password-of-mine" in known_secrets()
