"""What the operators share: arguments that say what to sync, and turning them into a configuration inside a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.config import Overrides, load_config
from airflow_imagesync.domain.allowed import AllowedHosts
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import SyncConfig
from airflow_imagesync.engine.records import Records
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.errors import ConfigError, InvalidReference
from airflow_imagesync.hooks.registry import RegistryHook, mask_credentials, mask_login
from airflow_imagesync.operators.arguments import as_bool, as_count, as_names, plain_path, said
from airflow_imagesync.operators.open_rules import HOW_SAFE, parse_open_rules
from airflow_imagesync.operators.progress import logged_progress
from airflow_imagesync.registry.retry import MAX_RETRY_AFTER

_LOGGED_LINES = 2000


class ConfiguredOperator(BaseOperator):
    """
    An operator that works from a configuration: a file, a pair of files, or a text.

    Files, environment variables and connections are read when the task runs, never when the DAG is parsed. A template
    that comes out empty, or as None, counts as an argument that was not given.

    :param config: path of a configuration file (templated)
    :param auth: path of image-syncer's auth file, with `images` (templated)
    :param images: path of image-syncer's images file (templated)
    :param rules: rules instead of files: YAML or JSON text, one ``source destination`` a line, or a list or mapping
        (templated). It may name connections. It must not hold
        credentials, because task arguments are stored in plain text, nor name environment variables, files and logins
        of the workers, because those are not for everybody who may start a run; and how safe the way of a
        connection's credentials is, only the connection says
    :param source_conn_id: connection for the source repositories in its registry (templated)
    :param destination_conn_id: connection for the destination repositories in its registry (templated)
    :param platforms: ``os/arch[/variant]`` to copy, a list or a text with commas; empty for what the
        configuration says (templated)
    :param force: copy what is the same, too (templated)
    :param concurrency: transfers at once in this task; None for what the configuration says (templated)
    :param request_retries: how often a request that failed temporarily is tried again within the task; None
        for what the configuration says
    :param allowed_hosts: the registries that rules may name, a list or a text with commas: ``host[:port]``, or
        ``*.example.com`` for all below it; None for any. Not templated, so that whoever starts a run can't widen it
    :param records_conn_id: connection to the database that keeps what syncs learned; None for what the section
        imagesync of Airflow's configuration says
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
    #: The longest wait that a registry asks for, in seconds, for which a worker is held.
    longest_wait: float = MAX_RETRY_AFTER

    def __init__(
        self,
        *,
        config: str | PurePath | None = None,
        auth: str | PurePath | None = None,
        images: str | PurePath | None = None,
        rules: Any = None,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        platforms: str | Sequence[str] | None = None,
        force: bool | str = False,
        concurrency: int | str | None = None,
        request_retries: int | None = None,
        allowed_hosts: str | Sequence[str] | None = None,
        records_conn_id: str | None = None,
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
        self.allowed_hosts = allowed_hosts
        if allowed_hosts is not None:
            AllowedHosts.parse(allowed_hosts)  # a mistake shows when the DAG is parsed
        self.records_conn_id = records_conn_id
        self._engine: SyncEngine | None = None
        self._killed = False

    def on_kill(self) -> None:
        """Stop within seconds; no tag of an unfinished image is written."""
        self._killed = True
        if self._engine is not None:
            self._engine.cancel()

    @contextmanager
    def engine(self, config: SyncConfig, records: Records) -> Iterator[SyncEngine]:
        """
        Give an engine that `on_kill` stops, and tell in the log how far it has come.

        :param config: the configuration, its connections looked up
        :param records: what earlier syncs learned; closed at the end
        """
        with records, SyncEngine(config, longest_wait=self.longest_wait, records=records) as engine:
            self._engine = engine
            if self._killed:  # before there was an engine to tell
                engine.cancel()
            with logged_progress(engine):
                yield engine

    def overrides(self) -> Overrides:
        """Return what the arguments say on top of the configuration. Raises ConfigError, InvalidReference."""
        return Overrides(
            platforms=tuple(Platform.parse(one) for one in as_names(self.platforms)),
            force=as_bool(self.force, "force"),
            concurrency=as_count(self.concurrency, "concurrency"),
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
            found = parse_open_rules(rules, "rules", overrides)
        elif config is not None or images is not None:
            found = load_config(config, auth=auth, images=images, overrides=overrides)
        else:
            found = parse_open_rules(self.own_rules(), self.task_id, overrides)
        for login in found.logins:
            mask_login(login)
        return replace(found, docker=replace(found.docker, seen=mask_credentials))

    def configuration(self) -> SyncConfig:
        """
        Return the configuration with the connections that its rules need.

        :raises ConfigError: for every mistake in it, and for a connection that is missing or does not fit
        :raises InvalidReference: for a platform that is none
        """
        config = self.read_config()
        return self.with_connections(
            config,
            {rule.source for rule in config.rules},
            {to.repository for rule in config.rules for to in rule.destinations},
        )

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
        :raises ConfigError: when there is no such connection, or it can't be for these repositories, or one of them
            is in a registry that is not allowed
        """
        sources, destinations = set(sources), set(destinations)
        if self.allowed_hosts is not None:
            AllowedHosts.parse(self.allowed_hosts).check(sources, destinations, config.rules)
        open_rules = said(self.rules) is not None
        unlimited = open_rules and self.allowed_hosts is None
        # The last one for a repository counts: where one is on both sides, it is written to.
        sides = [
            login
            for conn_id, repositories, side in (
                (self.source_conn_id, sources, "source"),
                (self.destination_conn_id, destinations, "destination"),
            )
            for login in connection_logins(
                conn_id, repositories, side, config, must_fit=must_fit, open_rules=open_rules, unlimited=unlimited
            )
        ]
        logins = {(one.registry, one.namespace): one for one in (*config.logins, *sides)}
        config = replace(config, logins=tuple(logins.values()))
        needed = {config.login_for(one) for one in sources | destinations}

        def look_up(login: Login) -> Login:
            if login not in needed:
                return login
            hook = RegistryHook(login.conn_id or "")
            if unlimited:
                check_names_registry(hook)
            return hook.login(login)

        return config.with_connections(look_up)


@contextmanager
def mistakes_fail() -> Iterator[None]:
    """Have the task fail for good, with the mistake as its message, when somebody must mend something first."""
    try:
        yield
    except (ConfigError, InvalidReference) as error:
        raise AirflowFailException(str(error)) from None


def check_names_registry(hook: RegistryHook) -> None:
    """
    Raise ConfigError for a connection with credentials and no host: rules could send these to any registry.

    :param hook: the connection that rules of anybody's name
    """
    if hook.cloud() is None and not (login := hook.login()).registry and login.has_credentials:
        raise ConfigError(
            f"the connection {hook.registry_conn_id!r} names no registry, so that rules given as text could send its "
            "credentials anywhere; give its host, or limit the registries with allowed_hosts"
        )


def connection_logins(
    conn_id: str | None,
    repositories: Iterable[Repository],
    side: str,
    config: SyncConfig,
    *,
    must_fit: bool,
    open_rules: bool,
    unlimited: bool = False,
) -> list[Login]:
    """
    Return a connection as the logins for those of `repositories` that are in its registry.

    :param conn_id: id of the connection; nothing without one
    :param repositories: the repositories of one side
    :param side: which side, for the message
    :param config: what else is known of the registries; credentials are not taken from it
    :param must_fit: whether it is a mistake when none of them is in its registry
    :param open_rules: whether anybody may have written the configuration, so that it must not weaken the connection
    :param unlimited: whether its author may also name any registry, so that the connection must name its own
    :raises ConfigError: when there is no such connection, or it can't be for these repositories
    """
    conn_id = (said(conn_id) or "").strip()
    if not conn_id:
        return []
    hook = RegistryHook(conn_id)
    if unlimited:
        check_names_registry(hook)
    cloud = hook.cloud()
    registry = "" if cloud is not None else hook.login().registry
    wanted = set(repositories)
    registries = sorted({one.registry for one in wanted})
    if cloud is None and not registry and len(registries) > 1:
        raise ConfigError(
            f"the {side} connection {conn_id!r} names no registry, and the {side}s are at {', '.join(registries)}; "
            "give its host, so that its credentials go nowhere else"
        )
    fits = [one for one in registries if (registry in ("", one) if cloud is None else cloud.has(one))]
    ours = sorted(one for one in wanted if one.registry in fits)
    if must_fit and wanted and not ours:
        whose = registry if cloud is None else f"registries of {cloud.name}"
        raise ConfigError(
            f"the {side} connection {conn_id!r} is for {whose}, but the {side}s are at {', '.join(registries)}; "
            "choose the connection for that registry"
        )
    by_entry: dict[Login | None, Login] = {}
    logins = []
    for one in ours:
        # How a registry is reached is a fact that the configuration may know; who goes there, the connection says.
        known = config.login_for(one)
        if known not in by_entry:
            settings = replace(
                known or Login(), username=None, password=None, identity_token=None, source=None, docker_config=False
            )
            weakened = [name for name in HOW_SAFE if name in settings.stated]
            if open_rules and weakened:
                raise ConfigError(
                    f"the rules say {weakened[0]} for {settings.key}, where the {side} connection {conn_id!r} logs in; "
                    "set it in the connection"
                )
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
