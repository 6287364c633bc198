"""Rules given as text with a run: what they must not say, since anybody who may start a run may have written them."""

from __future__ import annotations

import os
from dataclasses import replace

from airflow_imagesync.config import Overrides, read_text
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.errors import ConfigError

#: What of the environment counts for rules given as text.
_OPEN_VARIABLES = ("DEFAULT_REGISTRY", "DEFAULT_NAMESPACE")
#: What such rules must leave to connections: settings that use what the worker has, and those that say who may see a
#: connection's credentials and how safe their way is.
_OF_CONNECTIONS = (
    "ca_file",
    "client_cert",
    "client_key",
    "proxy",
    "token_realm_hosts",
    "allow_cross_host_upload",
)
HOW_SAFE = ("insecure", "tls_verify")


def parse_open_rules(text: str, name: str, overrides: Overrides) -> SyncConfig:
    """
    Return the configuration in a text that a run was given.

    What the worker's environment holds is not for its author to send anywhere, and what they write is stored in plain
    text.

    An empty list or mapping means that there is nothing to do: so says a task before this one.

    :param text: YAML, JSON or one ``source destination`` a line, see parse_config
    :param name: what problems call it
    :param overrides: what is said on top of it
    :raises ConfigError: for every mistake in it, and for what it must not say
    """
    environ = {key: os.environ[key] for key in _OPEN_VARIABLES if key in os.environ}
    result = read_text(text, name=name, overrides=overrides, environ=environ, may_be_empty=True)
    _check(result.config, name)  # before the mistakes, which say what files there are
    try:
        return result.checked()
    except ConfigError as error:
        hint = "; rules given as text don't see the worker's environment"
        raise ConfigError(
            [
                replace(one, message=one.message + hint) if one.message.endswith("not set") else one
                for one in error.problems
            ]
        ) from None


def _check(config: SyncConfig, name: str) -> None:
    """Raise ConfigError for what rules must not say that anybody may have written."""
    if config.docker.everywhere or config.docker.helpers:
        raise ConfigError(
            f"{name}: defaults has docker_config or credential_helpers, which rules given as text must not have, as "
            "those logins are the worker's; name an Airflow connection with conn_id"
        )
    for login in config.logins:
        if login.has_credentials:
            raise ConfigError(
                f"{name}: the entry {login.key} holds credentials, which would be stored in plain text with the run; "
                "name an Airflow connection there with conn_id"
            )
        if login.docker_config:
            raise ConfigError(
                f"{name}: the entry {login.key} has docker_config, which rules given as text must not have, as those "
                "logins are the worker's; name an Airflow connection there with conn_id"
            )
        for setting in (*_OF_CONNECTIONS, *(HOW_SAFE if login.conn_id else ())):
            if setting in login.stated:
                raise ConfigError(
                    f"{name}: the entry {login.key} has {setting}, which rules given as text must not have"
                    f"{' beside conn_id' if setting in HOW_SAFE else ''}; set it in the connection"
                )
