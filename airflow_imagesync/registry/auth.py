"""Logging in to one registry: anonymous, Basic, or Bearer tokens from its token service.

Distribution's "Token Authentication Specification" and "OAuth2 Token Authentication". No request is spent
on asking how to log in: the first real one is sent as it is, and the challenge in its answer is remembered.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

import requests

from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ProtocolError, RegistryError, Unauthorized
from airflow_imagesync.registry.answers import error_of
from airflow_imagesync.registry.challenge import Challenge, parse_challenges
from airflow_imagesync.registry.origin import realm_may_see_credentials, realm_problem, redact
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.transport import Transport, read_all

logger = logging.getLogger(__name__)

MAX_TOKEN_ANSWER = 128 * 1024
#: A token without a stated life has this many seconds (token specification), and none is taken to have less.
MIN_TOKEN_LIFE = 60.0
CLIENT_ID = "airflow-imagesync"

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


class Authenticator:
    """Knows how one registry wants to be logged in to, and holds its tokens.

    `registry_url` is the registry's base address; `login` the credentials and the token services that may
    see them. Safe to use from many threads.
    """

    def __init__(self, registry_url: str, login: Login, transport: Transport, retry: RetryPolicy) -> None:
        self._registry_url = registry_url
        self._login = login
        self._transport = transport
        self._retry = retry
        self._challenge: Challenge | None = None
        # By the first scope's resource, so that finding one that covers more takes no walk over all.
        self._tokens: dict[str, dict[Scope, _Token]] = {}
        self._locks: dict[Scope, threading.Lock] = {}
        self._lock = threading.Lock()
        self._accepted = False
        self._refused: RegistryError | None = None
        self._withheld: str | None = None

    @property
    def sends_credentials(self) -> bool:
        """Whether the login's credentials are in use, for the advice in error messages."""
        return self._login.has_credentials and self._challenge is not None and self._withheld is None

    def authorization(self, scopes: Scope) -> str | None:
        """Return the Authorization header for a request that needs `scopes`; None for an anonymous one.

        May fetch a token. Raises Unauthorized when the credentials are known to be refused.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            if self._refused is not None and not self._accepted:
                # Some registries lock an account after a few wrong passwords, so one refusal is enough.
                raise self._refused
            return self._basic()
        return f"Bearer {self._token(challenge, scopes).value}"

    def accepted(self) -> None:
        """Note that the registry took the credentials it was sent."""
        self._accepted = True

    def respond(self, response: requests.Response, scopes: Scope, sent: str | None) -> bool:
        """Learn from a 401 answer; return whether the request is worth sending once more.

        `sent` is the Authorization header that was refused, or None.
        """
        challenges = parse_challenges(response.raw.headers.getlist("WWW-Authenticate"))
        chosen = self._choose(challenges)
        if chosen is None:
            return False
        if chosen.scheme == "bearer":
            wanted = union([*scopes, *chosen.parameters.get("scope", "").split()])
            with self._lock:
                self._challenge = chosen
                held = self._tokens.get(_first_resource(scopes), {})
                for key in [key for key, token in held.items() if sent == f"Bearer {token.value}"]:
                    del held[key]
            if wanted != scopes and sent is not None:
                # The registry asked for more than was requested: hold such a token under the scopes it is used for.
                self._hold(scopes, self._fetch(chosen, wanted))
            return True
        self._challenge = chosen
        if self._login.has_credentials and sent is None:
            return True
        return False

    def refused(self, error: RegistryError) -> None:
        """Note that the registry refused Basic credentials."""
        if self._challenge is not None and self._challenge.scheme == "basic":
            self._refused = error

    def _choose(self, challenges: list[Challenge]) -> Challenge | None:
        for one in challenges:
            if one.scheme == "bearer" and one.parameters.get("realm"):
                return one
        for one in challenges:
            if one.scheme == "basic":
                return one
        # Google's and others' 401 may come without a challenge; Basic is then the only thing to try.
        return Challenge("basic") if self._login.has_credentials and not challenges else None

    def _basic(self) -> str | None:
        login = self._login
        secret = login.password if login.password is not None else login.identity_token
        if not login.has_credentials:
            return None
        pair = f"{login.username or ''}:{secret or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def _token(self, challenge: Challenge, scopes: Scope) -> _Token:
        now = time.monotonic()
        token = self._held(scopes, now)
        if token is not None:
            return token
        with self._lock:
            lock = self._locks.setdefault(scopes, threading.Lock())
        with lock:  # one fetch at a time for the same scopes
            token = self._held(scopes, time.monotonic())
            if token is None:
                token = self._fetch(challenge, scopes)
                self._hold(scopes, token)
            return token

    def _hold(self, scopes: Scope, token: _Token) -> None:
        with self._lock:
            self._tokens.setdefault(_first_resource(scopes), {})[scopes] = token

    def _held(self, scopes: Scope, now: float) -> _Token | None:
        """Return a token that covers `scopes` and is not due for renewal."""
        with self._lock:
            held = self._tokens.get(_first_resource(scopes), {})
            token = held.get(scopes)
            if token is not None and token.renew_at > now:
                return token
            usable = (one for key, one in held.items() if one.renew_at > now and _covers(key, scopes))
            return next(usable, None)

    def _fetch(self, challenge: Challenge, scopes: Scope) -> _Token:
        """Return a new token for `scopes`. Raises Unauthorized, TransportError, RegistryError, ProtocolError."""
        if self._refused is not None:
            raise self._refused
        realm = urljoin(self._registry_url, challenge.parameters["realm"])
        problem = realm_problem(self._registry_url, realm)
        if problem is not None:
            raise ProtocolError(
                f"{self._registry_url} sends to a token service at {redact(realm)}, which is not asked: {problem}",
                url=redact(realm),
            )
        self._withheld = None
        if self._login.has_credentials and not realm_may_see_credentials(
            self._registry_url, realm, self._login.token_realm_hosts
        ):
            self._withheld = redact(realm)
            logger.warning(
                "%s sends to the token service %s, which is not known to belong to it: the credentials are not sent there; "
                "add its host to token_realm_hosts of this registry if it may see them",
                self._registry_url, self._withheld,
            )
        return self._retry.call(lambda: self._ask(realm, challenge, scopes), f"the token service {redact(realm)}")

    def _ask(self, realm: str, challenge: Challenge, scopes: Scope) -> _Token:
        login = self._login
        started = time.monotonic()
        service = challenge.parameters.get("service")
        with_login = login.has_credentials and self._withheld is None
        if with_login and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": login.identity_token}
            if service:
                form["service"] = service
            if scopes:
                form["scope"] = " ".join(scopes)
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            response = self._transport.send("POST", realm, headers, urlencode(form).encode())
            if response.status_code not in (404, 405):
                return self._read_token(response, "POST", realm, started, with_login)
            response.close()  # an older token service: the identity token then is the password
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {"Accept": "application/json"}
        if with_login:
            query += [("client_id", CLIENT_ID)] + ([("account", login.username)] if login.username else [])
            headers["Authorization"] = self._basic() or ""
        separator = "&" if "?" in realm else "?"
        url = f"{realm}{separator}{urlencode(query)}" if query else realm
        response = self._transport.send("GET", url, headers)
        return self._read_token(response, "GET", url, started, with_login)

    def _read_token(
        self, response: requests.Response, method: str, url: str, started: float, with_login: bool
    ) -> _Token:
        if response.status_code != 200:
            error = error_of(response, method, url, logged_in=with_login)
            if isinstance(error, Unauthorized) and with_login:
                self._refused = error
            raise error
        body = read_all(response, MAX_TOKEN_ANSWER, url)
        try:
            answer = json.loads(body)
            value = answer.get("access_token") or answer.get("token")
        except (ValueError, AttributeError, RecursionError):
            value = None
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise ProtocolError(
                f"the token service {redact(url)} answered 200 without a token; check the realm that the registry names",
                method=method, url=redact(url), status=200,
            )
        life = answer.get("expires_in")
        seconds = max(MIN_TOKEN_LIFE, float(life)) if isinstance(life, int | float) else MIN_TOKEN_LIFE
        return _Token(value, started + seconds - min(60.0, seconds / 5))

    def advice(self) -> str:
        """Return what to add to an error about a missing login: that the credentials were held back, or nothing."""
        if self._withheld is None:
            return ""
        return (
            f"; the credentials were not sent to the token service {self._withheld}: "
            "add its host to token_realm_hosts if it may see them"
        )


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
