"""How a registry is reached (credentials, TLS, limits), and which entry of a configuration applies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_imagesync.domain.reference import Repository


@dataclass(frozen=True, slots=True)
class Login:
    """What is known about a registry, or about a namespace of it.

    ``key`` is the entry's name as the user wrote it; None for a registry that no entry describes, which is
    used anonymously, with HTTPS and certificate verification. ``registry`` and ``namespace`` are the key,
    normalised; an empty namespace covers the whole registry. ``conn_id`` names an Airflow connection whose
    values fill what is not set here. ``insecure`` means plain HTTP. ``max_concurrent`` is the number of
    requests that may be in flight to this registry at once; None for no limit. ``token_realm_hosts`` are
    hosts of token services that may see the credentials although they belong to another domain than the
    registry.
    """

    key: str | None = None
    registry: str = ""
    namespace: str = ""
    conn_id: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)
    insecure: bool = False
    tls_verify: bool = True
    ca_file: str | None = None
    max_concurrent: int | None = None
    token_realm_hosts: tuple[str, ...] = ()

    @property
    def has_credentials(self) -> bool:
        """Whether there is anything to log in with."""
        return bool(self.username or self.password or self.identity_token)

    def covers(self, repository: Repository) -> bool:
        """Whether this entry applies to `repository`: whole parts of the path are compared."""
        if self.registry != repository.registry:
            return False
        return not self.namespace or f"{repository.path}/".startswith(f"{self.namespace}/")


def login_for(logins: Iterable[Login], repository: Repository) -> Login | None:
    """Return the entry with the longest key that applies to `repository`, or None."""
    matches = [login for login in logins if login.covers(repository)]
    return max(matches, key=lambda login: len(login.namespace), default=None)
