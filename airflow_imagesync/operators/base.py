"""What the operators share: arguments that say what to sync, and turning them into a configuration inside a task."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from pydantic import TypeAdapter, ValidationError

from airflow_imagesync.config import Overrides, load_config, parse_config
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.errors import ConfigError, InvalidReference
from airflow_imagesync.hooks.registry import RegistryHook, mask_login

_BOOL = TypeAdapter(bool)
_COUNT = TypeAdapter(int)
#: What of the environment counts for rules given as text.
_OPEN_VARIABLES = ("DEFAULT_REGISTRY", "DEFAULT_NAMESPACE")
_LOGGED_LINES = 2000


class ConfiguredOperator(BaseOperator):
    """
    An operator that works from a configuration: a file, a pair of files, or a text.

    Files, environment variables and connections are read when the task runs, never when the DAG is parsed. A template
    that comes out empty, or as None, counts as an argument that was not given.

    :param config: path of a configuration file (templated)
    :param auth: path of image-syncer's auth file, with `images` (templated)
    :param images: path of image-syncer's images file (templated)
    :param rules: rules as YAML or JSON text, instead of files (templated). It may name connections. It must not hold
        credentials, because task arguments are stored in plain text, nor environment variables, because those of
        the workers are not for everybody who may start a run
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
        config: str | PurePath | None = None,
        auth: str | PurePath | None = None,
        images: str | PurePath | None = None,
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
        self.config = plain_path(config)
        self.auth = plain_path(auth)
        self.images = plain_path(images)
        self.rules = rules
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.platforms = platforms
        self.force = force
        self.concurrency = concurrency
        self.request_retries = request_retries
        self._engine: SyncEngine | None = None
        self._killed = False

    def on_kill(self) -> None:
        """Stop within seconds; no tag of an unfinished image is written."""
        self._killed = True
        if self._engine is not None:
            self._engine.cancel()

    @contextmanager
    def engine(self, config: SyncConfig) -> Iterator[SyncEngine]:
        """
        Give an engine that `on_kill` stops.

        :param config: the configuration, its connections looked up
        """
        with SyncEngine(config) as engine:
            self._engine = engine
            if self._killed:  # before there was an engine to tell
                engine.cancel()
            yield engine

    def overrides(self) -> Overrides:
        """Return what the arguments say on top of the configuration. Raises ConfigError, InvalidReference."""
        return Overrides(
            platforms=tuple(Platform.parse(one) for one in _names(self.platforms)),
            force=as_bool(self.force, "force"),
            concurrency=_as_count(self.concurrency, "concurrency"),
            retries=self.request_retries,
        )

    def read_config(self) -> SyncConfig:
        """
        Return the configuration, without its connections looked up.

        :raises ConfigError: for every mistake in it, and for what can't be looked up
        :raises InvalidReference: for a platform that is none
        """
        overrides = self.overrides()
        config, auth, images, rules = (said(one) for one in (self.config, self.auth, self.images, self.rules))
        if rules is not None and (config or auth or images):
            raise ConfigError(f"{self.task_id}: give a configuration file or rules as text, not both")
        if rules is not None:
            found = _parse_rules(rules, "rules", overrides)
        elif config is not None or images is not None:
            found = load_config(config, auth=auth, images=images, overrides=overrides)
        else:
            found = _parse_rules(self.own_rules(), self.task_id, overrides)
        for login in found.logins:
            mask_login(login)
        return found

    def own_rules(self) -> str:
        """Return rules that the operator's own arguments make, as text; raise ConfigError where there are none."""
        raise ConfigError(f"{self.task_id}: nothing says what to sync; give config, images or rules")

    def with_connections(
        self,
        config: SyncConfig,
        sources: Iterable[Repository],
        destinations: Iterable[Repository],
        *,
        must_fit: bool = True,
    ) -> SyncConfig:
        """
        Return `config` with the connections that these repositories need, and no others.

        :param config: the configuration
        :param sources: the repositories of the one side
        :param destinations: the repositories of the other
        :param must_fit: whether a side's connection that is for none of its repositories is a mistake
        :raises ConfigError: when there is no such connection, or it can't be for these repositories
        """
        sources, destinations = set(sources), set(destinations)
        # The last one for a repository counts: where one is on both sides, it is written to.
        sides = [
            *connection_logins(self.source_conn_id, sources, "source", config, must_fit=must_fit),
            *connection_logins(self.destination_conn_id, destinations, "destination", config, must_fit=must_fit),
        ]
        logins = {(one.registry, one.namespace): one for one in (*config.logins, *sides)}
        config = replace(config, logins=tuple(logins.values()))
        needed = {config.login_for(one) for one in sources | destinations}
        return config.with_connections(lambda one: RegistryHook(one.conn_id or "").login(one) if one in needed else one)


@contextmanager
def mistakes_fail() -> Iterator[None]:
    """Have the task fail for good, with the mistake as its message, when somebody must mend something first."""
    try:
        yield
    except (ConfigError, InvalidReference) as error:
        raise AirflowFailException(str(error)) from None


def connection_logins(
    conn_id: str | None, repositories: Iterable[Repository], side: str, config: SyncConfig, *, must_fit: bool
) -> list[Login]:
    """
    Return a connection as the logins for those of `repositories` that are in its registry.

    :param conn_id: id of the connection; nothing without one
    :param repositories: the repositories of one side
    :param side: which side, for the message
    :param config: what else is known of the registries; credentials are not taken from it
    :param must_fit: whether it is a mistake when none of them is in its registry
    :raises ConfigError: when there is no such connection, or it can't be for these repositories
    """
    conn_id = (said(conn_id) or "").strip()
    if not conn_id:
        return []
    hook = RegistryHook(conn_id)
    registry = hook.login().registry
    wanted = set(repositories)
    registries = sorted({one.registry for one in wanted})
    if not registry and len(registries) > 1:
        raise ConfigError(
            f"the {side} connection {conn_id!r} names no registry, and the {side}s are at {', '.join(registries)}; "
            "give its host, so that its credentials go nowhere else"
        )
    ours = sorted(one for one in wanted if registry in ("", one.registry))
    if must_fit and wanted and not ours:
        raise ConfigError(
            f"the {side} connection {conn_id!r} is for {registry}, but the {side}s are at {', '.join(registries)}; "
            "choose the connection for that registry"
        )
    by_entry: dict[Login | None, Login] = {}
    logins = []
    for one in ours:
        # How a registry is reached is a fact that the configuration may know; who goes there, the connection says.
        known = config.login_for(one)
        if known not in by_entry:
            settings = replace(known or Login(), username=None, password=None, identity_token=None)
            key = f"{side} connection {conn_id}"  # no key of a configuration has blanks
            by_entry[known] = hook.login(replace(settings, key=key, registry=one.registry, conn_id=conn_id))
        logins.append(replace(by_entry[known], registry=one.registry, namespace=one.path))
    return logins


def lines_for_log(text: str) -> str:
    """
    Return a text that a log viewer can hold: its first lines, and the last.

    :param text: a plan or a report, with what failed first and the totals last
    """
    lines = text.splitlines()
    if len(lines) <= _LOGGED_LINES:
        return text
    return "\n".join([*lines[:_LOGGED_LINES], f"... and {len(lines) - _LOGGED_LINES - 1} more lines", lines[-1]])


def said(value: object) -> str | None:
    """
    Return the text that an argument came out as; None when it says nothing.

    :param value: the argument: a text, or what a template that gives native objects made of one
    """
    if value is None or isinstance(value, str):
        text = (value or "").strip()
        return None if text in ("", "None") else value
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def as_bool(value: object, name: str) -> bool:
    """
    Return a flag that a template may have turned into text; nothing means no.

    :param value: the argument
    :param name: its name, for the message
    :raises ConfigError: when it is neither true nor false
    """
    try:
        return _BOOL.validate_python((said(value) or "no").strip())
    except ValidationError as error:
        raise ConfigError(f"{name}: {value!r} is neither true nor false") from error


def plain_path(path: Any) -> Any:
    """
    Return a path as text, and anything else as it is.

    :param path: a path as a DAG's author may give it: a text, a Path, or what another task will return
    """
    return str(path) if isinstance(path, PurePath) else path


def _as_count(value: object, name: str) -> int | None:
    text = said(value)
    try:
        return None if text is None else _COUNT.validate_python(text.strip())
    except ValidationError as error:
        raise ConfigError(f"{name}: {value!r} is not a whole number") from error


def _names(value: object) -> list[str]:
    """Return the names in a list, in a text with commas, or in a list that a template turned into text."""
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return re.findall(r"[^\s,'\"\[\]]+", said(value) or "")


def _parse_rules(text: str, name: str, overrides: Overrides) -> SyncConfig:
    """Return the configuration in a text that a run was given; raise ConfigError.

    Its author may be anybody who may start a run: what the worker's environment holds is not for them to send
    anywhere, and what they write is stored in plain text.
    """
    environ = {key: os.environ[key] for key in _OPEN_VARIABLES if key in os.environ}
    try:
        config = parse_config(text, name=name, overrides=overrides, environ=environ)
    except ConfigError as error:
        hint = "; rules given as text don't see the worker's environment"
        raise ConfigError(
            [
                replace(one, message=one.message + hint) if one.message.endswith("not set") else one
                for one in error.problems
            ]
        ) from None
    for login in config.logins:
        if login.has_credentials:
            raise ConfigError(
                f"{name}: the entry {login.key} holds credentials, which would be stored in plain text with the run; "
                "name an Airflow connection there with conn_id"
            )
    return config
