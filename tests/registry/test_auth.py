from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import (
    Denied,
    ImageSyncError,
    ProtocolError,
    RegistryError,
    TransportError,
    Unauthorized,
)
from airflow_imagesync.registry import auth
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.clients import client_for
from tests.support.faults import answer, redirect, wait
from tests.support.front import Action, Front, Request

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
DIGEST = "sha256:" + "a" * 64
LOGIN = {"username": USER, "password": PASSWORD}


def authorizations(requests: list[Request]) -> list[str | None]:
    return [one.headers.get("Authorization") for one in requests]


def outcomes(work: Callable[[int], object], count: int, threads: int = 8) -> list[object]:
    """Return what `work` returns or raises for each number, from several threads."""

    def one(number: int) -> object:
        try:
            return work(number)
        except ImageSyncError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture
def basic(htpasswd_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(htpasswd_registry.host) as front:
        yield front


@pytest.fixture
def bearer(token_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(token_registry.host) as front:
        yield front


@pytest.fixture
def front(scripted: Front) -> Front:
    return scripted


@pytest.fixture(scope="module")
def token_service() -> Iterator[TokenServer]:
    with TokenServer(users={USER: PASSWORD}, access={USER: {"*": ("pull", "push")}}) as server:
        yield server


@pytest.fixture
def tokens(token_service: TokenServer) -> TokenServer:
    token_service.requests.clear()
    return token_service


def wants_token(front: Front, realm: str, extra: str = "") -> None:
    """Make the front a registry that has one manifest for whoever brings a token."""
    challenge = f'Bearer realm="{realm}",service="registry.test"{extra}'
    front.on("HEAD", "/manifests/", answer(401, {"WWW-Authenticate": challenge}), when=without_token)
    front.on("GET", "/manifests/", answer(401, {"WWW-Authenticate": challenge}), when=without_token)
    front.on("HEAD", "/manifests/", answer(200, {"Docker-Content-Digest": DIGEST}))


def without_token(request: Request) -> bool:
    return not request.headers.get("Authorization", "").startswith("Bearer ")


# Anonymous


def test_an_open_registry_never_sees_the_credentials(source_registry: DistributionRegistry) -> None:
    with Front(source_registry.host) as front:
        client = client_for(front, **LOGIN)
        client.ping()
        client.head_manifest("nothing/here", "v1")
        assert set(authorizations(front.requests)) == {None}


def test_a_registry_that_wants_a_login_and_gets_none_says_so(htpasswd_registry: DistributionRegistry) -> None:
    with pytest.raises(Unauthorized, match="it needs a login, or does not exist") as caught:
        client_for(htpasswd_registry).get_manifest("a", "v1")
    assert str(caught.value).startswith(f"GET {htpasswd_registry.url}/v2/a/manifests/v1 answered 401 UNAUTHORIZED")


# Basic


def test_a_password_is_sent_once_the_registry_asked_for_it(basic: Front) -> None:
    client = client_for(basic, **LOGIN)
    for number in range(3):
        assert client.head_manifest("nothing", f"v{number}") is None
    first, check, *later = basic.requests
    assert authorizations([first, check]) == [None, BASIC]
    assert (str(first), str(check)) == ("HEAD /v2/nothing/manifests/v0", "GET /v2/")
    assert set(authorizations(later)) == {BASIC}
    assert all(one.status == 404 for one in later)


@pytest.mark.parametrize("threads", [1, 8])
def test_a_wrong_password_is_sent_once_whatever_the_number_of_images(basic: Front, threads: int) -> None:
    client = client_for(basic, username=USER, password="wrong")
    results = outcomes(lambda number: client.get_manifest(f"a{number % 5}", f"v{number}"), 40, threads)
    assert all(isinstance(one, Unauthorized) for one in results)
    assert "check the username and password" in str(results[-1])
    assert "wrong" not in str(results)
    assert sum(one is not None for one in authorizations(basic.seen())) == 1


def test_one_repository_that_answers_401_does_not_spoil_the_login_for_others(basic: Front) -> None:
    basic.on("GET", "/v2/missing/", answer(401, {"WWW-Authenticate": 'Basic realm="r"'}))
    client = client_for(basic, **LOGIN)
    for _ in range(2):
        with pytest.raises(Unauthorized, match="that they may use this repository"):
            client.get_manifest("missing", "v1")
    assert client.head_manifest("other", "v1") is None


def test_a_401_without_a_challenge_is_asked_about_at_the_root(basic: Front) -> None:
    basic.on(None, "/manifests/", answer(401), times=1)
    assert client_for(basic, **LOGIN).head_manifest("a", "v1") is None
    assert [str(one) for one in basic.requests[:3]] == ["HEAD /v2/a/manifests/v1", "GET /v2/", "GET /v2/"]


def test_basic_is_tried_where_nothing_says_how_to_log_in(front: Front) -> None:
    front.on("GET", "/manifests/", answer(401), when=lambda request: "Authorization" not in request.headers)
    front.on("GET", "/v2/$", answer(200))
    with pytest.raises(ImageSyncError):
        client_for(front, **LOGIN).get_manifest("a", "v1")
    assert authorizations(front.seen("GET", "/manifests/")) == [None, BASIC]


# Bearer


def test_a_token_is_fetched_once_for_all_requests_that_it_covers(
    bearer: Front, token_server: TokenServer, repository_prefix: str
) -> None:
    client, before = client_for(bearer, **LOGIN), len(token_server.requests)
    outcomes(lambda number: client.head_manifest(repository_prefix, f"v{number}"), 30)
    asked = token_server.requests[before:]
    assert [(one.authorization, one.scopes, one.service) for one in asked] == [
        (BASIC, (f"repository:{repository_prefix}:pull",), token_server.service)
    ]
    assert BASIC not in authorizations(bearer.requests)


def test_a_token_to_push_is_good_for_reading(bearer: Front, token_server: TokenServer, repository_prefix: str) -> None:
    before = len(token_server.requests)
    images.push(
        bearer.url,
        repository_prefix,
        images.image(),
        ["v1"],
        auth=images.BearerAuth(token_server.token(USER, f"repository:{repository_prefix}:pull,push")),
    )
    client = client_for(bearer, **LOGIN)
    client.put_manifest(repository_prefix, "v2", client.get_manifest(repository_prefix, "v1"))
    client.get_manifest(repository_prefix, "v2")
    assert [one.scopes for one in token_server.requests[before:]] == [
        (f"repository:{repository_prefix}:pull",),
        (f"repository:{repository_prefix}:pull,push",),
    ]


def test_public_images_are_read_without_a_login(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
) -> None:
    path = f"public/{repository_prefix}"
    token = images.BearerAuth(token_server.token(USER, f"repository:{path}:pull,push"))
    images.push(token_registry.url, path, images.image(), ["v1"], auth=token)
    client = client_for(token_registry)
    assert client.list_tags(path) == ["v1"]
    assert client.get_manifest(path, "v1").config is not None
    assert token_server.requests[-1].authorization is None


def test_what_a_login_may_not_do_is_refused_after_one_token(
    token_registry: DistributionRegistry, token_server: TokenServer
) -> None:
    client, before = client_for(token_registry), len(token_server.requests)
    for _ in range(3):
        with pytest.raises(Unauthorized, match="it needs a login"):
            client.get_manifest("private/x", "v1")
    # The registry said "insufficient_scope": the same token again would be refused again.
    assert len(token_server.requests) == before + 1


def test_an_identity_token_is_exchanged_by_post(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
) -> None:
    client = client_for(token_registry, identity_token=f"identity-of-{USER}")
    assert client.head_manifest(repository_prefix, "v1") is None
    asked = token_server.requests[-1]
    assert (asked.method, asked.grant_type, asked.user) == ("POST", "refresh_token", USER)


def test_an_identity_token_is_the_password_of_a_service_that_knows_no_post(front: Front) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", answer(200, body=b'{"token": "t1"}'))
    client_for(front, username=USER, identity_token="id1").head_manifest("a", "v1")
    first, second = front.seen(None, "/token")
    assert (first.method, first.status) == ("POST", 404)
    expected = "Basic " + base64.b64encode(f"{USER}:id1".encode()).decode()
    assert (second.method, second.headers["Authorization"]) == ("GET", expected)


@pytest.mark.parametrize("threads", [1, 8])
def test_a_wrong_password_is_shown_to_the_token_service_once(
    token_registry: DistributionRegistry, token_server: TokenServer, threads: int
) -> None:
    client, before = client_for(token_registry, username=USER, password="wrong"), len(token_server.requests)
    results = outcomes(lambda number: client.head_manifest(f"a{number}", "v1"), 40, threads)
    assert all(isinstance(one, Unauthorized) and "check the username and password" in str(one) for one in results)
    assert [one.status for one in token_server.requests[before:]] == [401]


def test_a_wrong_identity_token_is_shown_once(token_registry: DistributionRegistry, token_server: TokenServer) -> None:
    client, before = client_for(token_registry, identity_token="wrong"), len(token_server.requests)
    results = outcomes(lambda number: client.head_manifest(f"a{number}", "v1"), 10)
    assert all(isinstance(one, Unauthorized) for one in results)
    assert len(token_server.requests) == before + 1


def test_a_scope_that_the_token_service_refuses_is_asked_for_once_and_spoils_no_other(front: Front) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token.*secret", answer(403, body=b'{"errors": [{"code": "DENIED", "message": "no"}]}'))
    front.on("GET", "/token", answer(200, body=b'{"token": "t1"}'))
    client = client_for(front, **LOGIN)
    results = outcomes(lambda number: client.head_manifest("secret/a" if number % 2 else "b", f"v{number}"), 20)
    assert all(isinstance(one, Denied) for one in results[1::2])
    assert all(one is not None and not isinstance(one, Exception) for one in results[::2])
    assert len(front.seen("GET", "/token.*secret")) == 1


# The life of a token


def test_a_token_is_renewed_before_it_ends(front: Front, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wants_token(front, tokens.realm)
    client = client_for(front, **LOGIN)
    client.head_manifest("a", "v1")
    later = time.monotonic
    for passed, issued in [(200, 1), (241, 2), (300, 2)]:  # of 300 seconds
        monkeypatch.setattr(auth.time, "monotonic", lambda passed=passed: later() + passed)
        client.head_manifest("a", "v1")
        assert tokens.issued == issued
    assert sum(one.status == 401 for one in front.requests) == 1


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        ('"expires_in": 300', 240),
        ('"expires_in": 10000', 9940),
        ('"expires_in": 2', 48),
        ('"x": 0', 48),
        ('"expires_in": "300"', 48),
        ('"expires_in": -5', 48),
        ('"expires_in": null', 48),
        ('"expires_in": NaN', 48),
    ],
)
def test_the_life_of_a_token_is_at_least_a_minute(
    front: Front, monkeypatch: pytest.MonkeyPatch, life: str, seconds: float
) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", answer(200, body=f'{{"access_token": "t1", {life}}}'.encode()))
    client = client_for(front)
    client.head_manifest("a", "v1")
    later = time.monotonic
    for passed, fetched in [(seconds - 5, 1), (seconds + 1, 2)]:
        monkeypatch.setattr(auth.time, "monotonic", lambda passed=passed: later() + passed)
        client.head_manifest("a", "v1")
        assert len(front.seen("GET", "/token")) == fetched


def test_a_token_that_ends_early_is_replaced_and_nothing_is_lost(repository_prefix: str) -> None:
    with (
        TokenServer(users={USER: PASSWORD}, access={USER: {"*": ("pull", "push")}}, lifetime=2) as tokens,
        DistributionRegistry(token_auth=tokens.token_auth) as registry,
    ):
        client = client_for(registry, **LOGIN)
        blob, other = images.layer(300_000, 1), images.layer(300_000, 2)
        token = images.BearerAuth(tokens.token(USER, "repository:from:pull,push"))
        images.push(registry.url, "from", images.image([blob, other]), ["v1"], auth=token)
        for one in (blob, other):
            client.put_blob("to", Descriptor("x", one.digest, one.size), BlobSource(client, "from"))
            assert client.has_blob("to", one.digest)
            time.sleep(2.2)
        assert client.list_tags("from") == ["v1"]


def test_a_token_that_is_refused_in_the_middle_is_replaced_once(front: Front, tokens: TokenServer) -> None:
    wants_token(front, tokens.realm)
    client = client_for(front, **LOGIN)
    client.head_manifest("a", "v1")
    invalid = {"WWW-Authenticate": f'Bearer realm="{tokens.realm}",error="invalid_token"'}
    front.forget()
    front.on("HEAD", "/", answer(401, invalid), times=1)
    wants_token(front, tokens.realm)
    client.head_manifest("a", "v2")
    assert [one.status for one in front.requests] == [401, 200]
    assert tokens.issued == 2
    front.forget()
    front.on(None, "/manifests/", answer(401, invalid))
    with pytest.raises(Unauthorized):
        client.get_manifest("a", "v3")
    assert len(front.requests) == 2


def test_a_401_without_a_challenge_replaces_a_token(front: Front, tokens: TokenServer) -> None:
    wants_token(front, tokens.realm)
    client = client_for(front, **LOGIN)
    client.head_manifest("a", "v1")
    front.forget()
    front.on("HEAD", "/", answer(401), times=1)
    wants_token(front, tokens.realm)
    assert client.head_manifest("a", "v2") is not None
    assert tokens.issued == 2


# What the registry asks for


def test_a_wider_scope_that_the_registry_asks_for_is_fetched_and_remembered(front: Front, tokens: TokenServer) -> None:
    wants_token(front, tokens.realm, ',scope="repository:prefix/a:pull"')
    client = client_for(front, **LOGIN)
    for tag in ("v1", "v2"):
        assert client.head_manifest("a", tag) is not None
    assert [one.scopes for one in tokens.requests] == [("repository:a:pull", "repository:prefix/a:pull")]


def test_bearer_is_preferred_and_basic_used_where_there_is_no_token(front: Front) -> None:
    both = {"WWW-Authenticate": 'Basic realm="r", Bearer realm="/token",service="s"'}
    front.on("HEAD", "/manifests/", answer(401, both), when=lambda request: "Authorization" not in request.headers)
    front.on("HEAD", "/manifests/", answer(200, {"Docker-Content-Digest": DIGEST}))
    front.on("GET", "/v2/$", answer(200))
    client = client_for(front, **LOGIN)
    for tag in ("v1", "v2"):
        assert client.head_manifest("a", tag) is not None
    assert [one.status for one in front.seen("GET", "/token")] == [404]
    assert authorizations(front.seen("HEAD")) == [None, BASIC, BASIC]


# Whom the credentials are shown


def test_credentials_are_kept_from_a_token_service_of_another_host(front: Front, tokens: TokenServer) -> None:
    wants_token(front, tokens.realm.replace("127.0.0.1", "localhost"))
    front.on("GET", "/manifests/", answer(401, {"WWW-Authenticate": "Bearer"}))
    client = client_for(front, **LOGIN)
    assert client.head_manifest("a", "v1") is not None
    with pytest.raises(Unauthorized, match=r"the credentials were not sent to the token service .*token_realm_hosts"):
        client.get_manifest("a", "v1")
    assert [one.authorization for one in tokens.requests] == [None]


@pytest.mark.parametrize("threads", [8])
def test_credentials_are_kept_from_it_by_all_threads(front: Front, tokens: TokenServer, threads: int) -> None:
    wants_token(front, tokens.realm.replace("127.0.0.1", "localhost"))
    client = client_for(front, **LOGIN)
    outcomes(lambda number: client.head_manifest(f"a{number}", "v1"), 60, threads)
    assert {one.authorization for one in tokens.requests} == {None}


def test_credentials_go_to_a_token_service_that_is_allowed(front: Front, tokens: TokenServer) -> None:
    wants_token(front, tokens.realm.replace("127.0.0.1", "localhost"))
    client = client_for(front, **LOGIN, token_realm_hosts=("localhost",))
    assert client.head_manifest("a", "v1") is not None
    assert [one.user for one in tokens.requests] == [USER]


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://169.254.169.254/token", "which is not asked: a link-local address"),
        ("http://[::1/token", "no HTTP address"),
        ("ftp://127.0.0.1/token", "no HTTP address"),
        ("http://127.0.0.1:99999/token", "no HTTP address"),
    ],
)
def test_a_realm_that_must_not_be_asked_is_refused(front: Front, realm: str, words: str) -> None:
    wants_token(front, realm)
    with pytest.raises(ProtocolError, match=words):
        client_for(front, **LOGIN).get_manifest("a", "v1")


def test_a_redirect_of_the_token_service_is_not_followed(front: Front, tokens: TokenServer) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", redirect(tokens.realm))
    with pytest.raises(ProtocolError, match="a redirect that is not followed"):
        client_for(front, **LOGIN).get_manifest("a", "v1")
    assert tokens.requests == []


# What the token service answers


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        (answer(200, body=b"<html>"), ProtocolError, "answered 200 without a token; check the realm"),
        (answer(200, body=b"{}"), ProtocolError, "without a token"),
        (answer(200, body=b"[]"), ProtocolError, "without a token"),
        (answer(200, body=b'{"token": 7}'), ProtocolError, "without a token"),
        (answer(200, body=b'{"token": ""}'), ProtocolError, "without a token"),
        (answer(200, body=json.dumps({"token": "a\r\nX: y"}).encode()), ProtocolError, "without a token"),
        (answer(200, body=json.dumps({"token": "\u00e9"}).encode()), ProtocolError, "without a token"),
        (answer(200, body=b" " * 200_000), ProtocolError, "more than 131072 bytes"),
        (answer(500), RegistryError, "answered 500"),
        (wait(), TransportError, "did not answer in time"),
    ],
    ids=["html", "empty", "list", "number", "blank", "injection", "not-ascii", "too-large", "500", "silent"],
)
def test_what_is_no_token_is_an_error_that_says_so(
    front: Front, action: Action, kind: type[ImageSyncError], words: str
) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", action)
    client = client_for(front, **LOGIN, retries=0, timeouts=Timeouts(read=0.3))
    with pytest.raises(kind, match=words) as caught:
        client.get_manifest("a", "v1")
    assert "service=" not in str(caught.value)


@pytest.mark.parametrize("field", ["token", "access_token"])
def test_a_token_has_one_of_two_names(front: Front, field: str) -> None:
    wants_token(front, "/token?fixed=1")
    front.on("GET", "/token", answer(200, body=json.dumps({field: "t1"}).encode()))
    assert client_for(front).head_manifest("a", "v1") is not None
    assert front.seen("HEAD")[-1].headers["Authorization"] == "Bearer t1"
    assert front.seen("GET", "/token")[0].target.startswith("/token?fixed=1&service=registry.test&scope=")


def test_a_token_service_that_fails_for_a_while_is_asked_again(front: Front, tokens: TokenServer) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", answer(503), times=2)
    front.on("GET", "/token", answer(200, body=b'{"token": "t1"}'))
    assert client_for(front).head_manifest("a", "v1") is not None


def test_those_who_waited_for_a_silent_token_service_do_not_each_wait_again(front: Front) -> None:
    wants_token(front, "/token")
    front.on("GET", "/token", wait())
    client: RegistryClient = client_for(front, **LOGIN, retries=0, timeouts=Timeouts(read=0.4))
    begun = time.monotonic()
    results = outcomes(lambda number: client.head_manifest("a", f"v{number}"), 8)
    assert all(isinstance(one, TransportError) for one in results)
    assert time.monotonic() - begun < 4 * 0.4
