"""Logins that end: those of clouds and helpers, and tokens."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.errors import (
    ConfigError,
    Denied,
    ImageSyncError,
    NotFound,
    RegistryError,
    TransportError,
    Unauthorized,
)
from airflow_imagesync.registry import auth, held_credentials
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.download import BlobSource
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.clients import client_for
from tests.support.faults import answer
from tests.support.front import Front, Request

DIGEST = "sha256:" + "a" * 64
ECR_EXPIRED = (
    b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}'
)
ECR_PUBLIC_EXPIRED = b'{"errors":[{"code":"DENIED","message":"Your Authorization Token is invalid."}]}'
GOOD, OLD = Credentials(USER, PASSWORD), Credentials(USER, "ended")


class Source:
    """Gives one login after the other, the next one with each renewal; a failure among them is raised."""

    def __init__(self, first: Credentials | ImageSyncError, *later: Credentials | ImageSyncError) -> None:
        self.now = first
        self._later = iter(later)
        self.asked = 0
        self.renewed = 0
        self._lock = threading.Lock()

    def get(self, *, renew: bool = False) -> Credentials:
        with self._lock:
            self.asked += 1
            found = self.now
            if renew:
                self.renewed += 1
                time.sleep(0.05)
                found = next(self._later, self.now)
            if isinstance(found, ImageSyncError):
                raise found
            self.now = found
            return found


class Endless(Source):
    """Gives ever new logins."""

    def get(self, *, renew: bool = False) -> Credentials:
        super().get(renew=renew)
        return Credentials(USER, f"number {self.renewed}")


def basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def shows(*headers: str) -> Callable[[Request], bool]:
    return lambda request: request.headers.get("Authorization") in headers


def shows_something(request: Request) -> bool:
    return "Authorization" in request.headers


def outcomes(work: Callable[[int], object], numbers: Iterable[int], threads: int = 8) -> list[object]:
    def one(number: int) -> object:
        try:
            return work(number)
        except ImageSyncError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, numbers))


def shown(front: Front, header: str, pattern: str = "") -> int:
    return sum(one.headers.get("Authorization") == header for one in front.seen(None, pattern))


@pytest.fixture
def scripted_token(scripted: Front) -> Front:
    """A registry with one manifest for whoever brings a token of its own service, which takes any login but OLD."""
    challenge = {"WWW-Authenticate": 'Bearer realm="/token",service="registry.test"'}
    scripted.on(None, "/v2/", answer(401, challenge), when=lambda request: not shows_something(request))
    scripted.on("GET", "/token", answer(401), when=shows(basic(OLD)))
    scripted.on("GET", "/token", answer(200, body=b'{"token": "t1", "expires_in": 300}'))
    return scripted


def has_manifest(front: Front) -> None:
    front.on("HEAD", "/manifests/", answer(200, {"Docker-Content-Digest": DIGEST}))


@pytest.fixture
def ecr(htpasswd_registry: DistributionRegistry) -> Iterator[Front]:
    """A registry that answers as Amazon's where the login of OLD is shown."""
    with Front(htpasswd_registry.host) as front:
        front.on("HEAD", "/v2/", answer(403), when=shows(basic(OLD)))
        front.on(None, "/v2/", answer(403, body=ECR_EXPIRED), when=shows(basic(OLD)))
        yield front


# Logins by Basic


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client, path: client.head_manifest(path, "v1"), id="HEAD"),
        pytest.param(lambda client, path: client.get_manifest(path, "v1"), id="GET"),
        pytest.param(lambda client, path: client.list_tags(path), id="tags"),
    ],
)
def test_many_requests_find_out_that_a_login_has_ended_and_it_is_renewed_once(
    ecr: Front, ask: Callable[[RegistryClient, str], object]
) -> None:
    source = Source(OLD, GOOD)
    client = client_for(ecr, source=source)
    results = outcomes(lambda number: ask(client, f"a{number % 4}"), range(24))
    assert all(one is None or isinstance(one, NotFound) for one in results)
    assert source.renewed == 1


def test_a_push_goes_on_after_its_login_has_ended(ecr: Front, repository_prefix: str) -> None:
    source = Source(OLD, GOOD)
    client = client_for(ecr, source=source)
    image = images.image([images.layer(50_000, 1)])
    with Front(ecr.upstream) as before:
        pushed = client_for(before, username=USER, password=PASSWORD)
        images.push(before.url, f"{repository_prefix}/from", image, ["v1"], auth=(USER, PASSWORD))
        manifest = pushed.get_manifest(f"{repository_prefix}/from", "v1")
        for one in manifest.blobs:
            client.put_blob(repository_prefix, one, BlobSource(pushed, f"{repository_prefix}/from"))
        client.put_manifest(repository_prefix, "v1", manifest)
        head = pushed.head_manifest(repository_prefix, "v1")
    assert head is not None
    assert head.digest == image.digest
    assert source.renewed == 1


def test_a_blob_that_is_there_is_not_sent_again_because_a_login_has_ended(
    ecr: Front, htpasswd_registry: DistributionRegistry, repository_prefix: str
) -> None:
    """To a HEAD nothing says why it is refused."""
    blob = images.layer(1000, 5)
    images.push(htpasswd_registry.url, repository_prefix, images.image([blob]), ["v1"], auth=(USER, PASSWORD))
    source = Source(OLD, GOOD)
    assert client_for(ecr, source=source).has_blob(repository_prefix, blob.digest)
    assert [one.status for one in ecr.seen("HEAD")] == [401, 403, 200]


def test_a_login_that_ends_as_a_blob_is_sent_has_that_blob_sent_once_more() -> None:
    blob = images.layer(300_000, 3)
    first, second = Credentials("first", "one"), Credentials("second", "two")
    with (
        DistributionRegistry(htpasswd={"first": "one", "second": "two"}, in_shared_memory=True) as registry,
        Front(registry.host) as front,
    ):
        images.push(registry.url, "from", images.image([blob]), ["v1"], auth=("first", "one"))
        front.on("PUT", "/uploads/", answer(403, body=ECR_EXPIRED), times=1)
        client = client_for(front, source=Source(first, second))
        reader = client_for(registry, username="first", password="one")
        client.put_blob("to", Descriptor("x", blob.digest, blob.size), BlobSource(reader, "from"))
        assert [(one.status, one.headers["Authorization"]) for one in front.seen("PUT")] == [
            (403, basic(first)),
            (201, basic(second)),
        ]


def test_a_registry_that_always_says_ended_is_not_asked_for_ever(htpasswd_registry: DistributionRegistry) -> None:
    with Front(htpasswd_registry.host) as front:
        front.on(None, "/v2/$", answer(200), when=shows_something)
        front.on(None, "/v2/", answer(403, body=ECR_EXPIRED), when=shows_something)
        source = Endless(GOOD)
        client = client_for(front, source=source)
        results = outcomes(lambda number: client.get_manifest(f"a{number}", "v1"), range(12))
        assert all(isinstance(one, Denied) and "authorization token has expired" in str(one) for one in results)
        assert source.renewed == 1
        # Each was answered at most twice with a login, and asked once without.
        assert len(front.seen("GET", "/manifests/")) <= 12 * 3


def test_a_login_is_renewed_again_when_it_ends_again(ecr: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    third = Credentials(USER, "ended, too")
    ecr.on(None, "/v2/", answer(403, body=ECR_EXPIRED), when=shows(basic(third)))
    source = Source(OLD, third, GOOD)
    client = client_for(ecr, source=source)
    with pytest.raises(Denied):
        client.get_manifest("a", "v1")
    later = time.monotonic() + held_credentials.RENEWAL_PAUSE
    monkeypatch.setattr(held_credentials.time, "monotonic", lambda: later)
    assert client.head_manifest("a", "v1") is None
    assert source.renewed == 2


def test_a_login_that_is_refused_and_stays_the_same_is_shown_once(ecr: Front) -> None:
    wrong = Credentials(USER, "wrong")
    source = Source(wrong)
    client = client_for(ecr, source=source)
    results = outcomes(lambda number: client.get_manifest(f"a{number}", "v1"), range(24))
    assert all(isinstance(one, Unauthorized) and "check the username and password" in str(one) for one in results)
    assert shown(ecr, basic(wrong)) == 1
    assert source.renewed == 1


def test_a_wrong_login_that_is_replaced_by_another_wrong_one_has_each_shown_once(ecr: Front) -> None:
    wrong, other = Credentials(USER, "wrong"), Credentials(USER, "also wrong")
    client = client_for(ecr, source=Source(wrong, other))
    results = outcomes(lambda number: client.get_manifest(f"a{number}", "v1"), range(24))
    assert all(isinstance(one, Unauthorized) for one in results)
    assert (shown(ecr, basic(wrong)), shown(ecr, basic(other))) == (1, 1)


def test_a_login_without_a_source_is_not_renewed_and_no_request_is_repeated(ecr: Front) -> None:
    client = client_for(ecr, username=USER, password="ended")
    with pytest.raises(Denied, match=r"authorization token has expired.*; check that this login may read"):
        client.get_manifest("a", "v1")
    assert [one.status for one in ecr.seen("GET", "/manifests/")] == [401, 403]


def test_other_refusals_keep_their_message_and_renew_nothing(htpasswd_registry: DistributionRegistry) -> None:
    denied = b'{"errors":[{"code":"DENIED","message":"not for you"}]}'
    with Front(htpasswd_registry.host) as front:
        front.on("GET", "/manifests/", answer(403, body=denied), when=shows_something)
        front.on("GET", "/tags/", answer(400, body=b'{"errors":[{"code":"UNSUPPORTED","message":"what"}]}'))
        source = Source(GOOD, GOOD)
        client = client_for(front, source=source)
        with pytest.raises(Denied, match="DENIED: not for you; check that this login may read"):
            client.get_manifest("a", "v1")
        with pytest.raises(RegistryError, match="UNSUPPORTED: what"):
            client.list_tags("a")
        assert source.renewed == 0


# Logins at a token service


def test_a_login_that_the_token_service_no_longer_takes_is_renewed_once(scripted_token: Front) -> None:
    has_manifest(scripted_token)
    source = Source(OLD, GOOD)
    client = client_for(scripted_token, source=source)
    results = outcomes(lambda number: client.head_manifest(f"a{number}", "v1"), range(24))
    assert not [one for one in results if one is None or isinstance(one, Exception)]
    assert source.renewed == 1
    assert shown(scripted_token, basic(OLD)) == 1


def test_a_login_that_was_taken_before_is_renewed_when_it_ends(
    scripted: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="/token",service="registry.test"'}
    scripted.on(None, "/v2/", answer(401, challenge), when=lambda request: not shows_something(request))
    scripted.on("GET", "/token", answer(401), when=shows(basic(OLD)), skip=1)
    scripted.on("GET", "/token", answer(200, body=b'{"token": "t1", "expires_in": 300}'))
    has_manifest(scripted)
    source = Source(OLD, GOOD)
    client = client_for(scripted, source=source)
    client.head_manifest("a", "v1")
    assert source.renewed == 0
    later = time.monotonic() + 1000
    monkeypatch.setattr(auth.time, "monotonic", lambda: later)
    assert client.head_manifest("a", "v1") is not None
    assert source.renewed == 1
    assert [one.status for one in scripted.seen("GET", "/token")] == [200, 401, 200]


def test_an_identity_token_that_ended_is_renewed(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
) -> None:
    good = Credentials(identity_token=f"identity-of-{USER}")
    source = Source(Credentials(identity_token="ended"), good)
    before = len(token_server.requests)
    assert client_for(token_registry, source=source).head_manifest(repository_prefix, "v1") is None
    assert [one.status for one in token_server.requests[before:]] == [401, 200]


def test_credentials_of_a_source_are_kept_from_a_token_service_of_another_host(scripted: Front) -> None:
    with Front() as other:
        other.on("GET", "/token", answer(200, body=b'{"token": "t1"}'))
        realm = f"{other.url.replace('127.0.0.1', 'localhost')}/token"
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
        scripted.on("HEAD", "/v2/", answer(401, challenge), when=lambda request: not shows_something(request))
        has_manifest(scripted)
        assert client_for(scripted, source=Source(GOOD)).head_manifest("a", "v1") is not None
        assert [one.headers.get("Authorization") for one in other.requests] == [None]


# Sources


def test_a_source_is_not_asked_before_a_registry_wants_a_login(source_registry: DistributionRegistry) -> None:
    source = Source(ConfigError("never to be seen"))
    client = client_for(source_registry, source=source)
    client.ping()
    assert client.head_manifest("nothing/here", "v1") is None
    assert source.asked == 0


@pytest.mark.parametrize("place", ["htpasswd_registry", "token_registry"])
@pytest.mark.parametrize("error", [ConfigError("no helper"), TransportError("no answer", temporary=False)])
def test_what_a_source_raises_comes_out_as_it_is(
    place: str, error: ImageSyncError, request: pytest.FixtureRequest
) -> None:
    client = client_for(request.getfixturevalue(place), source=Source(error))
    for _ in range(2):
        with pytest.raises(type(error), match=f"^{error}$"):
            client.get_manifest("a", "v1")


def test_what_a_source_raises_when_it_is_to_renew_comes_out_for_all(ecr: Front) -> None:
    source = Source(OLD, ConfigError("the role is gone"))
    client = client_for(ecr, source=source)
    results = outcomes(lambda number: client.get_manifest(f"a{number}", "v1"), range(12))
    assert {str(one) for one in results} == {"the role is gone"}
    assert source.renewed == 1


def test_a_source_that_fails_for_a_moment_is_asked_again(ecr: Front) -> None:
    source = Source(OLD, TransportError("no answer"), GOOD)
    assert client_for(ecr, source=source).head_manifest("a", "v1") is None
    assert source.renewed == 2


def test_a_source_that_has_nothing_means_nobody(
    htpasswd_registry: DistributionRegistry, token_registry: DistributionRegistry, token_server: TokenServer
) -> None:
    source = Source(Credentials())
    for place in (htpasswd_registry, token_registry):
        with pytest.raises(Unauthorized, match="it needs a login, or does not exist"):
            client_for(place, source=source).get_manifest("private/a", "v1")
    assert token_server.requests[-1].authorization is None


def test_a_source_may_renew_by_itself(ecr: Front) -> None:
    """A cloud's knows when its credentials end."""
    source = Source(GOOD)
    client = client_for(ecr, source=source)
    assert client.head_manifest("a", "v1") is None
    also_good = Credentials(USER, PASSWORD, None, None)
    source.now = also_good
    assert client.head_manifest("a", "v1") is None
    ecr.on("GET", "/v2/$", answer(200))
    ecr.on("HEAD", "/manifests/", answer(200, {"Docker-Content-Digest": DIGEST}))
    source.now = Credentials(USER, "new")
    assert client.head_manifest("a", "v1") is not None
    assert shown(ecr, basic(Credentials(USER, "new"))) == 2  # the check, and the request


# A registry's own token


def test_a_registry_token_is_sent_as_it_is_and_exchanged_nowhere(scripted_token: Front) -> None:
    has_manifest(scripted_token)
    client = client_for(scripted_token, source=Source(Credentials(registry_token="own.t0ken")))
    for tag in ("v1", "v2"):
        assert client.head_manifest("a", tag) is not None
    assert [one.headers.get("Authorization") for one in scripted_token.requests] == [
        None,
        "Bearer own.t0ken",
        "Bearer own.t0ken",
    ]


@pytest.mark.parametrize("challenge", ['Bearer realm="/token"', 'Basic realm="r"', None])
def test_a_registry_token_that_ended_is_renewed_once(scripted: Front, challenge: str | None) -> None:
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    has_it = shows("Bearer new")
    scripted.on(None, "/v2/", answer(401, headers), when=lambda request: not has_it(request))
    has_manifest(scripted)
    source = Source(Credentials(registry_token="old"), Credentials(registry_token="new"))
    client = client_for(scripted, source=source)
    # The first request learns that there is a login, the second that it has ended.
    results = outcomes(lambda number: client.head_manifest("a", f"v{number}"), range(12), 1)
    assert all(one is not None and not isinstance(one, Exception) for one in results[1:])
    assert source.renewed == 1


def test_a_registry_token_that_stays_refused_is_not_repeated(scripted: Front) -> None:
    scripted.on(None, "/v2/", answer(401, {"WWW-Authenticate": 'Bearer realm="/token"'}))
    client = client_for(scripted, source=Source(Credentials(registry_token="own")))
    for _ in range(2):
        with pytest.raises(Unauthorized):
            client.get_manifest("a", "v1")
    assert shown(scripted, "Bearer own") == 2
    assert scripted.seen(None, "/token") == []


@pytest.mark.parametrize(
    "login",
    [
        {"username": "hunter22\ud800", "password": "p"},
        {"username": "u", "password": "hunter22\ud800"},
        {"identity_token": "hunter22\ud800"},
    ],
)
def test_a_login_that_is_no_text_is_refused(scripted: Front, login: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="a login holds what is no text, half of a surrogate pair") as caught:
        client_for(scripted, **login)
    assert "hunter22" not in str(caught.value)
    scripted.on(None, "/v2/", answer(401, {"WWW-Authenticate": "Basic"}))
    client = client_for(scripted, source=Source(Credentials(**login)))
    with pytest.raises(ConfigError, match="half of a surrogate pair"):
        client.get_manifest("a", "v1")


@pytest.mark.parametrize("token", ["a\r\nX-Injected: y", "\u00e9", "a\0b"])
def test_a_registry_token_that_no_header_may_have_is_refused(scripted: Front, token: str) -> None:
    scripted.on(None, "/v2/", answer(401, {"WWW-Authenticate": 'Bearer realm="/token"'}))
    client = client_for(scripted, source=Source(Credentials(registry_token=token)))
    with pytest.raises(ConfigError, match="holds characters that no header may have") as caught:
        client.get_manifest("a", "v1")
    assert token not in str(caught.value)


# Tokens that end


@pytest.mark.parametrize("login", [{}, {"username": USER, "password": PASSWORD}], ids=["anonymous", "login"])
def test_a_token_that_amazons_public_gallery_calls_invalid_is_replaced(
    scripted: Front, tokens: Front, login: dict[str, str]
) -> None:
    scripted.on("GET", "/manifests/", answer(400, body=ECR_PUBLIC_EXPIRED), when=shows("Bearer t1"))
    scripted.on("GET", "/manifests/", answer(404), when=shows("Bearer t2"))
    client = client_for(scripted, **login)
    with pytest.raises(ImageSyncError, match="404"):
        client.get_manifest("a", "v1")
    assert [one.status for one in scripted.seen("GET", "/manifests/")] == [401, 400, 404]
    assert len(tokens.seen("GET", "/token")) == 2


def test_tokens_that_are_called_invalid_for_ever_are_replaced_once_a_request(scripted: Front, tokens: Front) -> None:
    scripted.on("GET", "/manifests/", answer(400, body=ECR_PUBLIC_EXPIRED), when=shows_something)
    client = client_for(scripted)
    for _ in range(2):
        with pytest.raises(RegistryError, match="Authorization Token is invalid"):
            client.get_manifest("a", "v1")
    assert [one.status for one in scripted.seen("GET", "/manifests/")] == [401, 400, 400, 400, 400]


@pytest.fixture
def tokens(scripted: Front) -> Front:
    """The same front as a token service that gives t1, t2 and t3, each for 100 seconds; the first ask is a 401."""
    challenge = {"WWW-Authenticate": 'Bearer realm="/token",service="registry.test"'}
    scripted.on(None, "/v2/", answer(401, challenge), when=lambda request: not shows_something(request))
    for number in (1, 2):
        body = f'{{"token": "t{number}", "expires_in": 100}}'.encode()
        scripted.on("GET", "/token", answer(200, body=body), times=1)
    scripted.on("GET", "/token", answer(200, body=b'{"token": "t3", "expires_in": 100}'))
    return scripted


class Piece:
    """A body that can be read once."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x"

    def __len__(self) -> int:
        return 1


def test_a_token_must_last_a_minute_for_a_blob_to_be_begun_with_it(
    tokens: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.on("PUT", "/uploads/", answer(201))
    has_manifest(tokens)
    client: RegistryClient = client_for(tokens)
    scopes = ("repository:a:pull,push",)
    begun = time.monotonic()

    def at(seconds: float) -> None:
        monkeypatch.setattr(auth.time, "monotonic", lambda: begun + seconds)

    def put() -> None:
        client.exchange("PUT", f"{client.url}/v2/a/blobs/uploads/1", scopes, body=Piece())

    client.exchange("HEAD", f"{client.url}/v2/a/manifests/v1", scopes)
    for seconds, renewed in [(10, 1), (50, 2), (85, 2), (100, 3)]:
        at(seconds)
        client.exchange("HEAD", f"{client.url}/v2/a/manifests/v1", scopes)
        put()
        assert len(tokens.seen("GET", "/token")) == renewed


def test_a_proxy_that_looks_at_the_token_when_it_has_all_of_a_blob_costs_one_more_sending(
    token_registry: DistributionRegistry, token_server: TokenServer, repository_prefix: str
) -> None:
    blob = images.layer(300_000, 4)
    token = images.BearerAuth(token_server.token(USER, f"repository:{repository_prefix}:pull,push"))
    images.push(token_registry.url, repository_prefix, images.image([blob]), ["v1"], auth=token)
    login = {"username": USER, "password": PASSWORD}
    with Front(token_registry.host) as front:
        challenge = f'Bearer realm="{token_server.realm}",service="registry.test",error="invalid_token"'
        front.on("PUT", "/uploads/", answer(401, {"WWW-Authenticate": challenge}), times=1)
        client = client_for(front, **login)
        source = BlobSource(client_for(token_registry, **login), repository_prefix)
        client.put_blob(f"{repository_prefix}/to", Descriptor("x", blob.digest, blob.size), source)
        first, second = front.seen("PUT")
        assert (first.status, first.received, second.status, second.received) == (401, blob.size, 201, blob.size)
        assert first.headers["Authorization"] != second.headers["Authorization"]
