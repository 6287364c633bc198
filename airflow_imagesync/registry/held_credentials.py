"""The credentials in use at one registry: taken when first needed, and taken anew when they end."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import dataclass, field

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ConfigError, Unauthorized
from airflow_imagesync.registry.once import Once

#: Credentials are renewed at most once in so many seconds: a registry may say for ever that they have ended.
RENEWAL_PAUSE = 60.0


@dataclass(eq=False, slots=True)
class Held:
    """Credentials, and what became of them: with wrong ones, the first request at each place is the last.

    Raises ConfigError for credentials that can't be sent.
    """

    credentials: Credentials
    basic_taken: bool = False
    token_taken: bool = False
    first_basic: Once = field(default_factory=lambda: Once(Unauthorized))
    first_token: Once = field(default_factory=lambda: Once(Unauthorized))
    renewal: Once = field(default_factory=Once)

    def __post_init__(self) -> None:
        shown = self.credentials
        try:
            f"{shown.username}{shown.password}{shown.identity_token}".encode()
        except UnicodeEncodeError:
            # The cause is dropped because it has all of the text.
            raise ConfigError("a login holds what is no text, half of a surrogate pair; log in again") from None
        token = shown.registry_token or ""
        if not (token.isascii() and token.isprintable()):
            raise ConfigError("a login's registry token holds characters that no header may have; log in again")

    @property
    def header(self) -> str:
        """The Authorization header that shows them to the registry itself: Bearer for its own token, else Basic."""
        token = self.credentials.registry_token
        return self.basic if token is None else f"Bearer {token}"

    @property
    def basic(self) -> str:
        """The header for Basic, where an identity token stands for the password."""
        shown = self.credentials
        secret = shown.password if shown.password is not None else shown.identity_token
        pair = f"{shown.username or ''}:{secret or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


class HeldCredentials:
    """Holds the credentials of `login`. Safe to use from many threads.

    A login's source is asked each time, as it may know when credentials end, but not before a registry wants a login.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._renewable = login.source is not None
        self._held = None if self._renewable else Held(login.credentials())
        self._renewed_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Whether there are any, as far as is known without asking for them."""
        return self._held is not None and bool(self._held.credentials)

    def shows_registry_token(self, header: str) -> bool:
        """Whether an Authorization header is the registry's own token that is held now."""
        held = self._held
        return held is not None and held.credentials.registry_token is not None and held.header == header

    def get(self) -> Held:
        """Return the credentials; they may be empty. Raises what their source raises."""
        held = self._held
        return held if held is not None and not self._renewable else self._hold(self._login.credentials())

    def renew(self, refused: Held) -> bool:
        """Return whether there are others now than those `refused`. Raises what their source raises.

        Many threads may find out together that a login has ended: one of them asks for another.
        """
        if not self._renewable:
            return False
        refused.renewal.do(lambda: self._others_than(refused), self._renew)
        return self._held is not refused

    def _others_than(self, refused: Held) -> Held | None:
        """Return what was taken since, which is `refused` itself where that was renewed a moment ago."""
        recently = time.monotonic() - self._renewed_at < RENEWAL_PAUSE
        return self._held if recently or self._held is not refused else None

    def _renew(self) -> Held:
        found = self._login.credentials(renew=True)
        self._renewed_at = time.monotonic()
        return self._hold(found)

    def _hold(self, found: Credentials) -> Held:
        held = self._held
        if held is not None and found == held.credentials:
            return held
        with self._lock:  # one for all, so that wrong ones are not shown twice
            if self._held is None or found != self._held.credentials:
                self._held = Held(found)
            return self._held
