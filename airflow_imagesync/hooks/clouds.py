"""Which cloud's connections log in to which registries, and credentials of clouds, renewed before they end.

Imports no provider: what a type of connection needs is imported once there is one.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow.sdk.log import mask_secret

from airflow_imagesync.connections import connection_problem
from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ImageSyncError
from airflow_imagesync.registry.once import Once

#: No credentials are taken to last less than this, in seconds, whatever this machine's clock says of their end.
MIN_LIFE = 60.0
#: They are renewed so many seconds before their end, or after four fifths of a short life.
RENEW_BEFORE = 300.0
_MAX_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Cloud:
    """A cloud whose connections log in to its own registries.

    ``registries`` matches their hosts, ``hosts`` shows them in messages; ``module`` is where in this package its
    credentials are made, and ``extra`` the one of this package that brings what the module imports.
    """

    name: str
    registries: re.Pattern[str]
    hosts: str
    module: str
    extra: str

    def has(self, registry: str) -> bool:
        """
        Whether a registry is one of this cloud.

        :param registry: its normalised host
        """
        return self.registries.fullmatch(registry.removesuffix(":443")) is not None


#: By type of connection.
CLOUDS = {
    "aws": Cloud(
        "Amazon",
        # Also the hosts for FIPS, and those that can be reached by IPv6.
        re.compile(
            r"[0-9]{12}\.dkr(\.ecr|-ecr)(-fips)?\.[a-z0-9-]+"
            r"\.(amazonaws\.com(\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn)"
            r"|(ecr-)?public\.ecr\.aws|ecr-public\.aws\.com"
        ),
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com or public.ecr.aws",
        "amazon",
        "amazon",
    ),
    "google_cloud_platform": Cloud(
        "Google",
        re.compile(r"[a-z0-9-]+\.pkg\.dev|([a-z]+\.)?gcr\.io"),
        "LOCATION-docker.pkg.dev or gcr.io",
        "google",
        "google",
    ),
    "azure": Cloud(
        "Azure",
        re.compile(r"[a-z0-9-]+\.azurecr\.(io|cn|us)"),
        "NAME.azurecr.io",
        "azure",
        "microsoft-azure",
    ),
    "alibaba_cloud": Cloud(
        "Alibaba Cloud",
        re.compile(r"[a-z0-9-]+-registry(-vpc)?\.[a-z0-9-]+\.cr\.aliyuncs\.com"),
        "INSTANCE-registry.REGION.cr.aliyuncs.com",
        "alibaba",
        "alibaba",
    ),
}


def cloud_source(
    conn_id: str, conn_type: str, registry: str, extra: Mapping[str, Any], entry: Login
) -> CredentialSource | None:
    """
    Return what gives credentials for a registry by a connection of its cloud; None for any other type of connection.

    The cloud is asked only when the credentials are needed.

    :param conn_id: the id of the connection
    :param conn_type: its type
    :param registry: the registry's normalised host
    :param extra: the extra fields of the connection
    :param entry: how the registry is reached
    :raises ConfigError: for a registry that is not of that cloud, since credentials go only where they belong; where
        the cloud's provider is not installed; for a connection that lacks something
    """
    cloud = CLOUDS.get(conn_type)
    if cloud is None:
        return None
    host = registry.removesuffix(":443")
    if cloud.registries.fullmatch(host) is None:
        message = (
            f"the connection {conn_id!r} has the type {conn_type!r} and logs in to registries of {cloud.name} only, "
            f"like {cloud.hosts}, not to {registry or 'a registry that is not named'}"
        )
        raise connection_problem(entry, message)
    if entry.insecure:
        raise connection_problem(entry, f"{registry} speaks HTTPS: take out insecure: true")
    try:
        module = importlib.import_module(f"airflow_imagesync.hooks.{cloud.module}")
    except ImportError as error:
        message = (
            f"the connection {conn_id!r} has the type {conn_type!r}, for which something is not installed ({error}); "
            f"pip install 'airflow-imagesync[{cloud.extra}]'"
        )
        raise connection_problem(entry, message) from error
    try:
        source: CredentialSource = module.source(conn_id, host, extra, entry)
    except ImageSyncError:
        raise
    except Exception as error:  # providers raise anything for what they don't understand
        raise connection_problem(entry, f"the connection {conn_id!r} can't be used: {first_line(error)}") from error
    return source


class Issued(NamedTuple):
    """What a cloud gave, and for how many seconds it is good."""

    credentials: Credentials
    seconds: float


class CloudCredentials:
    """Credentials of a cloud; a CredentialSource, safe to use from many threads."""

    def __init__(self, issuer: str, issue: Callable[[], Issued]) -> None:
        """
        Hold what a cloud issues.

        :param issuer: who issues them to whom, for messages
        :param issue: asks the cloud for credentials, and raises ImageSyncErrors; after one that is not temporary it is
            not asked again
        """
        self._issuer = issuer
        self._issue = issue
        self._once = Once()
        self._held: Credentials | None = None
        self._issued_at = self._renew_at = float("-inf")

    def get(self, *, renew: bool = False) -> Credentials:
        """
        Return credentials that are good for a while.

        :param renew: ask the cloud for new ones, unless that is done already for another thread
        :raises ImageSyncError: where there are none to be had
        """
        begun = time.monotonic()

        def held() -> Credentials | None:
            good = self._issued_at >= begun if renew else begun < self._renew_at
            return self._held if good else None

        return held() or self._once.do(held, self._renew)

    def _renew(self) -> Credentials:
        asked_at = time.monotonic()
        try:
            credentials, seconds = self._issue()
        except ImageSyncError:
            raise
        except Exception as error:  # what the cloud's library does not count among its own errors
            message = f"{self._issuer} gives no credentials: {type(error).__name__}: {first_line(error)}"
            raise ImageSyncError(message) from error
        for secret in (credentials.password, credentials.identity_token):
            if secret:
                mask_secret(secret)
        life = max(MIN_LIFE, seconds)
        self._held, self._renew_at = credentials, asked_at + life - min(RENEW_BEFORE, life / 5)
        self._issued_at = time.monotonic()
        return credentials


def first_line(text: object) -> str:
    """
    Return the beginning of a foreign error's text, fit for a message.

    :param text: the error or its text. The lines after the first are what was sent or tried in detail
    """
    lines = str(text).strip().splitlines() or [""]
    line = " ".join("".join(one if one.isprintable() else " " for one in lines[0]).split()).rstrip(".")
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."
