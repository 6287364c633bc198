"""Google's registries (Artifact Registry, Container Registry): logging in by a Google Cloud connection."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from google.auth.credentials import Credentials as GoogleCredentials
from google.auth.exceptions import GoogleAuthError, InvalidOperation, RefreshError
from google.auth.exceptions import TransportError as NoAnswer
from google.auth.transport.requests import Request

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ConfigError, ImageSyncError, ProtocolError, TransportError, Unauthorized
from airflow_imagesync.hooks.clouds import MIN_LIFE, CloudCredentials, Issued, first_line

#: The user that stands for an access token.
USER = "oauth2accesstoken"


def source(conn_id: str, registry: str, extra: Mapping[str, Any], entry: Login) -> CloudCredentials:  # noqa: ARG001
    """
    Return what gives credentials for a registry of Google; see clouds.cloud_source.

    :param conn_id: a connection of the type google_cloud_platform
    :param registry: the registry's host
    :param extra: its extra fields, which the provider reads itself
    :param entry: how the registry is reached
    """
    return AccessToken(GoogleBaseHook(gcp_conn_id=conn_id).get_credentials(), conn_id)


class AccessToken(CloudCredentials):
    """Logs in with an access token of a Google account, which lasts about an hour."""

    def __init__(self, credentials: GoogleCredentials, conn_id: str) -> None:
        """
        Prepare to ask; nothing is sent yet.

        :param credentials: those of the connection
        :param conn_id: its id, for messages
        """
        super().__init__(f"Google for the connection {conn_id!r}", self._issue_token)
        self._credentials = credentials
        self._conn_id = conn_id

    def _issue_token(self) -> Issued:
        credentials = self._credentials
        try:
            credentials.refresh(Request())
        except GoogleAuthError as error:
            raise self._error(error) from error
        if not credentials.token:
            raise ProtocolError(f"Google gave the connection {self._conn_id!r} no access token")
        # Google's library keeps times of UTC without saying so.
        expiry = credentials.expiry
        seconds = (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() if expiry else MIN_LIFE
        return Issued(Credentials(USER, credentials.token), seconds)

    def _error(self, error: GoogleAuthError) -> ImageSyncError:
        # What comes after the first argument is the whole answer.
        said = first_line(error.args[0] if error.args else error)
        asked = f"no access token from Google for the connection {self._conn_id!r}"
        if isinstance(error, NoAnswer):
            return TransportError(f"{asked}: no answer ({said}); check the network")
        if isinstance(error, InvalidOperation):
            return ConfigError(f"{asked}: {said}; give a key, or a service account to run as")
        if isinstance(error, RefreshError) and error.retryable:
            return TransportError(f"{asked}: {said}; try later")
        return Unauthorized(f"{asked}: {said}; check its key, and that the account is enabled")
