"""How a registry is reached (credentials, TLS, limits), and which entry of a configuration applies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.domain.reference import Repository

#: What an entry takes from a shorter key that covers it, where it does not say otherwise itself. Credentials
#: are not among them: what a registry is reached by is a fact about the registry, who goes there is a choice.
SETTINGS = (
    "insecure",
    "tls_verify",
    "ca_file",
    "client_cert",
    "client_key",
    "proxy",
    "max_concurrent",
    "requests_per_second",
    "min_remaining",
    "token_realm_hosts",
    "allow_cross_host_upload",
    "create_repositories",
)
#: The proxy setting that stands for the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
PROXY_OF_ENVIRONMENT = "environment"
PROXY_EXPECTED = f"http://host:port, https://host:port or {PROXY_OF_ENVIRONMENT}"


@dataclass(frozen=True, slots=True)
class Login:
    """What is known about a registry, or about a namespace of it.

    ``key`` is the entry's name as the user wrote it; None for a registry that no entry describes, which is
    used anonymously, with HTTPS and certificate verification. ``registry`` and ``namespace`` are the key,
    normalised; an empty namespace covers the whole registry. ``conn_id`` names an Airflow connection whose
    values fill what is not set here. ``source`` gives credentials that do not last, instead of those here;
    ``docker_config`` says whether they are looked up in Docker's configuration, None for what the whole configuration
    says.

    The rest is how the registry is reached. ``insecure`` means plain HTTP. ``client_cert`` and ``client_key`` are
    paths of PEM files. ``proxy`` is a URL, or PROXY_OF_ENVIRONMENT. ``max_concurrent`` is the number of
    requests that may be in flight to this registry at once; None for the usual limit. ``requests_per_second`` bounds
    how many are begun, None for no bound. No manifest is fetched while the registry says that at most
    ``min_remaining`` pulls are left. ``token_realm_hosts`` are
    hosts of token services that may see the credentials although they belong to another domain than the
    registry. ``allow_cross_host_upload`` lets a registry name another host to send blobs to.
    ``create_repositories`` has missing ones created where a cloud's API can. ``stated`` are the names of those
    settings that the entry itself says.
    """

    key: str | None = None
    registry: str = ""
    namespace: str = ""
    conn_id: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)
    source: CredentialSource | None = field(default=None, repr=False, compare=False)
    docker_config: bool | None = None
    insecure: bool = False
    tls_verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    max_concurrent: int | None = None
    requests_per_second: float | None = None
    min_remaining: int = 0
    token_realm_hosts: tuple[str, ...] = ()
    allow_cross_host_upload: bool = False
    create_repositories: bool = False
    stated: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @property
    def has_credentials(self) -> bool:
        """Whether there is anything to log in with."""
        return self.source is not None or bool(self.credentials())

    def credentials(self, *, renew: bool = False) -> Credentials:
        """Return what to log in with; with `renew`, something new if that is to be had. Raises as the source does."""
        if self.source is not None:
            return self.source.get(renew=renew)
        return Credentials(self.username, self.password, self.identity_token)

    def covers(self, repository: Repository) -> bool:
        """Whether this entry applies to `repository`: whole parts of the path are compared."""
        if self.registry != repository.registry:
            return False
        return not self.namespace or f"{repository.path}/".startswith(f"{self.namespace}/")


def is_proxy_url(text: str) -> bool:
    """Whether `text` is the address of an HTTP proxy: scheme, host, and perhaps user, password and port."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
        )
    except ValueError:
        return False


def is_proxy_setting(text: str) -> bool:
    """Whether `text` is what PROXY_EXPECTED says."""
    return text == PROXY_OF_ENVIRONMENT or is_proxy_url(text)


def with_client_key(names: Iterable[str]) -> set[str]:
    """Return names of settings that are said, with the key of a certificate among them: no other key would fit it."""
    own = set(names)
    return own | {"client_key"} if "client_cert" in own else own


@dataclass(frozen=True, slots=True)
class DockerLogins:
    """Docker's configuration as a place of credentials.

    ``everywhere`` has it used for each registry that has no credentials otherwise and does not say no. ``path`` is the
    file, or a folder with a config.json; None for where Docker looks. ``helpers`` allows to run the credential
    helpers that it names. ``seen``, where given, is told of all credentials that were found, to keep them out of logs.
    """

    everywhere: bool = False
    path: str | None = None
    helpers: bool = False
    seen: Callable[[Credentials], None] | None = field(default=None, repr=False, compare=False)


def login_for(logins: Iterable[Login], repository: Repository) -> Login | None:
    """Return the entry with the longest key that applies to `repository`, or None."""
    matches = [login for login in logins if login.covers(repository)]
    return max(matches, key=lambda login: len(login.namespace), default=None)
