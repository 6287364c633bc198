from __future__ import annotations

import logging
import socket
import threading
import time
from pathlib import Path

import pytest
import trustme

from airflow_imagesync.domain.login import PROXY_OF_ENVIRONMENT
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.download import BlobSource
from airflow_imagesync.registry.tls import Tls
from airflow_imagesync.registry.transport import Transport, discard
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.clients import SHORT, client_for
from tests.support.faults import answer, close_at_once, redirect, stall_upload, wait
from tests.support.front import Front
from tests.support.proxy import Proxy

BLOB = images.layer(700_000, "proxy")


def proxied(proxy: Proxy, login: str = "", tls: Tls | None = None, timeouts: Timeouts = SHORT) -> Transport:
    scheme, _, host = proxy.url.partition("://")
    return Transport(proxy=f"{scheme}://{login}{host}", tls=tls, timeouts=timeouts)


def names(headers: object) -> set[str]:
    return {str(name).lower() for name in headers}  # type: ignore[attr-defined]


@pytest.fixture
def tls_proxy(certificate_authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    issued = certificate_authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "proxy.pem", tmp_path / "proxy.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


# The way


def test_an_http_registry_is_asked_by_its_whole_address(front: Front) -> None:
    front.on("GET", "/v2/x", answer(200, body=b"hello"))
    with Proxy() as proxy:
        transport = proxied(proxy)
        for _ in range(2):
            discard(transport.send("GET", f"{front.url}/v2/x?n=1#f", {"Authorization": "Basic x"}))
        assert [(one.method, one.target) for one in proxy.requests] == [("GET", f"{front.url}/v2/x?n=1")] * 2
    assert [one.target for one in front.requests] == ["/v2/x?n=1"] * 2
    assert front.requests[0].headers["Host"] == front.host


def test_an_https_registry_is_asked_through_a_tunnel_that_the_proxy_can_not_look_into(
    tls_registry: DistributionRegistry, ca_file: Path
) -> None:
    with Proxy() as proxy:
        transport = proxied(proxy, tls=Tls(ca_file=str(ca_file)))
        for _ in range(2):
            response = transport.send("GET", f"{tls_registry.url}/v2/", {"Authorization": "Basic c2VjcmV0"})
            assert response.status_code == 200
            discard(response)
        # One tunnel is enough for both.
        assert [(one.method, one.target) for one in proxy.requests] == [("CONNECT", tls_registry.host)]
        assert "authorization" not in names(proxy.requests[0].headers)
        assert b"c2VjcmV0" not in proxy.tunnelled


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_a_proxy_that_speaks_tls_itself_is_used(
    front: Front,
    tls_registry: DistributionRegistry,
    ca_file: Path,
    tls_proxy: tuple[Path, Path],
    https: bool,
) -> None:
    front.on("GET", "/v2/", answer(200))
    url = tls_registry.url if https else front.url
    with Proxy(tls=tls_proxy, login=("u", "p")) as proxy:
        transport = proxied(proxy, "u:p@", Tls(ca_file=str(ca_file)))
        response = transport.send("GET", f"{url}/v2/", {})
        assert response.status_code == 200
        discard(response)
        transport.abort()
        assert [one.method for one in proxy.requests] == ["CONNECT" if https else "GET"]


def test_a_proxy_with_a_certificate_that_is_not_trusted_is_named(front: Front, tls_proxy: tuple[Path, Path]) -> None:
    with (
        Proxy(tls=tls_proxy) as proxy,
        pytest.raises(
            TransportError, match=f"certificate of the proxy {proxy.url} is not trusted .* ca_file"
        ) as caught,
    ):
        proxied(proxy).send("GET", front.url, {})
    assert not caught.value.temporary


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_the_login_of_a_proxy_goes_to_the_proxy_alone(
    front: Front, certificate_authority: trustme.CA, ca_file: Path, tls_proxy: tuple[Path, Path], https: bool
) -> None:
    with Front(tls=tls_proxy if https else None) as registry, Proxy(login=("me", "p@ss:word")) as proxy:
        registry.on("GET", "/", answer(200))
        transport = proxied(proxy, "me:p%40ss%3Aword@", Tls(ca_file=str(ca_file)))
        assert transport.send("GET", registry.url + "/v2/", {}).status_code == 200
        assert "proxy-authorization" in names(proxy.requests[0].headers)
        assert "proxy-authorization" not in names(registry.requests[0].headers)


def test_a_blob_is_copied_through_a_proxy(
    source_registry: DistributionRegistry, tls_registry: DistributionRegistry, repository_prefix: str
) -> None:
    images.push(source_registry.url, "proxied", images.image([BLOB]), ["v1"])
    with Proxy(login=("u", "p")) as proxy:
        through = f"http://u:p@{proxy.host}"
        source = client_for(source_registry, proxy=through)
        destination = client_for(tls_registry, proxy=through, tls_verify=False)
        descriptor = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size)
        assert not destination.put_blob(repository_prefix, descriptor, BlobSource(source, "proxied")).mounted
        assert destination.has_blob(repository_prefix, BLOB.digest)
        assert len(proxy.tunnelled) > BLOB.size
        assert [one.target for one in proxy.seen("CONNECT")] == [tls_registry.host]


def test_what_a_registry_redirects_to_and_its_token_service_are_asked_through_its_proxy(
    token_registry: DistributionRegistry, token_server: TokenServer, front: Front
) -> None:
    with Proxy() as proxy:
        client = client_for(token_registry, proxy=proxy.url, username=USER, password=PASSWORD)
        client.ping()
        assert any(one.target.startswith(token_server.token_auth.realm) for one in proxy.requests)
        with Front() as storage:
            front.on("GET", "/blobs/", redirect(f"{storage.url}/data"))
            storage.on("GET", "/data", answer(200, body=b"abc"))
            response = client_for(front, proxy=proxy.url).follow("GET", f"{front.url}/v2/x/blobs/y", (), headers={})
            discard(response)
            assert proxy.requests[-1].target == f"{storage.url}/data"


# The environment


def test_the_environments_proxy_is_used_only_by_choice(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.on("GET", "/", answer(200))
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        discard(Transport().send("GET", front.url, {}))
        assert proxy.requests == []
        discard(Transport(proxy=PROXY_OF_ENVIRONMENT).send("GET", front.url, {}))
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("spelled", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://"], ids=["bare", "with-scheme"])
def test_the_environments_spellings_are_known(
    front: Front, monkeypatch: pytest.MonkeyPatch, spelled: str, scheme: str
) -> None:
    front.on("GET", "/", answer(200))
    with Proxy(login=("u", "p")) as proxy:
        monkeypatch.setenv(spelled, f"{scheme}u:p@{proxy.host}")
        discard(Transport(proxy=PROXY_OF_ENVIRONMENT).send("GET", front.url, {}))
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("example.com, 127.0.0.1", True),
        ("*", True),
        ("example.com", False),
        ("10.0.0.0/8", False),
    ],
)
def test_no_proxy_is_honoured(front: Front, monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: bool) -> None:
    front.on("GET", "/", answer(200))
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        discard(Transport(proxy=PROXY_OF_ENVIRONMENT).send("GET", front.url, {}))
        assert (proxy.requests == []) is direct
    assert len(front.requests) == 1


@pytest.mark.parametrize("value", ["socks5://u:secret@127.0.0.1:1080", "http://u:secret@[::1", "http://u:se/cret@h:1"])
def test_a_proxy_of_the_environment_that_is_none_is_an_error_without_its_password(
    front: Front, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(TransportError, match=r"the environment's proxy for .* is no HTTP proxy") as caught:
        Transport(proxy=PROXY_OF_ENVIRONMENT).send("GET", front.url, {})
    assert not caught.value.temporary
    assert "cret" not in str(caught.value)


# What goes wrong


# Other refusals of a request that is forwarded can't be told from the registry's own answers.
@pytest.mark.parametrize(
    ("https", "login", "refusal", "words", "temporary"),
    [
        (False, "", None, r"wants a login \(407\); check the user and password", False),
        (True, "", None, r"wants a login \(407\); check the user and password", False),
        (False, "u:wrong-word@", None, r"wants a login \(407\); check the user and password", False),
        (True, "u:wrong-word@", None, r"wants a login \(407\); check the user and password", False),
        (True, "u:p@", 403, r"does not connect to it \(403\); check what it allows", False),
        (True, "u:p@", 502, r"has no connection to it \(502\)", True),
    ],
    ids=["no-login-http", "no-login", "wrong-login-http", "wrong-login", "refused", "unreachable"],
)
def test_a_proxy_that_refuses_is_named_without_its_password(
    front: Front, https: bool, login: str, refusal: int | None, words: str, temporary: bool
) -> None:
    url = f"{'https' if https else 'http'}://{front.host}/v2/"
    with Proxy(login=("u", "p"), refusal=refusal) as proxy:
        with pytest.raises(TransportError, match=f"GET {url}: the proxy {proxy.url} {words}") as caught:
            proxied(proxy, login).send("GET", url, {})
        assert len(proxy.requests) == 1
    assert caught.value.temporary is temporary
    assert "wrong-word" not in str(caught.value)
    assert front.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named(front: Front, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport = Transport(proxy=f"http://u:secret@127.0.0.1:{port}", timeouts=SHORT)
    with pytest.raises(
        TransportError, match=f"the proxy http://127.0.0.1:{port} refused the connection; check the setting proxy"
    ) as caught:
        transport.send("GET", f"{scheme}://{front.host}/", {})
    assert caught.value.temporary
    assert "secret" not in str(caught.value)
    transport = Transport(proxy="http://proxy.invalid:1", timeouts=SHORT)
    with pytest.raises(TransportError, match=r"the host name of the proxy http://proxy\.invalid:1 is unknown"):
        transport.send("GET", f"{scheme}://{front.host}/", {})


@pytest.mark.parametrize("answers", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["silent", "half-an-answer"])
def test_a_proxy_that_does_not_answer_is_given_up(answers: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        transport = Transport(proxy=url, timeouts=Timeouts(connect=0.3))

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(answers)
            connection.recv(65536)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(TransportError, match=f"no connection in time through the proxy {url}"):
            transport.send("GET", "https://registry.example/", {})


def test_a_proxy_that_speaks_no_tls_is_told(front: Front) -> None:
    with (
        Proxy() as proxy,
        pytest.raises(TransportError, match=f"the proxy https://{proxy.host} speaks plain HTTP; give it as") as caught,
    ):
        Transport(proxy=f"https://{proxy.host}").send("GET", f"{front.url}/", {})
    assert not caught.value.temporary


# What holds without a proxy holds with one


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_not_asked_for_where_clouds_keep_credentials(scheme: str) -> None:
    with Proxy() as proxy:
        with pytest.raises(TransportError, match="which is never asked") as caught:
            proxied(proxy).send("GET", f"{scheme}://169.254.169.254/latest/", {})
        assert proxy.requests == []
    assert not caught.value.temporary


def test_a_body_that_is_not_taken_through_a_tunnel_times_out(
    certificate_authority: trustme.CA, ca_file: Path, tls_proxy: tuple[Path, Path]
) -> None:
    body = type(
        "Body", (), {"__iter__": lambda _: iter([bytes(256 * 1024)] * 100), "__len__": lambda _: 25 * 1024**2}
    )()
    with Front(tls=tls_proxy) as registry, Proxy() as proxy:
        registry.on("PUT", "/", stall_upload(at=10))
        transport = proxied(proxy, tls=Tls(ca_file=str(ca_file)), timeouts=Timeouts(connect=5, write=0.3))
        with pytest.raises(TransportError, match="did not take the data in time"):
            transport.send("PUT", registry.url, {}, body)


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
def test_a_request_that_waits_behind_a_proxy_can_be_aborted(
    certificate_authority: trustme.CA, ca_file: Path, tls_proxy: tuple[Path, Path], https: bool, tls: bool
) -> None:
    with Front(tls=tls_proxy if https else None) as registry, Proxy(tls=tls_proxy if tls else None) as proxy:
        registry.on("GET", "/", wait())
        transport = proxied(proxy, tls=Tls(ca_file=str(ca_file)), timeouts=Timeouts())
        threading.Timer(0.3, transport.abort).start()
        begun = time.monotonic()
        with pytest.raises(TransportError):
            transport.send("GET", registry.url, {})
        assert time.monotonic() - begun < 5


def test_a_connection_that_breaks_behind_a_proxy_may_be_the_fault_of_either(front: Front) -> None:
    front.on("GET", "/", close_at_once())
    with Proxy() as proxy, pytest.raises(TransportError, match=f"through the proxy {proxy.url} broke before") as caught:
        proxied(proxy).send("GET", front.url + "/v2/", {})
    assert caught.value.temporary


def test_no_login_of_a_proxy_is_logged(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    front.on("GET", "/", answer(200))
    with Proxy(login=("u", "secret-word")) as proxy:
        discard(proxied(proxy, "u:secret-word@").send("GET", front.url, {}))
    assert "secret-word" not in caplog.text
