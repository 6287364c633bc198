"""What is shown to a registry to log in, and where it comes from when it does not last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Credentials:
    """A username and password, or one of two kinds of token.

    ``identity_token`` is a refresh token for the registry's token service; ``registry_token`` a bearer token that is
    sent to the registry as it is.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)
    registry_token: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)


class CredentialSource(Protocol):
    """Gives credentials that end after some time: those of clouds, and of credential helpers."""

    def get(self, *, renew: bool = False) -> Credentials:
        """Return credentials that are good for a while; with `renew`, new ones, since a registry refused these.

        Safe to call from many threads. Raises ImageSyncError where there are none to be had.
        """
        ...


@runtime_checkable
class RepositoryCreator(Protocol):
    """A source of credentials that can also create repositories at its registry."""

    def create_repository(self, path: str) -> None:
        """Create the repository `path`; one that exists is left as it is. Raises ImageSyncError."""
        ...
