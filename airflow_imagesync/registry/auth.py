"""Logging in to one registry: anonymous, Basic, or Bearer tokens from its token service.

Distribution's "Token Authentication Specification" and "OAuth2 Token Authentication". No request is spent
on asking how to log in: the first real one is sent as it is, and the challenge in its answer is remembered.
A password is tried once; some registries lock an account after a few wrong ones.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import requests

from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ImageSyncError, ProtocolError, RegistryError, Unauthorized
from airflow_imagesync.registry.answers import error_of
from airflow_imagesync.registry.challenge import Challenge, parse_challenges
from airflow_imagesync.registry.origin import realm_may_see_credentials, realm_problem, redact, resolve
from airflow_imagesync.registry.transport import Transport, discard, read_all

logger = logging.getLogger(__name__)

MAX_TOKEN_ANSWER = 128 * 1024
#: A token without a stated life has this many seconds (token specification), and none is taken to have less.
MIN_TOKEN_LIFE = 60.0
CLIENT_ID = "airflow-imagesync"

T = TypeVar("T")

Scope = tuple[str, ...]


def repository_scope(path: str, *actions: str) -> str:
    """Return the scope for `actions` on the repository `path` of a registry."""
    return f"repository:{path}:{','.join(actions)}"


def union(scopes: Iterable[str]) -> Scope:
    """Return scopes with the actions of each resource joined, resources in their first order.

    The order matters: some token services only look at the first scope.
    """
    actions: dict[str, dict[str, None]] = {}
    for scope in scopes:
        resource, _, names = scope.rpartition(":")
        actions.setdefault(resource, {}).update(dict.fromkeys(name for name in names.split(",") if name))
    return tuple(f"{resource}:{','.join(sorted(names))}" for resource, names in actions.items() if names)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    #: When to fetch another, by the monotonic clock.
    renew_at: float


class _Once:
    """Lets one thread do something while the others wait, and share what comes of it, a failure too.

    After a failure of the kind `final` it is not done again; after a temporary one by those who come later.
    """

    def __init__(self, final: type[ImageSyncError] = ImageSyncError) -> None:
        self._final = final
        self._lock = threading.Lock()
        self._failure: ImageSyncError | None = None
        self._failed_at = 0.0

    def do(self, have: Callable[[], T | None], work: Callable[[], T]) -> T:
        """Return what there is, else what `work` returns; raise what it raised, also to those who waited for it."""
        begun = time.monotonic()
        with self._lock:
            value = have()
            if value is not None:
                return value
            failure = self._failure
            if failure is not None and self._spares_trying(failure, begun):
                shared = copy.copy(failure)  # one exception must not be raised by many threads
                shared.tried = False
                raise shared
            try:
                return work()
            except ImageSyncError as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise

    def _spares_trying(self, failure: ImageSyncError, begun: float) -> bool:
        if failure.temporary:
            return self._failed_at >= begun
        return isinstance(failure, self._final)


class Authenticator:
    """Knows how one registry wants to be logged in to, and holds its tokens.

    `registry_url` is the registry's base address; `login` the credentials and the token services that may
    see them. Safe to use from many threads.
    """

    def __init__(self, registry_url: str, login: Login, transport: Transport) -> None:
        self._registry_url = registry_url
        self._login = login
        self._transport = transport
        self._challenge: Challenge | None = None
        self._basic_offered = False
        self._bearer_fails = False
        # By the first scope's resource, so that finding one that covers more takes no walk over all.
        self._tokens: dict[str, dict[Scope, _Token]] = {}
        #: What to ask for where the registry wanted more than is needed by the specification.
        self._asked: dict[Scope, Scope] = {}
        self._fetches: defaultdict[Scope, _Once] = defaultdict(_Once)
        # With a wrong password, the first request at each place is the last one.
        self._first_basic = _Once(Unauthorized)
        self._first_token = _Once(Unauthorized)
        self._basic_taken = False
        self._login_taken = False
        self._lock = threading.Lock()
        #: The token service that must not see the credentials, if there is one.
        self._withheld_from: str | None = None

    @property
    def sends_credentials(self) -> bool:
        """Whether the login's credentials are in use, for the advice in error messages."""
        return self._login.has_credentials and self._challenge is not None and self._withheld_from is None

    def authorization(self, scopes: Scope) -> str | None:
        """Return the Authorization header for a request that needs `scopes`; None for an anonymous one.

        May fetch a token. Raises Unauthorized when the credentials are refused, and what the token service answers.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "bearer":
            try:
                return f"Bearer {self._token(challenge, scopes).value}"
            except RegistryError as error:
                if error.temporary or not (self._basic_offered and self._login.has_credentials):
                    raise
                # Artifactory offers both where its token service is not set up (containerd#2148).
                logger.info("no token, so Basic is used instead: %s", error)
                self._bearer_fails, self._challenge = True, Challenge("basic")
        if not self._login.has_credentials:
            return None
        if self._basic_taken:
            return self._basic()
        return self._first_basic.do(lambda: self._basic() if self._basic_taken else None, self._try_basic)

    def respond(self, response: requests.Response, scopes: Scope, sent: str | None) -> bool:
        """Learn from a 401 answer; return whether the request is worth sending once more.

        `sent` is the Authorization header that was refused, or None.
        """
        challenges = _challenges(response)
        if not challenges and self._challenge is None:
            # Google's 401 may come without a challenge; the registry's root then has one.
            response = self._transport.send("GET", f"{self._registry_url}/v2/", {})
            discard(response)
            challenges = _challenges(response)
        bearer = None if self._bearer_fails else self._bearer_of(challenges)
        self._basic_offered = any(one.scheme == "basic" for one in challenges)
        if bearer is None:
            can_log_in = self._login.has_credentials and (self._basic_offered or not challenges)
            if can_log_in and self._challenge is None:
                self._challenge = Challenge("basic")
            # A password that the registry has taken is no better the second time.
            return can_log_in and sent is None
        before = self._asked.get(scopes, scopes)
        wanted = union([*before, *bearer.parameters.get("scope", "").split()])
        if sent is not None and wanted == before and bearer.parameters.get("error") == "insufficient_scope":
            return False  # another token would have the same rights
        with self._lock:
            self._challenge = bearer
            self._asked[scopes] = wanted
            held = self._tokens.get(_first_resource(scopes), {})
            for key in [key for key, token in held.items() if sent == f"Bearer {token.value}"]:
                del held[key]
        return True

    def _bearer_of(self, challenges: list[Challenge]) -> Challenge | None:
        for one in challenges:
            if one.scheme == "bearer" and one.parameters.get("realm"):
                return one
        known = self._challenge
        return known if not challenges and known is not None and known.scheme == "bearer" else None

    def advice(self) -> str:
        """Return what to add to an error about a missing login: that the credentials were held back, or nothing."""
        if self._withheld_from is None:
            return ""
        return (
            f"; the credentials were not sent to the token service {self._withheld_from}: "
            "add its host to token_realm_hosts if it may see them"
        )

    def _basic(self) -> str:
        login = self._login
        secret = login.password if login.password is not None else login.identity_token
        pair = f"{login.username or ''}:{secret or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def _try_basic(self) -> str:
        """Ask the registry's root, as ``docker login`` does: a repository's 401 may have other reasons."""
        url = f"{self._registry_url}/v2/"
        header = self._basic()
        response = self._transport.send("GET", url, {"Authorization": header})
        if response.status_code in (401, 429) or response.status_code >= 500:
            raise error_of(response, "GET", url, logged_in=True)
        discard(response)
        self._basic_taken = True
        return header

    def _token(self, challenge: Challenge, scopes: Scope) -> _Token:
        token = self._held(scopes)
        if token is not None:
            return token
        with self._lock:
            asked = self._asked.get(scopes, scopes)
            fetch = self._fetches[asked]
        return fetch.do(lambda: self._held(scopes), lambda: self._fetch(challenge, asked))

    def _held(self, scopes: Scope) -> _Token | None:
        """Return a token that covers `scopes` and is not due for renewal."""
        now = time.monotonic()
        with self._lock:
            held = self._tokens.get(_first_resource(scopes), {})
            token = held.get(scopes)
            if token is not None and token.renew_at > now:
                return token
            usable = (one for key, one in held.items() if one.renew_at > now and _covers(key, scopes))
            return next(usable, None)

    def _fetch(self, challenge: Challenge, scopes: Scope) -> _Token:
        """Fetch and hold a new token for `scopes`."""
        realm = resolve(f"{self._registry_url}/v2/", challenge.parameters["realm"])
        problem = realm_problem(self._registry_url, realm)
        if problem is not None:
            raise ProtocolError(
                f"{self._registry_url} sends to a token service at {redact(realm)}, which is not asked: {problem}",
                url=redact(realm),
            )
        service = challenge.parameters.get("service")
        if not self._login.has_credentials:
            return self._ask(realm, service, scopes, with_login=False)
        if not realm_may_see_credentials(self._registry_url, realm, self._login.token_realm_hosts):
            if self._withheld_from is None:
                self._withheld_from = redact(realm)
                logger.warning(
                    "%s sends to the token service %s, which is not known to belong to it: the credentials are "
                    "not sent there; add its host to token_realm_hosts of this registry if it may see them",
                    self._registry_url,
                    self._withheld_from,
                )
            return self._ask(realm, service, scopes, with_login=False)
        if self._login_taken:
            return self._ask(realm, service, scopes, with_login=True)
        return self._first_token.do(
            lambda: self._held(scopes), lambda: self._ask(realm, service, scopes, with_login=True)
        )

    def _ask(self, realm: str, service: str | None, scopes: Scope, *, with_login: bool) -> _Token:
        login = self._login
        started = time.monotonic()
        if with_login and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": login.identity_token}
            if service:
                form["service"] = service
            if scopes:
                form["scope"] = " ".join(scopes)
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            response = self._transport.send("POST", realm, headers, urlencode(form).encode())
            if response.status_code not in (404, 405):
                return self._take(response, "POST", realm, scopes, started, with_login)
            discard(response)  # an older token service: the identity token then is the password
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {"Accept": "application/json"}
        if with_login:
            query += [("client_id", CLIENT_ID)] + ([("account", login.username)] if login.username else [])
            headers["Authorization"] = self._basic()
        separator = "&" if "?" in realm else "?"
        url = f"{realm}{separator}{urlencode(query)}" if query else realm
        response = self._transport.send("GET", url, headers)
        return self._take(response, "GET", url, scopes, started, with_login)

    def _take(
        self,
        response: requests.Response,
        method: str,
        url: str,
        scopes: Scope,
        started: float,
        with_login: bool,
    ) -> _Token:
        """Hold and return the token that an answer brings."""
        if response.status_code != 200:
            raise error_of(response, method, url, logged_in=with_login)
        body = read_all(response, MAX_TOKEN_ANSWER, url)
        try:
            answer = json.loads(body)
            value = answer.get("access_token") or answer.get("token")
        except (ValueError, AttributeError, RecursionError):
            value = None
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise ProtocolError(
                f"the token service {redact(url)} answered 200 without a token; "
                "check the realm that the registry names",
                method=method,
                url=redact(url),
                status=200,
            )
        life = answer.get("expires_in")
        seconds = max(MIN_TOKEN_LIFE, float(life)) if isinstance(life, int | float) else MIN_TOKEN_LIFE
        # By the time of the request and not by the answer's clock, which may be wrong.
        token = _Token(value, started + seconds - min(60.0, seconds / 5))
        with self._lock:
            self._tokens.setdefault(_first_resource(scopes), {})[scopes] = token
        self._login_taken = self._login_taken or with_login
        return token


def _challenges(response: requests.Response) -> list[Challenge]:
    return parse_challenges(response.raw.headers.getlist("WWW-Authenticate"))


def _first_resource(scopes: Scope) -> str:
    return scopes[0].rpartition(":")[0] if scopes else ""


def _covers(held: Scope, wanted: Scope) -> bool:
    """Whether a token for `held` is good for `wanted`, too."""
    rights = {resource: set(names.split(",")) for resource, _, names in (scope.rpartition(":") for scope in held)}
    for scope in wanted:
        resource, _, names = scope.rpartition(":")
        if not set(names.split(",")) <= rights.get(resource, set()):
            return False
    return True
