"""Hosts that are never asked, however they are written and whoever names them."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.notation import parse_destination, parse_source
from airflow_imagesync.domain.reference import ImageReference, Repository, normalise_registry
from airflow_imagesync.domain.rules import AllTags
from airflow_imagesync.errors import ImageSyncError, InvalidReference, ProtocolError, TransportError
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.origin import (
    is_local,
    is_metadata_service,
    realm_may_see_credentials,
    realm_problem,
    redact,
    redirect_problem,
    resolve,
    same_origin,
)
from tests.support.clients import SHORT, client_for, quick
from tests.support.faults import answer, redirect
from tests.support.front import Front

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "168.63.129.16",
    "[fe80::1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "2852039166",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
]
THIS_MACHINE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "x.localhost",
]
REGISTRY = "https://registry.example.com"


@pytest.mark.parametrize("host", METADATA)
def test_where_clouds_keep_credentials_is_known_in_every_notation(host: str) -> None:
    assert is_metadata_service(host.strip("[]"))
    for registry in (REGISTRY, "http://127.0.0.1:5000", "http://169.254.1.1"):
        target = resolve(registry, f"{registry.partition(':')[0]}://{host}/latest/meta-data/")
        assert "link-local address or a cloud's metadata" in (redirect_problem(registry, target) or "")
        assert realm_problem(registry, target) is not None


@pytest.mark.parametrize("host", THIS_MACHINE)
def test_this_machine_is_known_in_every_notation(host: str) -> None:
    assert is_local(host.strip("[]").lower())
    target = resolve(REGISTRY, f"https://{host}:6443/")
    assert redirect_problem(REGISTRY, target) == "an address of this machine"
    assert realm_problem(REGISTRY, target) == "a private address"
    assert not realm_may_see_credentials(REGISTRY, target, ())


@pytest.mark.parametrize("host", ["10.0.0.7", "0x0a000007", "167772167", "192.168.1.1", "172.16.0.1", "[fd12::1]"])
def test_private_token_services_are_known_in_every_notation(host: str) -> None:
    assert realm_problem(REGISTRY, resolve(REGISTRY, f"https://{host}/token")) == "a private address"


@pytest.mark.parametrize(
    "host", ["registry.example.com", "8.8.8.8", "cafe.example", "0x.example", "1.2.3.4.5", "[2600::1]"]
)
def test_other_hosts_are_no_private_ones(host: str) -> None:
    assert not is_metadata_service(host.strip("[]"))
    assert not is_local(host.strip("[]"))


@pytest.mark.parametrize("host", [one for one in METADATA if one != "169.254.169.254."])
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"], ids=["direct", "proxy"])
def test_a_registry_there_is_never_asked(host: str, proxy: str | None) -> None:
    registry = normalise_registry(host)
    login = Login(registry=registry, insecure=True, proxy=proxy, username="u", password="p")
    client = RegistryClient(registry, login, retry=quick(0), timeouts=SHORT)
    with pytest.raises(TransportError, match="which is never asked") as caught:
        client.ping()
    assert not caught.value.temporary


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.169.254"])
def test_a_name_that_leads_there_is_never_asked(scripted: Front, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    looked_up = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: Any, **more: Any) -> Any:
        if host == "storage.example.com":
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (address, port))]
        return looked_up(host, port, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    scripted.on("GET", "/manifests/", redirect("http://storage.example.com/latest/meta-data/iam"))
    with pytest.raises(TransportError, match=f"is at {address}, a cloud's metadata service"):
        client_for(scripted, retries=0).get_manifest("a", "v1")


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]", "100.100.100.200"])
def test_no_answer_of_a_registry_leads_there(scripted: Front, host: str) -> None:
    scripted.on("GET", "/manifests/", redirect(f"http://{host}/latest/meta-data/iam"))
    with pytest.raises(ProtocolError, match="is not followed: a link-local address"):
        client_for(scripted, retries=0).get_manifest("a", "v1")
    scripted.forget()
    scripted.on("HEAD", "", answer(401, {"WWW-Authenticate": f'Bearer realm="http://{host}/token"'}))
    with pytest.raises(ProtocolError, match="is not asked: a link-local address"):
        client_for(scripted, retries=0, username="u", password="p").head_manifest("a", "v1")


# Names

BAD_NAMES = [
    "registry.example.com/../admin",
    "registry.example.com/a/../b",
    "registry.example.com/a//b",
    "registry.example.com/a/./b",
    "registry.example.com/a%2f..%2fb",
    "registry.example.com/a\\b",
    "registry.example.com/a b",
    "registry.example.com/a\r\nHost: evil",
    "registry.example.com/a\n",
    "registry.example.com/a?x",
    "registry.example.com/a#x",
    "registry.example.com/\u0430",
    "registry.example.com/A",
    "registry.example.com\\@evil.example/a",
    "evil.example/@registry.example.com/a",
    "user:hunter22@registry.example.com/a",
    "http://registry.example.com/a",
    "registry.example.com:0/a",
    "registry.example.com:65536/a",
    "registry.example.com:5000\n/a",
    "registry.example.com:\u0665/a",
    "registry_example.com:5000/a",
    "-registry.example.com/a",
    "registry..example.com/a",
    "registry.example.com./a",
    "\u0433egistry.example.com/a",
    "[::1/a",
    "[::1%25eth0]/a",
    "[::1]@evil/a",
    "registry.example.com/" + "a" * 300,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_that_would_mean_something_else_in_an_address_is_none(name: str) -> None:
    for parse in (Repository.parse, parse_source, lambda text: parse_destination(text, AllTags())):
        with pytest.raises(InvalidReference) as caught:
            parse(name)
        assert str(caught.value).isprintable()
        assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "tag", ["../v1", "v1/..", "v1?x", "v1#x", "v 1", "v1\n", "v1\r\nX: y", "\u0430", "-v", "x" * 129]
)
def test_a_tag_that_would_mean_something_else_in_an_address_is_none(tag: str) -> None:
    with pytest.raises(InvalidReference):
        ImageReference.parse(f"registry.example.com/a:{tag}")


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "pass\nword", "\u20ac\u00e4\u0000", "x" * 5000])
def test_any_username_and_password_is_sent_as_one_header(scripted: Front, value: str) -> None:
    challenge = answer(401, {"WWW-Authenticate": "Basic"})
    scripted.on("GET", "", challenge, when=lambda one: "Authorization" not in one.headers)
    scripted.on("GET", "", answer(200, body=b'{"tags": []}'))
    client_for(scripted, username=value, password=value).list_tags("a")
    assert "X-Injected" not in scripted.requests[-1].headers
    scripted.forget()
    scripted.on("GET", "/token", answer(200, body=json.dumps({"access_token": "t"}).encode()))
    challenge = answer(401, {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'})
    scripted.on("GET", "/v2/", challenge, when=lambda one: "Authorization" not in one.headers)
    scripted.on("GET", "/v2/", answer(200, body=b'{"tags": []}'))
    client_for(scripted, username=value, password=value).list_tags("a")
    assert not any("X-Injected" in one.headers for one in scripted.requests)


@pytest.mark.parametrize("token", ["a\r\nX-Injected: 1", "a\nb", "\u20ac", "a\u0000b", "caf\u00e9", "", " \t"])
def test_a_token_that_is_no_header_is_refused(scripted: Front, token: str) -> None:
    scripted.on("GET", "/token", answer(200, body=json.dumps({"token": token}).encode()))
    scripted.on(None, "/v2/", answer(401, {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'}))
    with pytest.raises(ProtocolError, match="answered 200 without a token") as caught:
        client_for(scripted, retries=0).get_manifest("a", "v1")
    assert str(caught.value).isprintable()


# What a header may hold, in every place where one names an address

ODD = [
    "/v2/a b",
    "/v2/%0d%0aX:y",
    "/v2/caf\u00e9",
    "/v2/\x1b[31mred",
    "/v2/\x7f",
    "/v2/" + "x" * 20_000,
    "/v2/a?b=\x1b",
]


@pytest.mark.parametrize("address", ODD, ids=lambda one: repr(one)[:20])
def test_an_odd_address_is_asked_encoded_and_shown_safely(scripted: Front, address: str) -> None:
    scripted.on("GET", "/manifests/", redirect(address))
    with pytest.raises(ImageSyncError) as caught:
        client_for(scripted, retries=0).get_manifest("a", "v1")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2500
    assert all(one.target.isascii() and one.target.isprintable() and " " not in one.target for one in scripted.requests)


@pytest.mark.parametrize("realm", [*ODD, "", " ", "http://", "::", "\\\\", "http://[", "http://h:x/"], ids=repr)
def test_an_odd_realm_ends_in_one_of_our_errors(scripted: Front, realm: str) -> None:
    challenge = 'Bearer realm="' + realm.replace("\\", "\\\\") + '"'
    scripted.on("HEAD", "", answer(401, {"WWW-Authenticate": challenge}))
    scripted.on("GET", "/manifests", answer(401, {"WWW-Authenticate": challenge}))
    with pytest.raises(ImageSyncError) as caught:
        client_for(scripted, retries=0, username="u", password="p").head_manifest("a", "v1")
    assert str(caught.value).isprintable()


def test_a_long_address_is_shown_shortly() -> None:
    assert len(redact("https://h/" + "x" * 50_000)) == 1000


@pytest.mark.parametrize(
    "address",
    ["HTTPS://other.example.com/x?a=b", "ht\ttps://other.example.com/x?a=b#f", "https://other.example.com/\tx?a=b#"],
)
def test_an_address_is_spelled_in_one_way(address: str) -> None:
    assert resolve("http://registry.example.com/v2/", address) == "https://other.example.com/x?a=b"


def test_the_same_port_over_another_scheme_is_another_origin() -> None:
    assert not same_origin("http://registry.example.com:5000/", "https://registry.example.com:5000/")
