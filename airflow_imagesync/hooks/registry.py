"""The hook for a container registry: an Airflow connection as a registry client."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from urllib.parse import unquote, urlsplit

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from airflow_imagesync.connections import connection_problem, login_from_connection
from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ConfigError, ImageSyncError
from airflow_imagesync.hooks.clouds import CLOUDS, Cloud, cloud_source
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import RetryPolicy


class RegistryHook(BaseHook):
    """
    Gives a client for the registry that an ``oci_registry`` connection describes.

    :param registry_conn_id: the id of the connection
    """

    conn_name_attr = "registry_conn_id"
    default_conn_name = "oci_registry_default"
    conn_type = "oci_registry"
    hook_name = "Container registry (OCI)"

    def __init__(self, registry_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.registry_conn_id = registry_conn_id
        self._client: RegistryClient | None = None

    def login(self, entry: Login | None = None) -> Login:
        """
        Return how the registry is reached; the credentials in it are masked in task logs.

        :param entry: a configured login to fill in from the connection; what it sets itself wins
        :raises ConfigError: when there is no such connection, or it is not for the registry of `entry`
        """
        entry = entry or Login(conn_id=self.registry_conn_id)
        connection = self._connection_for(entry)
        extra = connection.extra_dejson
        if not isinstance(extra, dict):
            message = f"the connection {self.registry_conn_id!r}: its extra is no JSON object"
            raise connection_problem(entry, message)
        conn_type = connection.conn_type or self.conn_type
        if entry.registry and conn_type != self.conn_type:
            source = cloud_source(self.registry_conn_id, conn_type, entry.registry, extra, entry)
            if source is not None:
                # Login and password of the connection are those of the cloud's account, and its host is another one.
                return replace(entry, conn_id=None, source=source)
        if not connection.host and conn_type != self.conn_type:
            # What is in it would go to whatever registry a rule names.
            message = (
                f"the connection {self.registry_conn_id!r} has the type {conn_type!r} and no host; "
                f"expected the type {self.conn_type!r}, or the registry as its host"
            )
            raise connection_problem(entry, message)
        login = login_from_connection(
            entry,
            conn_id=self.registry_conn_id,
            host=connection.host,
            port=connection.port,
            login=connection.login,
            password=connection.password,
            extra=extra,
        )
        mask_login(login)
        return login

    def cloud(self) -> Cloud | None:
        """
        Return the cloud that the connection is for; None where it is for one registry.

        :raises ConfigError: when there is no such connection
        """
        return CLOUDS.get(self._connection_for(Login()).conn_type or "")

    def _connection_for(self, entry: Login) -> Connection:
        try:
            return self._connection
        except AirflowNotFoundException as error:
            message = f"there is no connection {self.registry_conn_id!r}; create it under Admin, Connections"
            raise connection_problem(entry, message) from error
        except PermissionError as error:  # a secrets backend that refuses this task
            message = f"the connection {self.registry_conn_id!r} can't be used: {error}"
            raise connection_problem(entry, message) from error

    @cached_property
    def _connection(self) -> Connection:
        return self.get_connection(self.registry_conn_id)

    def _login_with_registry(self) -> Login:
        login = self.login()
        if not login.registry:
            raise ConfigError(
                f"the connection {self.registry_conn_id!r} names no registry; give its host, like registry.example.com"
            )
        return login

    def get_conn(self) -> RegistryClient:
        """
        Return the client for the connection's registry, the same one at each call.

        :raises ConfigError: when the connection is missing, incomplete or wrong
        """
        if self._client is None:
            login = self._login_with_registry()
            self._client = RegistryClient(login.registry, login)
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the registry answers and takes the login, and a sentence that says so."""
        try:
            login = self._login_with_registry()
            # Somebody is waiting for the answer.
            client = RegistryClient(
                login.registry, login, retry=RetryPolicy(retries=0), timeouts=Timeouts(connect=5, read=10)
            )
            try:
                client.ping()
            finally:
                client.close()
        except ImageSyncError as error:
            return False, str(error)
        # Not "knows": a registry that asks for no login never sees it.
        who = login.username or ("the holder of the token" if login.has_credentials else "anybody")
        return True, f"{client.url} is a registry and accepts requests of {who}"


def mask_login(login: Login) -> None:
    """Have Airflow blot out the secrets of `login` in the logs of this task; sources that it has mask by themselves."""
    mask_credentials(Credentials(login.username, login.password, login.identity_token))
    if login.proxy:
        mask_url_password(login.proxy)


def mask_credentials(credentials: Credentials) -> None:
    """Have Airflow blot out the secrets among `credentials` in the logs of this task."""
    for secret in (credentials.password, credentials.identity_token, credentials.registry_token):
        if secret:
            mask_secret(secret)


def mask_url_password(url: str) -> None:
    """Have Airflow blot out the password in `url`, as it stands there and as it is meant."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    for secret in {password, unquote(password or "")}:
        if secret:
            mask_secret(secret)
