"""Azure's registries (ACR): logging in by an Azure connection."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from airflow.providers.microsoft.azure.hooks.base_azure import AzureBaseHook
from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    ServiceRequestError,
    ServiceResponseError,
)

from airflow_imagesync.connections import connection_problem
from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ImageSyncError, TransportError, Unauthorized
from airflow_imagesync.hooks.clouds import CloudCredentials, Issued, first_line
from airflow_imagesync.registry.azure_exchange import REFRESH_TOKEN_LIFE, exchange

#: What a token of Microsoft's identity platform must be for. Every registry takes it, those of the national clouds
#: too; one for Azure's management can be forbidden.
SCOPE = "https://containerregistry.azure.net/.default"


def source(conn_id: str, registry: str, extra: Mapping[str, Any], entry: Login) -> CloudCredentials:
    """
    Return what gives credentials for a registry of Azure; see clouds.cloud_source.

    :param conn_id: a connection of the type azure: a service principal, or the identity that the worker has
    :param registry: the registry's host
    :param extra: its extra fields
    :param entry: how the registry is reached
    :raises ConfigError: for a connection that is not understood
    """
    for name in ("key_path", "key_json"):
        if extra.get(name):
            message = (
                f"the connection {conn_id!r} has a {name}, which is not read here; give the service principal's id as "
                "login, its secret as password and tenantId in extra"
            )
            raise connection_problem(entry, message)
    tenant = extra.get("tenantId") or None
    hook = AzureBaseHook(conn_id=conn_id)
    connection = copy.copy(hook.get_connection(conn_id))
    if bool(connection.login) != bool(connection.password) or (connection.password and not tenant):
        # The provider would take the worker's own identity instead, and say nothing.
        message = (
            f"the connection {conn_id!r} is incomplete: give login, password and tenantId in extra, or none of them"
        )
        raise connection_problem(entry, message)
    # Else the provider gives credentials of its older libraries, which can't ask for this kind of token.
    connection.extra = json.dumps({**extra, "use_azure_identity_object": True})
    credential = hook.get_credential(conn=connection)
    return AcrLogin(credential, f"https://{registry}", conn_id, entry, tenant if connection.password else None)


class AcrLogin(CloudCredentials):
    """Logs in with a refresh token of the registry, for which an identity's token is exchanged."""

    def __init__(
        self, credential: TokenCredential, registry_url: str, conn_id: str, entry: Login, tenant: str | None = None
    ) -> None:
        """
        Prepare to ask; nothing is sent yet.

        :param credential: the identity
        :param registry_url: the registry's base address
        :param conn_id: the connection's id, for messages
        :param entry: how the registry is reached
        :param tenant: the identity's tenant, if it is known
        """
        super().__init__(f"Azure for the connection {conn_id!r}", self._issue_login)
        self._credential = credential
        self._registry_url = registry_url
        self._conn_id = conn_id
        self._entry = entry
        self._tenant = tenant

    def _issue_login(self) -> Issued:
        try:
            token = self._credential.get_token(SCOPE).token
        except AzureError as error:
            raise self._error(error) from error
        refresh_token = exchange(self._registry_url, self._entry, token, self._tenant)
        return Issued(Credentials(identity_token=refresh_token), REFRESH_TOKEN_LIFE)

    def _error(self, error: AzureError) -> ImageSyncError:
        asked = f"no token from Azure for the connection {self._conn_id!r}"
        cause = error.__cause__ if isinstance(error.__cause__, AzureError) else error
        if isinstance(cause, ServiceRequestError | ServiceResponseError):
            return TransportError(f"{asked}: no answer ({first_line(cause)}); check the network")
        said = first_line(error.message)
        status = getattr(error, "status_code", None) or 0
        if not isinstance(error, ClientAuthenticationError) and status >= 500:
            return TransportError(f"{asked}: {said}; try later")
        return Unauthorized(f"{asked}: {said}; check its login, password and tenantId, or the identity of the worker")
