"""Alibaba Cloud's registries (Container Registry, Enterprise Edition): logging in by an Alibaba Cloud connection.

Airflow's provider for Alibaba Cloud defines the type of connection, but has nothing for registries: the SDK is used
by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from alibabacloud_cr20181201.client import Client
from alibabacloud_cr20181201.models import GetAuthorizationTokenRequest
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.runtime import RuntimeOptions
from Tea.exceptions import TeaException, UnretryableException

from airflow_imagesync.connections import connection_problem
from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import (
    Denied,
    ImageSyncError,
    ProtocolError,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
)
from airflow_imagesync.hooks.clouds import CloudCredentials, Issued, first_line

_HOST = re.compile(r"[a-z0-9-]+?-registry(?P<vpc>-vpc)?\.(?P<region>[a-z0-9-]+)\.cr\.aliyuncs\.com")
#: In milliseconds, as the SDK counts.
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10_000, 60_000
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature", "InvalidSecurityToken")


def source(conn_id: str, registry: str, extra: Mapping[str, Any], entry: Login) -> CloudCredentials:
    """
    Return what gives credentials for a registry of Alibaba Cloud; see clouds.cloud_source.

    :param conn_id: a connection of the type alibaba_cloud
    :param registry: the registry's host
    :param extra: its extra fields: ``access_key_id``, ``access_key_secret``, perhaps ``security_token``; the
        registry's ``instance_id``; perhaps ``region`` and ``endpoint`` of its API
    :param entry: how the registry is reached
    :raises ConfigError: for fields that are missing
    """
    names = ("access_key_id", "access_key_secret", "instance_id")
    missing = [name for name in names if not (isinstance(extra.get(name), str) and extra[name].strip())]
    host = _HOST.fullmatch(registry)
    if missing or host is None:
        raise connection_problem(entry, f"the connection {conn_id!r} lacks {', '.join(missing)} in its extra")
    region = extra.get("region") or host["region"]
    config = Config(
        access_key_id=extra["access_key_id"],
        access_key_secret=extra["access_key_secret"],
        security_token=extra.get("security_token") or None,
        region_id=region,
        # Whoever reaches the registry by its name in a VPC may reach nothing else.
        endpoint=extra.get("endpoint") or f"cr{host['vpc'] or ''}.{region}.aliyuncs.com",
    )
    return TemporaryToken(config, extra["instance_id"].strip(), conn_id)


class TemporaryToken(CloudCredentials):
    """Logs in with a temporary user and password of an instance of the Enterprise Edition."""

    def __init__(self, config: Config, instance_id: str, conn_id: str) -> None:
        """
        Prepare to ask; nothing is sent yet.

        :param config: the SDK's: keys, region and endpoint
        :param instance_id: which instance the registry is, like ``cri-...``
        :param conn_id: the connection's id, for messages
        """
        super().__init__(f"Alibaba Cloud for the connection {conn_id!r}", self._issue_token)
        self._client = Client(config)
        self._instance_id = instance_id
        self._conn_id = conn_id

    def _issue_token(self) -> Issued:
        request = GetAuthorizationTokenRequest(instance_id=self._instance_id)
        options = RuntimeOptions(connect_timeout=_CONNECT_TIMEOUT, read_timeout=_READ_TIMEOUT)
        try:
            answer = self._client.get_authorization_token_with_options(request, options).body
        except (TeaException, UnretryableException) as error:
            raise self._error(error) from error
        if not (answer.authorization_token and answer.temp_username):
            raise ProtocolError(f"{self._asked} was answered without a token (code {answer.code!r})")
        seconds = answer.expire_time / 1000 - time.time() if answer.expire_time else 0.0
        return Issued(Credentials(answer.temp_username, answer.authorization_token), seconds)

    @property
    def _asked(self) -> str:
        return f"cr:GetAuthorizationToken for {self._instance_id} by the connection {self._conn_id!r}"

    def _error(self, error: TeaException | UnretryableException) -> ImageSyncError:
        status = getattr(error, "status_code", None)
        if status is None:
            inner = getattr(error, "inner_exception", None) or error
            return TransportError(f"{self._asked}: no answer ({type(inner).__name__}); check the network")
        code = str(getattr(error, "code", "") or "Unknown")
        said = f"{self._asked} was refused: {code}"
        # A refused signature comes with what was signed, the security token too.
        if "Signature" not in code:
            said += f": {first_line(getattr(error, 'message', ''))}"
        if status == 429 or code.startswith("Throttling"):
            return RateLimited(f"{said}; try later", status=status, codes=(code,))
        if status == 403 or "Forbidden" in code or "NoPermission" in code:
            return Denied(f"{said}; allow cr:GetAuthorizationToken to its user", status=status, codes=(code,))
        if code.startswith(_REFUSED):
            return Unauthorized(f"{said}; check its access key", status=status, codes=(code,))
        return RegistryError(said, status=status, codes=(code,), temporary=status >= 500)
