"""Credentials and data stay at the registry, wherever its answers point (CVE-2020-15157, GHSA-vh4v-2xq2-g5cg)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import ContentError, ImageSyncError, ProtocolError, TransportError, Unauthorized
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from devtools.distribution import DistributionRegistry
from tests.support.clients import SHORT, client_for
from tests.support.faults import answer, redirect
from tests.support.front import Action, Exchange, Front, Request

LOGIN: dict[str, Any] = {"username": "mover", "password": "hunter22"}
BASIC = "Basic " + base64.b64encode(b"mover:hunter22").decode()
BLOB = b"a blob" * 100
LAYER = Descriptor("application/octet-stream", "sha256:" + hashlib.sha256(BLOB).hexdigest(), len(BLOB))


@pytest.fixture
def registry(scripted: Front) -> Front:
    """A registry that wants a password for everything."""
    challenge = answer(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    scripted.on(None, "", challenge, when=lambda one: "Authorization" not in one.headers)
    scripted.on("GET", "/v2/$", answer(200))
    return scripted


@pytest.fixture
def thief() -> Iterator[Front]:
    """A server that takes whatever comes."""
    with Front() as front:
        front.on(None, "", answer(200, body=b'{"token": "t", "tags": []}'))
        yield front


def with_login(requests: list[Request]) -> list[Request]:
    return [one for one in requests if {"authorization", "cookie"} & {name.lower() for name in one.headers}]


# Each way in which a registry names an address: what it answers, and what is then asked.


def by_redirect_of_a_manifest(front: Front, client: RegistryClient, address: str) -> None:
    front.on("GET", "/manifests/", redirect(address))
    client.get_manifest("a", "v1")


def by_redirect_of_a_list(front: Front, client: RegistryClient, address: str) -> None:
    front.on("GET", "/tags/", redirect(address, 302))
    client.list_tags("a")


def by_redirect_of_a_blob(front: Front, client: RegistryClient, address: str) -> None:
    front.on("GET", "/blobs/", redirect(address, 303))
    client.read_config("a", LAYER)


def by_redirect_of_an_upload(front: Front, client: RegistryClient, address: str) -> None:
    front.on("POST", "", redirect(address, 308))
    client.put_blob("a", LAYER, BlobSource(client, "a"))


def by_redirect_of_the_data(front: Front, client: RegistryClient, address: str) -> None:
    front.on("POST", "", answer(202, {"Location": "/u"}))
    front.on("GET", "/blobs/", answer(200, body=BLOB))
    front.on("PUT", "", redirect(address, 307))
    client.put_blob("a", LAYER, BlobSource(client, "a"))


def by_link(front: Front, client: RegistryClient, address: str) -> None:
    front.on("GET", "/tags/", answer(200, {"Link": f'<{address}>; rel="next"'}, b'{"tags": ["v1"]}'))
    client.list_tags("a")


def by_location(front: Front, client: RegistryClient, address: str) -> None:
    front.on("POST", "", answer(202, {"Location": address}))
    front.on("GET", "/blobs/", answer(200, body=BLOB))
    client.put_blob("a", LAYER, BlobSource(client, "a"))


WAYS = [
    by_redirect_of_a_manifest,
    by_redirect_of_a_list,
    by_redirect_of_a_blob,
    by_redirect_of_an_upload,
    by_redirect_of_the_data,
    by_link,
    by_location,
]
ADDRESSES = [
    "http://{thief}/x",
    "HTTP://{thief}/x",
    "//{thief}/x",
    "http://{registry}@{thief}/x",
    # What urllib.parse and urllib3 read differently.
    "http://{thief}\\@{registry}/x",
    "http:\\\\{thief}\\@{registry}/x",
    "http://{thief}\t@{registry}/x",
    "ht\ttp://{thief}/x",
    "http:/\t/{thief}/x",
    "http:///{thief}/x",
    "http://{thief}#@{registry}/x",
    "http://{thief}?@{registry}/x",
    "http://{thief};@{registry}/x",
    "http://{registry}\\.{thief}/x",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
def test_no_other_server_gets_credentials_or_data(
    registry: Front, thief: Front, way: Callable[[Front, RegistryClient, str], None], address: str
) -> None:
    client = client_for(registry, retries=0, **LOGIN)
    with contextlib.suppress(ImageSyncError):
        way(registry, client, address.format(thief=thief.host, registry=registry.host))
    assert with_login(registry.requests)
    assert with_login(thief.requests) == []
    assert thief.seen("PUT") == thief.seen("POST") == thief.seen("DELETE") == []


@pytest.mark.parametrize("way", WAYS[:3], ids=lambda one: one.__name__)
def test_another_name_of_the_same_server_is_another_origin(
    registry: Front, way: Callable[[Front, RegistryClient, str], None]
) -> None:
    registry.on("GET", "/elsewhere", answer(404))
    client = client_for(registry, retries=0, **LOGIN)
    with pytest.raises(ImageSyncError):
        way(registry, client, registry.url.replace("127.0.0.1", "localhost") + "/elsewhere")
    (seen,) = registry.seen("GET", "/elsewhere")
    assert with_login([seen]) == []


@pytest.mark.parametrize("way", [by_redirect_of_a_manifest, by_redirect_of_a_blob], ids=lambda one: one.__name__)
@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
def test_a_server_that_is_redirected_to_and_wants_a_login_gets_none(
    registry: Front, thief: Front, way: Callable[[Front, RegistryClient, str], None], scheme: str
) -> None:
    thief.forget()
    thief.on(None, "", answer(401, {"WWW-Authenticate": f'{scheme} realm="{thief.url}/token"'}))
    with pytest.raises(ImageSyncError, match=f"answered 401; {registry.host} redirected there: check its storage"):
        way(registry, client_for(registry, retries=0, **LOGIN), f"{thief.url}/x")
    assert [str(one) for one in thief.requests] == ["GET /x"]
    assert with_login(thief.requests) == []


def test_redirects_end(registry: Front) -> None:
    registry.on("GET", "/", redirect("/v2/a/manifests/again"))
    with pytest.raises(ProtocolError, match="was redirected more than 5 times"):
        client_for(registry, **LOGIN).get_manifest("a", "v1")
    assert len(registry.seen("GET", "/manifests/")) <= 2 + 5


# Foreign layers


@pytest.mark.parametrize("media_type", ["foreign.", "nondistributable."])
def test_the_address_of_a_foreign_layer_is_never_asked(registry: Front, thief: Front, media_type: str) -> None:
    layer = {
        "mediaType": f"application/vnd.docker.image.rootfs.{media_type}diff.tar.gzip",
        "digest": "sha256:" + "f" * 64,
        "size": 5,
        "urls": [f"{thief.url}/layer"],
    }
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": LAYER.digest, "size": LAYER.size}
    body = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    registry.on("GET", "/manifests/", answer(200, body=body))
    manifest = client_for(registry, **LOGIN).get_manifest("a", "v1")
    assert [one.digest for one in manifest.blobs] == [LAYER.digest]
    assert thief.requests == []


# Token services


def wants_token(front: Front, realm: str) -> None:
    front.forget()
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})
    front.on(None, "", challenge, when=lambda one: not one.headers.get("Authorization", "").startswith("Bearer "))
    front.on("HEAD", "", answer(200, {"Docker-Content-Digest": LAYER.digest}))


@pytest.mark.parametrize("address", [one for one in ADDRESSES if "{registry}\\." not in one])
def test_a_token_service_that_the_registry_chose_gets_no_credentials(
    scripted: Front, thief: Front, address: str
) -> None:
    # By another name, since token services on the registry's host may see the credentials.
    realm = address.format(thief=thief.host.replace("127.0.0.1", "localhost"), registry=scripted.host)
    wants_token(scripted, realm)
    with contextlib.suppress(ImageSyncError):
        client_for(scripted, retries=0, **LOGIN).head_manifest("a", "v1")
    assert with_login(thief.requests) == []
    assert "hunter22" not in str([one.target for one in thief.requests])
    assert "mover" not in str([one.target for one in thief.requests])


def test_a_token_service_that_is_allowed_gets_credentials(scripted: Front, thief: Front) -> None:
    realm = thief.url.replace("127.0.0.1", "localhost")
    wants_token(scripted, f"{realm}/token")
    client_for(scripted, token_realm_hosts=("localhost",), **LOGIN).head_manifest("a", "v1")
    assert [one.headers["Authorization"] for one in thief.requests] == [BASIC]


def test_a_login_that_was_held_back_is_told(scripted: Front, thief: Front) -> None:
    thief.forget()
    thief.on(None, "", answer(401))
    wants_token(scripted, thief.url.replace("127.0.0.1", "localhost") + "/token?x=secret")
    with pytest.raises(Unauthorized) as caught:
        client_for(scripted, **LOGIN).get_manifest("a", "v1")
    assert "secret" not in str(caught.value)
    assert with_login(thief.requests) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("login", [LOGIN, {"identity_token": "refresh-me"}], ids=["password", "identity-token"])
def test_a_redirect_of_a_token_request_is_not_followed(
    scripted: Front, thief: Front, status: int, login: dict[str, Any]
) -> None:
    wants_token(scripted, f"{scripted.url}/token")
    scripted.forget()
    scripted.on(None, "/token", redirect(f"{thief.url}/token", status))
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'})
    scripted.on(None, "/v2/", challenge)
    with pytest.raises(ImageSyncError):
        client_for(scripted, retries=0, **login).get_manifest("a", "v1")
    assert scripted.seen(None, "/token")
    assert thief.requests == []


# HTTPS


@pytest.fixture
def secure(
    certificate_authority: trustme.CA, tmp_path: Path, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Front]]:
    """Starts fronts over HTTPS under names of the public network, which lead to this machine in this test."""
    looked_up = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **more: Any) -> Any:
        return looked_up("127.0.0.1" if host.endswith(".example.com") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Front:
            issued = certificate_authority.issue_cert(name)
            certificate, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
            certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
            issued.private_key_pem.write_to_path(str(key))
            return stack.enter_context(Named(name=name, tls=(certificate, key)))

        yield start


class Named(Front):
    """A front with a host name."""

    def __init__(self, *, name: str, **more: Any) -> None:
        super().__init__(**more)
        self.name = name

    @property
    def host(self) -> str:
        return super().host.replace("127.0.0.1", self.name)


Secure = Callable[[str], Front]


@pytest.mark.parametrize("way", WAYS[:3], ids=lambda one: one.__name__)
def test_https_is_never_left(secure: Secure, ca_file: Path, thief: Front, way: Any) -> None:
    registry = secure("registry.example.com")
    client = client_for(registry, retries=0, ca_file=str(ca_file), **LOGIN)
    with pytest.raises(ProtocolError, match="is not followed: it would leave HTTPS"):
        way(registry, client, f"{thief.url}/x")
    assert thief.requests == []


def test_a_token_is_not_asked_for_over_plain_http(secure: Secure, ca_file: Path, thief: Front) -> None:
    registry = secure("registry.example.com")
    wants_token(registry, f"{thief.url}/token")
    with pytest.raises(ProtocolError, match=r"is not asked: (it would leave HTTPS|a private address)"):
        client_for(registry, retries=0, ca_file=str(ca_file), **LOGIN).head_manifest("a", "v1")
    assert thief.requests == []


def test_a_registry_that_speaks_no_tls_is_not_asked_over_plain_http(scripted: Front) -> None:
    client = RegistryClient(scripted.host, retry=client_for(scripted, retries=2).retry, timeouts=SHORT)
    with pytest.raises(TransportError, match="plain HTTP on this port; set insecure: true") as caught:
        client.get_manifest("a", "v1")
    assert not caught.value.temporary
    assert scripted.requests == []


def test_a_connection_that_is_refused_over_https_is_not_tried_over_http(
    secure: Secure, tls_registry: DistributionRegistry
) -> None:
    with pytest.raises(TransportError, match="certificate is not trusted"):
        client_for(tls_registry, retries=0, **LOGIN).ping()


# Uploads to other hosts


def session_at(address: str) -> Action:
    return answer(202, {"Location": address})


@pytest.mark.parametrize("address", ["http://{thief}/u", "https://storage.example.com:1/u", "//127.0.0.1:1/u"])
def test_data_goes_to_no_other_host_unless_allowed(registry: Front, thief: Front, address: str) -> None:
    registry.on("POST", "", session_at(address.format(thief=thief.host)))
    registry.on("GET", "/blobs/", answer(200, body=BLOB))
    client = client_for(registry, retries=0, **LOGIN)
    with pytest.raises(ProtocolError, match="on another host or port"):
        client.put_blob("a", LAYER, BlobSource(client, "a"))
    assert thief.requests == []


def test_data_goes_to_another_host_without_credentials_where_allowed(
    secure: Secure, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, storage = secure("registry.example.com"), secure("storage.example.com")
    challenge = answer(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    registry.on(None, "", challenge, when=lambda one: "Authorization" not in one.headers)
    registry.on("GET", "/v2/$", answer(200))
    registry.on("GET", "/blobs/", answer(200, body=BLOB))
    registry.on("POST", "", session_at(f"{storage.url}/u?sig=secret"))
    storage.on("PUT", "", answer(201))
    client = client_for(registry, retries=0, ca_file=str(ca_file), allow_cross_host_upload=True, **LOGIN)
    client.put_blob("a", LAYER, BlobSource(client, "a"))
    (seen,) = storage.requests
    assert (seen.method, seen.received) == ("PUT", len(BLOB))
    assert with_login([seen]) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://storage.example.com/u",
        "https://127.0.0.1:1/u",
        "https://10.0.0.7/u",
        "https://[::1]:1/u",
        "https://169.254.169.254/u",
        "https://100.100.100.200/u",
        "https://2130706433/u",
        "https://localhost/u",
    ],
)
def test_data_goes_to_no_private_or_plain_address_even_where_allowed(
    secure: Secure, ca_file: Path, address: str
) -> None:
    registry = secure("registry.example.com")
    registry.on("POST", "", session_at(address))
    registry.on("GET", "/blobs/", answer(200, body=BLOB))
    client = client_for(registry, retries=0, ca_file=str(ca_file), allow_cross_host_upload=True, timeouts=SHORT)
    with pytest.raises(ProtocolError):
        client.put_blob("a", LAYER, BlobSource(client, "a"))


# The environment


def test_netrc_proxies_and_cookies_change_no_request(
    registry: Front, thief: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password stolen\n")
    netrc.chmod(0o600)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, thief.url)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(netrc.read_text())

    def with_cookie(exchange: Exchange) -> None:
        exchange.reply(200, [("Set-Cookie", "sid=1; Path=/")], b'{"tags": ["v1"]}')

    registry.on("GET", "/tags/", with_cookie)
    for login in ({}, LOGIN):
        client = client_for(registry, **login)
        for _ in range(2):
            with contextlib.suppress(Unauthorized):
                client.list_tags("a")
    assert thief.requests == []
    assert {one.headers.get("Authorization") for one in registry.requests} == {None, BASIC}
    names = {name.lower() for one in registry.requests for name in one.headers}
    assert not names & {"cookie", "proxy-authorization", "proxy-connection"}


def test_cookies_of_a_server_that_was_redirected_to_are_not_sent_back(registry: Front, thief: Front) -> None:
    thief.forget()
    thief.on("GET", "", answer(200, {"Set-Cookie": "sid=1; Path=/"}, BLOB))
    registry.on("GET", "/blobs/", redirect(thief.url + "*"))
    client = client_for(registry, **LOGIN)
    for _ in range(2):
        assert client.read_config("a", LAYER) == BLOB
    assert with_login(thief.requests) == []


# Pages


@pytest.mark.parametrize("link", ["/v2/a/tags/list?n=1000", "?", "", "/v2/a/tags/list?n=1000#other"])
def test_pages_that_go_round_end(registry: Front, link: str) -> None:
    registry.on("GET", "/tags/", answer(200, {"Link": f'<{link}>; rel="next"'}, b'{"tags": ["v1"]}'))
    assert client_for(registry, **LOGIN).list_tags("a") == ["v1"]
    assert len(registry.seen("GET", "/tags/")) <= 3


def test_a_next_page_elsewhere_is_an_error_and_no_short_list(registry: Front, thief: Front) -> None:
    with pytest.raises(ProtocolError, match="the next page is said to be on another host"):
        by_link(registry, client_for(registry, **LOGIN), f"{thief.url}/v2/a/tags/list")
    assert thief.requests == []


def test_a_next_page_with_an_address_that_can_be_read_two_ways_is_an_error(registry: Front, thief: Front) -> None:
    with pytest.raises(ProtocolError, match="names an address that is no HTTP address"):
        by_link(registry, client_for(registry, **LOGIN), f"http://{thief.host}\\@{registry.host}/v2/a/tags/list")
    with pytest.raises((ProtocolError, ContentError)):
        by_redirect_of_a_manifest(registry, client_for(registry, **LOGIN), f"http://{thief.host}\\@{registry.host}/")
    assert thief.requests == []
