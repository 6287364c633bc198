"""A small token service on loopback, for registries that authenticate by token as Docker Hub does."""

from __future__ import annotations

import base64
import datetime
import fnmatch
import json
import secrets
import ssl
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from devtools.distribution import TokenAuth

#: Distribution accepts a token for this long after its end, to forgive clocks that differ.
_LEEWAY_SECONDS = 60

#: What a user may do: pattern of repository names (as of shell) -> actions.
Rules = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class TokenRequest:
    """What a client asked for, and what it was answered."""

    method: str
    #: The Authorization header as it came, or None.
    authorization: str | None
    #: The form's grant_type, None for GET.
    grant_type: str | None
    #: None for an anonymous client and for a refused login.
    user: str | None
    service: str | None
    scopes: tuple[str, ...]
    #: The query or form, without what has a field of its own here.
    parameters: Mapping[str, str]
    status: int


class TokenServer:
    """A token service with its own signing key; a context manager.

    ``access`` says what each user may do, and under None what anybody may; like real services it leaves out
    of the token what is not allowed, instead of refusing. ``identity_tokens`` are refresh tokens, each for
    a user. ``lifetime`` is in seconds, and the registry does refuse the token after that time.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        access: Mapping[str | None, Rules] | None = None,
        identity_tokens: Mapping[str, str] | None = None,
        lifetime: float = 300,
        service: str = "registry.test",
        issuer: str = "devtools",
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.lifetime = lifetime
        self.service = service
        self.issuer = issuer
        #: Everything asked so far, in order.
        self.requests: list[TokenRequest] = []
        self._users = dict(users or {})
        self._access = dict(access or {})
        self._identity_tokens = dict(identity_tokens or {})
        self._tls = tls
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = _self_signed(self._key)
        self._chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        self._directory = tempfile.TemporaryDirectory(prefix="token-server-")
        self._certificates = Path(self._directory.name) / "certificates.pem"
        self._certificates.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """The service's HOST:PORT."""
        if self._server is None:
            raise RuntimeError("the token server has not been started")
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def realm(self) -> str:
        """The URL where registries send their clients for a token."""
        return f"{'https' if self._tls else 'http'}://{self.host}/token"

    @property
    def token_auth(self) -> TokenAuth:
        """What a registry needs to know to trust this service."""
        return TokenAuth(self.realm, self.service, self.issuer, self._certificates)

    @property
    def issued(self) -> int:
        """How many tokens were given out to clients."""
        return sum(request.status == 200 for request in self.requests)

    def token(self, user: str | None, *scopes: str) -> str:
        """Return a token as the user would get it, without a request."""
        # Distribution's leeway is taken off, so that the lifetime is what the registry enforces.
        end = int(time.time() + self.lifetime) - _LEEWAY_SECONDS
        claims = {
            "iss": self.issuer,
            "sub": user or "",
            "aud": self.service,
            "exp": end,
            "nbf": end - 3600,
            "iat": end - 3600,
            "jti": secrets.token_hex(8),
            "access": self._granted(user, scopes),
        }
        # The chain, which 2.8 and 3 both check against the registry's certificates; their key ids differ.
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"x5c": self._chain})

    def start(self) -> Self:
        """Serve on a thread."""
        if self._server is not None:
            raise RuntimeError("the token server is running already")
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="token-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and remove the certificate; does nothing when it has ended already."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        if self._thread is not None:
            self._thread.join()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self if self._server is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def answer(
        self, method: str, authorization: str | None, pairs: list[tuple[str, str]]
    ) -> tuple[int, dict[str, Any]]:
        """Return status and content of the answer to one request, and record it."""
        # One `scope` parameter per scope on GET, one joined by spaces on POST; both are split all the same.
        scopes = tuple(part for name, value in pairs if name == "scope" for part in value.split())
        form = {name: value for name, value in pairs if name != "scope"}
        user, refusal = self._who(method, authorization, form)
        if refusal is None:
            token = self.token(user, *scopes)
            issued_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            status = 200
            content: dict[str, Any] = {"expires_in": int(self.lifetime), "issued_at": issued_at}
            content |= {"access_token": token} if method == "POST" else {"token": token, "access_token": token}
        else:
            status, content = (
                401,
                {"errors": [{"code": "UNAUTHORIZED", "message": refusal}], "details": refusal},
            )
        self.requests.append(
            TokenRequest(
                method,
                authorization,
                form.pop("grant_type", None),
                user,
                form.pop("service", None),
                scopes,
                form,
                status,
            )
        )
        return status, content

    def _who(self, method: str, authorization: str | None, form: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Return the user, None for an anonymous one, and why the login is refused, if it is."""
        if method == "POST" and form.get("grant_type") == "refresh_token":
            user = self._identity_tokens.get(form.get("refresh_token", ""))
            return user, None if user else "unknown refresh token"
        if method == "POST":
            if form.get("grant_type") != "password":
                return None, "unsupported grant type"
            user, password = form.get("username", ""), form.get("password", "")
        elif authorization is None:
            return None, None
        else:
            user, password = _basic(authorization)
        if user not in self._users or self._users[user] != password:
            return None, "incorrect username or password"
        return user, None

    def _granted(self, user: str | None, scopes: Collection[str]) -> list[dict[str, Any]]:
        granted = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = self._allowed(user, name) if kind == "repository" else set()
            granted.append(
                {
                    "type": kind,
                    "name": name,
                    "actions": [action for action in actions.split(",") if action in allowed],
                }
            )
        return granted

    def _allowed(self, user: str | None, repository: str) -> set[str]:
        rules = [self._access.get(None, {}), self._access.get(user, {})]
        return {
            action
            for patterns in rules
            for pattern, actions in patterns.items()
            if fnmatch.fnmatchcase(repository, pattern)
            for action in actions
        }


def _handler(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            self._answer(parse_qsl(urlsplit(self.path).query))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(parse_qsl(body.decode()))

        def _answer(self, pairs: list[tuple[str, str]]) -> None:
            if urlsplit(self.path).path != "/token":
                status, content = 404, {"details": "the tokens are at /token"}
            else:
                status, content = tokens.answer(self.command, self.headers.get("Authorization"), pairs)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing: requests are recorded, not logged."""

    return Handler


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "token server")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
