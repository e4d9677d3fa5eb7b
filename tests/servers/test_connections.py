"""What goes over the wire: connections that are kept, those that the server ended, proxies, TLS, and the forms of HTTP/1.1."""

import base64
import json
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pd_trl.servers import OpenAIClient, RequestFailed, RequestSettings
from pd_trl.servers.connections import tls_context
from tests.servers.faults import chat, json_bytes
from tests.servers.raw_server import raw_server, whole

pytest.importorskip("openai", reason="the extra `alpaca` is not installed")

ASKED = {"endpoint": "chat", "model": "m", "messages": [{"role": "user", "content": "Größe?"}]}
LIMITS = RequestSettings(timeout=10.0, max_answer_bytes=100_000)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def test_connections_are_kept_and_shared():
    """A few threads need no more connections than there are threads, however many requests they send."""
    with raw_server(lambda request: whole()) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        with ThreadPoolExecutor(4) as executor:
            assert [text_of(a) for a in executor.map(client.send, [ASKED] * 40)] == ["A"] * 40
        assert len(server.requests) <= 4 and sum(map(len, server.requests)) == 40


def test_a_connection_that_the_server_ended_is_not_used():
    with raw_server(lambda request: whole()) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        for _ in range(3):
            client.send(ASKED)
            server.drop()
        assert [len(requests) for requests in server.requests] == [1, 1, 1]


@pytest.mark.parametrize("ending", [b"Connection: close\r\n", b"Keep-Alive: timeout=1\r\nconnection: Close\r\n"])
def test_a_connection_that_the_server_will_end_is_not_kept(ending):
    with raw_server(lambda request: whole(head=ending)) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        for _ in range(2):
            client.send(ASKED)
        assert len(server.requests) == 2


def test_an_answer_too_many_is_no_answer_to_the_next_request():
    answers = iter([whole(chat("A")) + whole(chat("B")), whole(chat("C"))])
    with raw_server(lambda request: next(answers)) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        assert [text_of(client.send(ASKED)) for _ in range(2)] == ["A", "C"]


BODY = json_bytes(chat())
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FORMS = {
    "chunks": CHUNKED + b"".join(b"%x;name=value\r\n%b\r\n" % (1, BODY[i : i + 1]) for i in range(len(BODY))) + b"0\r\nX: y\r\n\r\n",
    "one chunk": CHUNKED + b"%X\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a promise before": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + whole(),
    "bare line ends": b"HTTP/1.1 200\nContent-Length: %d\n\n%b" % (len(BODY), BODY),
    "a header in two lines": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
}  # fmt: skip
BROKEN = {
    "a size that is none": CHUNKED + b"xyz\r\n",
    "a size below zero": CHUNKED + b"-5\r\nhello",
    "a size without end": CHUNKED + b"1" * 10_000,
    "a chunk that is longer": CHUNKED + b"1\r\nabc\r\n0\r\n\r\n",
    "a trailer without end": CHUNKED + b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 10_000,
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a header that is none": b"HTTP/1.1 200 OK\r\nhello\r\n\r\n",
    "HTTP of another kind": b"HTTP/2 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_answers(name):
    with raw_server(lambda request: FORMS[name]) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        assert [text_of(client.send(ASKED)) for _ in range(2)] == ["A", "A"]
        assert len(server.requests) == 1


def test_an_answer_that_ends_with_its_connection():
    with raw_server(lambda request: None) as server:
        server.answer = lambda request: server.open[-1].sendall(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)
        client = OpenAIClient(server.base_url, settings=LIMITS)
        assert [text_of(client.send(ASKED)) for _ in range(2)] == ["A", "A"] and len(server.requests) == 2


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers(name):
    with raw_server(lambda request: BROKEN[name]) as server:
        with pytest.raises(RequestFailed, match="connection lost to http://127.0.0.1") as caught:
            OpenAIClient(server.base_url, settings=LIMITS).send(ASKED)
        assert caught.value.retry and not caught.value.answered


def test_of_a_long_error_the_beginning_is_read():
    answer = b"HTTP/1.1 400 No\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000
    with raw_server(lambda request: answer) as server:
        client = OpenAIClient(server.base_url, settings=LIMITS)
        for _ in range(2):
            with pytest.raises(RequestFailed, match="status 400: xxxx"):
                client.send(ASKED)


def test_a_plain_proxy_is_told_the_whole_address(monkeypatch):
    with raw_server(lambda request: whole()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pass%20word@127.0.0.1:{proxy.port}")
        assert text_of(OpenAIClient("http://judge.invalid:81/v1", settings=LIMITS).send(ASKED)) == "A"
        head = proxy.requests[0][0].partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert head[0] == b"POST http://judge.invalid:81/v1/chat/completions HTTP/1.1"
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass word") in head
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with raw_server(lambda request: whole()) as server:
            OpenAIClient(server.base_url, settings=LIMITS).send(ASKED)
            assert server.requests[0][0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


@pytest.mark.parametrize("address", ["socks5://user:hidden@127.0.0.1:9", "http://127.0.0.1:port"])
def test_other_proxies_are_refused(monkeypatch, address):
    monkeypatch.setenv("all_proxy", address)
    with pytest.raises(RequestFailed, match="proxy for judge.invalid is not at an address such as http://") as caught:
        OpenAIClient("http://judge.invalid/v1", settings=LIMITS).send(ASKED)
    assert caught.value.fatal and "hidden" not in str(caught.value) and "127" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, crt = folder / "key.pem", folder / "crt.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl makes a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context, crt


def passing(to):
    """A proxy that passes connections on to a port."""
    server = socket.create_server(("127.0.0.1", 0))
    lines = []

    def copy(source, target):
        while piece := source.recv(65_536):
            target.sendall(piece)

    def serve():
        sock, _ = server.accept()
        lines.append(sock.recv(65_536))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        other = socket.create_connection(("127.0.0.1", to))
        threading.Thread(target=copy, args=(sock, other), daemon=True).start()
        copy(other, sock)

    threading.Thread(target=serve, daemon=True).start()
    return server, lines


def test_tls(certificate, monkeypatch):
    """A certificate that nobody trusts is refused; one of SSL_CERT_FILE is taken, straight and through a proxy."""
    context, crt = certificate
    with raw_server(lambda request: whole(), context) as server:
        tls_context.cache_clear()
        with pytest.raises(RequestFailed, match="no connection to https://127.0.0.1.*certificate"):
            OpenAIClient(server.base_url, settings=LIMITS).send(ASKED)
        monkeypatch.setenv("SSL_CERT_FILE", str(crt))
        tls_context.cache_clear()
        try:
            client = OpenAIClient(server.base_url, settings=LIMITS)
            assert [text_of(client.send(ASKED)) for _ in range(3)] == ["A"] * 3
            assert [len(requests) for requests in server.requests if requests] == [3]
            proxy, lines = passing(server.port)
            monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.getsockname()[1]}")
            with proxy:
                assert text_of(OpenAIClient(server.base_url, settings=LIMITS).send(ASKED)) == "A"
            assert lines[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port) and b"sk-of" not in lines[0]
        finally:
            tls_context.cache_clear()


def test_what_is_sent_is_what_the_package_openai_sends(tmp_path, monkeypatch):
    """Line by line, for both endpoints, further headers, queries and bodies, and a client of Azure."""
    import openai

    config = tmp_path / "clients.yaml"
    with raw_server(lambda request: whole(chat(choices=[{"text": "A", "message": {"content": "A"}}]))) as server:
        azure = {"client_class": "openai.AzureOpenAI", "api_key": "k", "api_version": "2024-06-01", "azure_endpoint": f"http://127.0.0.1:{server.port}"}  # fmt: skip
        config.write_text(json.dumps({"m": [azure]}))
        extra = {
            "extra_headers": {"X-Team": "a"},
            "extra_query": {"q": "ä b"},
            "extra_body": {"top_k": 4, "nested": {"a": [1]}},
        }
        requests = [
            ASKED,
            {**ASKED, **extra, "temperature": 0.0, "logprobs": True, "top_logprobs": 20, "stop": None},
            {"endpoint": "completion", "model": "m", "prompt": "a/b ü\n", "max_tokens": 3},
        ]
        clients = [
            (OpenAIClient(server.base_url, settings=LIMITS), openai.OpenAI(base_url=server.base_url, max_retries=0, timeout=10.0)),
            (OpenAIClient(client_config=config, model="m", settings=LIMITS),
             openai.AzureOpenAI(**{k: v for k, v in azure.items() if k != "client_class"}, max_retries=0, timeout=10.0)),
        ]  # fmt: skip
        for ours, theirs in clients:
            for request in requests:
                server.drop()
                server.requests.clear()
                ours.send(request)
                arguments = {name: value for name, value in request.items() if name != "endpoint"}
                calls = {"chat": theirs.chat.completions, "completion": theirs.completions}
                calls[request["endpoint"]].with_raw_response.create(**arguments)
                sent, expected = (parsed(requests[0]) for requests in server.requests if requests)
                assert sent == expected


def parsed(request):
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    # The package packs answers in more ways than we unpack.
    assert headers.pop(b"accept-encoding").startswith(b"gzip") and int(headers.pop(b"content-length")) == len(body)
    return start, headers, json.loads(body)


def test_headers_cannot_be_added_by_a_value(monkeypatch):
    with raw_server(lambda request: whole()) as server:
        asked = {**ASKED, "extra_headers": {"X-Team": "a\r\nX-Other: b"}}
        with pytest.raises(RequestFailed, match="not one of the client's"):
            OpenAIClient(server.base_url, settings=LIMITS).send(asked)
        with pytest.raises(RequestFailed, match="not one of the client's.*no_such_argument") as caught:
            OpenAIClient(server.base_url, settings=LIMITS).send({**ASKED, "no_such_argument": 1})
        assert caught.value.fatal and not any(server.requests)
