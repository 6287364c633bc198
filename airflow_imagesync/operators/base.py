"""What the operators share: arguments that say what to sync, and turning them into a configuration inside a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator
from pydantic import TypeAdapter, ValidationError

from airflow_imagesync.config import Overrides, load_config, parse_config
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.errors import ConfigError
from airflow_imagesync.hooks.registry import RegistryHook, mask_login

_BOOL = TypeAdapter(bool)
_COUNT = TypeAdapter(int | None)


class ConfiguredOperator(BaseOperator):
    """
    An operator that works from a configuration: a file, a pair of files, or a text.

    Files, environment variables and connections are read when the task runs, never when the DAG is parsed.

    :param config: path of a configuration file (templated)
    :param auth: path of image-syncer's auth file, with `images` (templated)
    :param images: path of image-syncer's images file (templated)
    :param rules: rules as YAML or JSON text, instead of files (templated); it may name connections but
        must not hold credentials, because task arguments are stored in plain text
    :param source_conn_id: connection for the source repositories in its registry (templated)
    :param destination_conn_id: connection for the destination repositories in its registry (templated)
    :param platforms: ``os/arch[/variant]`` to copy, a list or a text with commas; empty for what the
        configuration says (templated)
    :param force: copy what is the same, too (templated)
    :param concurrency: transfers at once in this task; None for what the configuration says (templated)
    :param request_retries: how often a request that failed temporarily is tried again within the task; None
        for what the configuration says
    """

    template_fields: Sequence[str] = (
        "config",
        "auth",
        "images",
        "rules",
        "source_conn_id",
        "destination_conn_id",
        "platforms",
        "force",
        "concurrency",
    )

    def __init__(
        self,
        *,
        config: str | Path | None = None,
        auth: str | Path | None = None,
        images: str | Path | None = None,
        rules: str | None = None,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        platforms: str | Sequence[str] | None = None,
        force: bool | str = False,
        concurrency: int | str | None = None,
        request_retries: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = _text(config)
        self.auth = _text(auth)
        self.images = _text(images)
        self.rules = rules
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.platforms = platforms
        self.force = force
        self.concurrency = concurrency
        self.request_retries = request_retries
        self._engine: SyncEngine | None = None

    def on_kill(self) -> None:
        """Stop within seconds; no tag of an unfinished image is written."""
        if self._engine is not None:
            self._engine.cancel()

    def overrides(self) -> Overrides:
        """Return what the arguments say on top of the configuration. Raises ConfigError."""
        platforms = self.platforms.split(",") if isinstance(self.platforms, str) else self.platforms or ()
        return Overrides(
            platforms=tuple(Platform.parse(one) for one in platforms if one.strip()),
            force=as_bool(self.force, "force"),
            concurrency=_count(self.concurrency, "concurrency"),
            retries=self.request_retries,
        )

    def read_config(self) -> SyncConfig:
        """Return the configuration with everything looked up but the connections of the two sides. Raises ConfigError."""
        overrides = self.overrides()
        if self.rules is not None:
            config = parse_config(self.rules, name="rules", overrides=overrides)
            for login in config.logins:
                if login.has_credentials:
                    raise ConfigError(
                        f"rules: the entry {login.key} holds credentials, which would be stored in plain text with the "
                        "run; name an Airflow connection there with conn_id"
                    )
        elif self.config is not None or self.images is not None:
            config = load_config(self.config, auth=self.auth, images=self.images, overrides=overrides)
        else:
            config = parse_config(self.own_rules(), name=self.task_id, overrides=overrides)
        for login in config.logins:
            mask_login(login)
        return config.with_connections(lambda entry: RegistryHook(entry.conn_id or "").login(entry))

    def own_rules(self) -> str:
        """Return rules that the operator's own arguments make, as text; raise ConfigError where there are none."""
        raise ConfigError(f"{self.task_id}: nothing says what to sync; give config, images or rules")

    def with_sides(
        self, config: SyncConfig, sources: Iterable[Repository], destinations: Iterable[Repository]
    ) -> SyncConfig:
        """Return `config` with the connections of the two sides as logins for these repositories. Raises ConfigError."""
        logins = [
            *connection_logins(self.destination_conn_id, destinations, "destination"),
            *connection_logins(self.source_conn_id, sources, "source"),
        ]
        # First, so that they win over an entry of the configuration for the same repository.
        return replace(config, logins=(*logins, *config.logins)) if logins else config


def connection_logins(conn_id: str | None, repositories: Iterable[Repository], side: str) -> list[Login]:
    """
    Return a connection as the logins for those of `repositories` that are in its registry.

    :param conn_id: id of the connection; nothing without one
    :param repositories: the repositories of one side
    :param side: which side, for the message
    :raises ConfigError: when there is no such connection, or no repository is in its registry
    """
    if not conn_id:
        return []
    login = RegistryHook(conn_id).login()
    all_of_them = set(repositories)
    ours = sorted(one for one in all_of_them if login.registry in ("", one.registry))
    if all_of_them and not ours:
        registries = ", ".join(sorted({one.registry for one in all_of_them}))
        raise ConfigError(
            f"the {side} connection {conn_id!r} is for {login.registry}, but the {side}s are at {registries}; "
            "choose the connection for that registry"
        )
    return [replace(login, key=conn_id, registry=one.registry, namespace=one.path) for one in ours]


def as_bool(value: bool | str, name: str) -> bool:
    """Return a flag that a template may have turned into text. Raises ConfigError."""
    try:
        return _BOOL.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name}: {value!r} is neither true nor false") from error


def _count(value: int | str | None, name: str) -> int | None:
    try:
        return _COUNT.validate_python(None if value in ("", "None") else value)
    except ValidationError as error:
        raise ConfigError(f"{name}: {value!r} is not a number") from error


def _text(path: str | Path | None) -> str | None:
    return str(path) if path is not None else None
