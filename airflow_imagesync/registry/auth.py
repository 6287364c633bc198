"""Logging in to one registry: anonymous, Basic, or Bearer tokens from its token service.

Distribution's "Token Authentication Specification" and "OAuth2 Token Authentication". No request is spent
on asking how to log in: the first real one is sent as it is, and the challenge in its answer is remembered.
A password is tried once; some registries lock an account after a few wrong ones. Credentials that end are renewed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

import requests

from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ProtocolError, RegistryError, Unauthorized
from airflow_imagesync.registry.answers import error_of
from airflow_imagesync.registry.challenge import Challenge, parse_challenges
from airflow_imagesync.registry.held_credentials import Held, HeldCredentials
from airflow_imagesync.registry.once import Once
from airflow_imagesync.registry.origin import realm_may_see_credentials, realm_problem, redact, resolve
from airflow_imagesync.registry.transport import Transport, discard, read_all

logger = logging.getLogger(__name__)

MAX_TOKEN_ANSWER = 128 * 1024
#: A token without a stated life has this many seconds (token specification), and none is taken to have less.
MIN_TOKEN_LIFE = 60.0
#: What a token must last when a blob is begun with it, in seconds: some proxies look at it when they have all of it.
UPLOAD_TOKEN_LIFE = 60.0
#: How ECR tells that a login has ended: without a challenge, with 403, and its public gallery with 400 (oras-go#1227).
_ENDED = (b"authorization token has expired", b"authorization token is invalid")
_MAX_TOKEN_LIFE = 365 * 24 * 3600
#: So many scopes are asked for with one token, whatever a registry's challenges add up to.
_MAX_SCOPES = 64
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
    #: When to fetch another, by the monotonic clock; and when to do so before a blob is sent.
    renew_at: float
    renew_for_upload_at: float

    def good(self, now: float, *, lasting: bool) -> bool:
        """Whether it need not be renewed yet."""
        return now < (self.renew_for_upload_at if lasting else self.renew_at)


class Authenticator:
    """Knows how one registry wants to be logged in to, and holds its tokens.

    `registry_url` is the registry's base address; `login` the credentials and the token services that may
    see them. Safe to use from many threads.
    """

    def __init__(self, registry_url: str, login: Login, transport: Transport) -> None:
        self._registry_url = registry_url
        self._realm_hosts = login.token_realm_hosts
        self._credentials = HeldCredentials(login)
        self._transport = transport
        self._challenge: Challenge | None = None
        self._basic_offered = False
        self._bearer_fails = False
        # By the first scope's resource, so that finding one that covers more takes no walk over all.
        self._tokens: dict[str, dict[Scope, _Token]] = {}
        #: What to ask for where the registry wanted more than is needed by the specification.
        self._asked: dict[Scope, Scope] = {}
        self._fetches: defaultdict[Scope, Once] = defaultdict(Once)
        self._lock = threading.Lock()
        #: The token service that must not see the credentials, if there is one.
        self._withheld_from: str | None = None

    @property
    def sends_credentials(self) -> bool:
        """Whether the login's credentials are in use, for the advice in error messages."""
        return self._credentials.in_use and self._challenge is not None and self._withheld_from is None

    def authorization(self, scopes: Scope, *, lasting: bool = False) -> str | None:
        """Return the Authorization header for a request that needs `scopes`; None for an anonymous one.

        With `lasting`, a token that ends within a minute does not do. May fetch a token, and ask the login's source
        for credentials. Raises Unauthorized when they are refused, what the source raises, and what the token service
        answers.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        bearer = challenge.scheme == "bearer"
        token = self._good_token(scopes, lasting) if bearer else None
        if token is not None:
            return f"Bearer {token.value}"
        held = self._credentials.get()
        if bearer and held.credentials.registry_token is None:
            try:
                return f"Bearer {self._new_token(challenge, scopes, lasting).value}"
            except RegistryError as error:
                if error.temporary or not (self._basic_offered and held.credentials):
                    raise
                # Artifactory offers both where its token service is not set up (containerd#2148).
                logger.info("no token, so Basic is used instead: %s", error)
                self._bearer_fails, self._challenge = True, Challenge("basic")
        while True:
            held = self._credentials.get()
            try:
                return self._shown_directly(held)
            except Unauthorized:
                if not self._credentials.renew(held):
                    raise

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
            can_log_in = bool(self._credentials.get().credentials) and (self._basic_offered or not challenges)
            if can_log_in and self._challenge is None:
                self._challenge = Challenge("basic")
            # A password that the registry has taken is no better the second time.
            return can_log_in and (sent is None or self._replaced(sent))
        if sent is not None and self._credentials.shows_registry_token(sent):
            return self._replaced(sent)
        before = self._asked.get(scopes, scopes)
        wanted = union([*before, *bearer.parameters.get("scope", "").split()])[:_MAX_SCOPES]
        if sent is not None and wanted == before and bearer.parameters.get("error") == "insufficient_scope":
            return False  # another token would have the same rights
        with self._lock:
            self._challenge = bearer
            self._asked[scopes] = wanted
        self._drop_token(scopes, sent)
        return True

    def ended(self, method: str, status: int, body: bytes, scopes: Scope, sent: str) -> bool:
        """Learn from a 400 or 403 answer; return whether the request is worth sending once more.

        That is so when it says that the login in the header `sent` has ended, and there is another to be had.
        """
        # ECR says so, but to a HEAD (amazon-ecr-credential-helper#679).
        basic = sent.startswith("Basic ")
        unsaid = method == "HEAD" and status == 403 and basic
        if not unsaid and not any(one in body.lower() for one in _ENDED):
            return False
        if basic or self._credentials.shows_registry_token(sent):
            return self._replaced(sent)
        self._drop_token(scopes, sent)
        return True

    def _replaced(self, sent: str) -> bool:
        """Whether there are other credentials now than those that the refused header `sent` shows."""
        held = self._credentials.get()
        return held.header != sent or self._credentials.renew(held)

    def _drop_token(self, scopes: Scope, sent: str | None) -> None:
        with self._lock:
            held = self._tokens.get(_first_resource(scopes), {})
            for key in [key for key, token in held.items() if sent == f"Bearer {token.value}"]:
                del held[key]

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

    def _shown_directly(self, held: Held) -> str | None:
        """Return the header that shows credentials to the registry itself; None where there are none."""
        if not held.credentials:
            return None
        if held.basic_taken or held.credentials.registry_token is not None:
            return held.header
        return held.first_basic.do(lambda: held.header if held.basic_taken else None, lambda: self._try_basic(held))

    def _try_basic(self, held: Held) -> str:
        """Ask the registry's root, as ``docker login`` does: a repository's 401 may have other reasons."""
        url = f"{self._registry_url}/v2/"
        response = self._transport.send("GET", url, {"Authorization": held.basic})
        if response.status_code in (401, 429) or response.status_code >= 500:
            raise error_of(response, "GET", url, logged_in=True)
        discard(response)
        held.basic_taken = True
        return held.basic

    def _new_token(self, challenge: Challenge, scopes: Scope, lasting: bool) -> _Token:
        with self._lock:
            asked = self._asked.get(scopes, scopes)
            fetch = self._fetches[asked]
        return fetch.do(lambda: self._good_token(scopes, lasting), lambda: self._fetch(challenge, asked))

    def _good_token(self, scopes: Scope, lasting: bool) -> _Token | None:
        """Return a token that covers `scopes` and is not due for renewal."""
        now = time.monotonic()
        with self._lock:
            held = self._tokens.get(_first_resource(scopes), {})
            token = held.get(scopes)
            if token is not None and token.good(now, lasting=lasting):
                return token
            usable = (one for key, one in held.items() if one.good(now, lasting=lasting) and _covers(key, scopes))
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
        may_see = realm_may_see_credentials(self._registry_url, realm, self._realm_hosts)
        while True:
            held = self._credentials.get()
            if not held.credentials:
                return self._ask(realm, service, scopes, None)
            if not may_see:
                self._note_withheld(redact(realm))
                return self._ask(realm, service, scopes, None)
            try:
                return self._ask_as(held, realm, service, scopes)
            except Unauthorized:
                if not self._credentials.renew(held):
                    raise

    def _note_withheld(self, realm: str) -> None:
        if self._withheld_from is None:
            self._withheld_from = realm
            logger.warning(
                "%s sends to the token service %s, which is not known to belong to it: the credentials are "
                "not sent there; add its host to token_realm_hosts of this registry if it may see them",
                self._registry_url,
                realm,
            )

    def _ask_as(self, held: Held, realm: str, service: str | None, scopes: Scope) -> _Token:
        if held.token_taken:
            return self._ask(realm, service, scopes, held)
        return held.first_token.do(lambda: None, lambda: self._ask(realm, service, scopes, held))

    def _ask(self, realm: str, service: str | None, scopes: Scope, held: Held | None) -> _Token:
        """Ask the token service, anonymously where nothing is `held`."""
        started = time.monotonic()
        shown = held.credentials if held is not None else None
        if shown is not None and shown.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": shown.identity_token}
            if service:
                form["service"] = service
            if scopes:
                form["scope"] = " ".join(scopes)
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
            response = self._transport.send("POST", realm, headers, urlencode(form).encode())
            if response.status_code not in (404, 405):
                return self._take(response, "POST", realm, scopes, started, held)
            discard(response)  # an older token service: the identity token then is the password
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {"Accept": "application/json"}
        if held is not None:
            account = held.credentials.username
            query += [("client_id", CLIENT_ID)] + ([("account", account)] if account else [])
            headers["Authorization"] = held.basic
        separator = "&" if "?" in realm else "?"
        url = f"{realm}{separator}{urlencode(query)}" if query else realm
        response = self._transport.send("GET", url, headers)
        return self._take(response, "GET", url, scopes, started, held)

    def _take(
        self,
        response: requests.Response,
        method: str,
        url: str,
        scopes: Scope,
        started: float,
        held: Held | None,
    ) -> _Token:
        """Hold and return the token that an answer brings."""
        if response.status_code != 200:
            raise error_of(response, method, url, logged_in=held is not None)
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
        seconds = (
            max(MIN_TOKEN_LIFE, float(min(life, _MAX_TOKEN_LIFE))) if isinstance(life, int | float) else MIN_TOKEN_LIFE
        )
        # By the time of the request and not by the answer's clock, which may be wrong.
        ends = started + seconds
        renew_at = ends - min(60.0, seconds / 5)
        token = _Token(value, renew_at, ends - UPLOAD_TOKEN_LIFE if seconds > UPLOAD_TOKEN_LIFE else renew_at)
        with self._lock:
            self._tokens.setdefault(_first_resource(scopes), {})[scopes] = token
        if held is not None:
            held.token_taken = True
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
