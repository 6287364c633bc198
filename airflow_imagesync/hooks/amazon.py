"""Amazon's registries (ECR): logging in by an AWS connection, and creating repositories."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.hooks.ecr import EcrHook
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import (
    ConfigError,
    Denied,
    ImageSyncError,
    ProtocolError,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
)
from airflow_imagesync.hooks.clouds import CloudCredentials, Issued, first_line

_PRIVATE = re.compile(r"(?P<account>[0-9]+)\.dkr(\.ecr|-ecr)(-fips)?\.(?P<region>[a-z0-9-]+)\.")
#: Where the public gallery's API is, whatever the region of the caller.
_PUBLIC_REGION = "us-east-1"
#: Beginnings of error codes.
_DENIED = ("AccessDenied", "UnauthorizedOperation", "NotAuthorized", "OptInRequired")
_REFUSED = (
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "ExpiredToken",
)
_THROTTLED = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "RequestThrottled")


def source(conn_id: str, registry: str, extra: Mapping[str, Any], entry: Login) -> CloudCredentials:  # noqa: ARG001
    """
    Return what gives credentials for a registry of Amazon; see clouds.cloud_source.

    :param conn_id: a connection of the type aws
    :param registry: the registry's host
    :param extra: its extra fields, which the provider reads itself
    :param entry: how the registry is reached
    """
    private = _PRIVATE.match(registry)
    if private is None:
        return PublicEcr(AwsBaseHook(aws_conn_id=conn_id, client_type="ecr-public", region_name=_PUBLIC_REGION))
    return PrivateEcr(EcrHook(aws_conn_id=conn_id, region_name=private["region"]), private["account"])


class PrivateEcr(CloudCredentials):
    """Logs in to the private registry of an account in a region, and creates repositories in it."""

    def __init__(self, hook: EcrHook, account: str) -> None:
        """
        Prepare to ask; nothing is sent yet.

        :param hook: a hook for the registry's region
        :param account: whose registry it is; another account may have given rights to the connection's
        """
        super().__init__(f"Amazon ECR for the connection {hook.aws_conn_id!r}", self._issue_login)
        self._hook = hook
        self._account = account
        # Made here because Airflow and boto3 want connections and sessions to be made on one thread.
        self._client = hook.conn

    def _issue_login(self) -> Issued:
        try:
            logins = self._hook.get_temporary_credentials()
        except (ClientError, BotoCoreError) as error:
            raise _error(self._hook, "ecr:GetAuthorizationToken", error) from error
        if not logins:
            raise ProtocolError(f"{_place(self._hook)} answered GetAuthorizationToken without a token")
        login = logins[0]
        return Issued(Credentials(login.username, login.password), _seconds_until(login.expires_at))

    def create_repository(self, path: str) -> None:
        """
        Create a repository with the account's defaults, if it is not there yet.

        :param path: its name
        :raises ImageSyncError: what ECR answers
        """
        try:
            self._client.create_repository(registryId=self._account, repositoryName=path)
        except self._client.exceptions.RepositoryAlreadyExistsException:
            return
        except (ClientError, BotoCoreError) as error:
            raise _error(self._hook, "ecr:CreateRepository", error, f" of {path}") from error


class PublicEcr(CloudCredentials):
    """Logs in to the public gallery; what is pushed there is open to everybody, so nothing is created."""

    def __init__(self, hook: AwsBaseHook[Any]) -> None:
        """
        Prepare to ask; nothing is sent yet.

        :param hook: a hook for ``ecr-public``
        """
        super().__init__(f"Amazon ECR for the connection {hook.aws_conn_id!r}", self._issue_login)
        self._hook = hook
        self._client = hook.conn

    def _issue_login(self) -> Issued:
        try:
            answer = self._client.get_authorization_token()["authorizationData"]
        except (ClientError, BotoCoreError) as error:
            raise _error(self._hook, "ecr-public:GetAuthorizationToken", error) from error
        username, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
        return Issued(Credentials(username, password), _seconds_until(answer["expiresAt"]))


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def _place(hook: AwsBaseHook[Any]) -> str:
    return f"Amazon ECR in {hook.conn.meta.region_name}"


def _error(hook: AwsBaseHook[Any], action: str, error: ClientError | BotoCoreError, what: str = "") -> ImageSyncError:
    """Return the error for an `action` that failed, and what to do about it."""
    asked = f"{action}{what} at {_place(hook)} by the connection {hook.aws_conn_id!r}"
    if not isinstance(error, ClientError):
        if isinstance(error, NotConnected | HTTPClientError):
            return TransportError(f"{asked}: no answer ({first_line(error)}); check the network and endpoint_url")
        return ConfigError(f"{asked}: {first_line(error)}; check the connection's keys, role and profile")
    code = str(error.response.get("Error", {}).get("Code") or "Unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{asked} was refused: {code}"
    # What follows the first line of a refused signature is what was signed, a session token perhaps.
    text = first_line(error.response.get("Error", {}).get("Message") or "")
    said += f": {text}" if text else ""
    if code.startswith(_DENIED):
        return Denied(f"{said}; allow {action} to it", status=status, codes=(code,))
    if code.startswith(_REFUSED):
        return Unauthorized(f"{said}; check the connection's keys, role and session", status=status, codes=(code,))
    if code.startswith(_THROTTLED):
        return RateLimited(f"{said}; try later", status=status, codes=(code,))
    return RegistryError(said, status=status, codes=(code,), temporary=status >= 500)
