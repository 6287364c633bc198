"""What holds where a rule says nothing: the ``defaults`` of a configuration, and what overrides it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from airflow_imagesync.config.environment import Environment
from airflow_imagesync.config.plain import Table
from airflow_imagesync.config.schema import (
    MAX_CONCURRENCY,
    MAX_RETRIES,
    DefaultsEntry,
    TimeoutsEntry,
    Wrong,
    describe,
    read_entry,
)
from airflow_imagesync.domain.login import DockerLogins
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository, names_registry, normalise_registry, quoted
from airflow_imagesync.domain.rules import DEFAULT_CONCURRENCY, DEFAULT_FULL_CHECK_EVERY, DEFAULT_RETRIES
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import InvalidReference, Problem


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a command line or a form says on top of a configuration.

    ``registry`` and ``namespace`` are the defaults for empty destinations. None and empty mean that nothing
    is said; ``platforms`` replace those of every rule; ``force``, ``docker_config`` and ``credential_helpers`` can only
    be switched on.
    """

    registry: str | None = None
    namespace: str | None = None
    platforms: tuple[Platform, ...] = ()
    force: bool = False
    concurrency: int | None = None
    retries: int | None = None
    docker_config: bool = False
    credential_helpers: bool = False


@dataclass(frozen=True, slots=True)
class DefaultPlace:
    """Where images go whose destination is ``""``; a part that nobody gave is None."""

    registry: str | None = None
    namespace: str | None = None

    @property
    def complete(self) -> bool:
        """Whether both parts are there."""
        return bool(self.registry and self.namespace)

    def destination(self, source: Repository) -> Repository:
        """Return the repository for `source`; raise InvalidReference where a part is missing or wrong."""
        for name, value in (("registry", self.registry), ("namespace", self.namespace)):
            if not value:
                raise InvalidReference(
                    f"the destination is empty and there is no default {name}; expected a destination, or "
                    f"defaults.{name}, --default-{name} or the environment variable DEFAULT_{name.upper()}"
                )
        try:
            registry = check_default_registry(self.registry or "")
            return Repository.parse(f"{registry}/{check_namespace(self.namespace or '')}/{source.name}")
        except InvalidReference as error:
            raise InvalidReference(f"the destination is empty and its default is wrong: {error}") from None


@dataclass(frozen=True, slots=True)
class ForAllRules:
    """What holds for every rule.

    ``place`` is None where it has a mistake that is told elsewhere. ``default_platforms`` are for rules that
    name none; ``platforms``, where there are any, and ``force`` win over what a rule says. ``trust_records`` is for
    rules that don't say, ``full_check_every`` for all.
    """

    place: DefaultPlace | None = None
    default_platforms: tuple[Platform, ...] = ()
    platforms: tuple[Platform, ...] = ()
    force: bool = False
    trust_records: bool = False
    full_check_every: int = DEFAULT_FULL_CHECK_EVERY


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults and what was said on top of them, joined; ``problems`` are the mistakes in both."""

    for_all: ForAllRules
    concurrency: int
    retries: int
    timeouts: Timeouts
    docker: DockerLogins
    problems: list[Problem] = field(default_factory=list)


def read_settings(
    defaults: object, overrides: Overrides, environment: Environment, *, file: str | None, folder: Path | None
) -> Settings:
    """Return the settings of a configuration with these ``defaults`` (None for none) in `file`, a file in `folder`."""
    wrong_overrides = _wrong_overrides(overrides)
    problems = [Problem(message, field=name) for name, message in wrong_overrides]
    entry, wrong = read_entry(DefaultsEntry, defaults if defaults is not None else Table())
    wrong += _wrong_names(entry)
    platforms: tuple[Platform, ...] = ()
    try:
        platforms = parse_platforms(entry.platforms or ())
    except InvalidReference as error:
        wrong.append(("platforms", str(error)))
    timeouts, wrong_timeouts = _timeouts(entry.timeouts)
    docker, wrong_docker = _docker(entry, overrides, folder)
    wrong += wrong_timeouts + wrong_docker
    problems += [
        Problem(message, file=file, field=f"defaults.{name}" if name else "defaults") for name, message in wrong
    ]
    place_is_wrong = any(name in ("registry", "namespace") for name, _ in [*wrong, *wrong_overrides])
    place = DefaultPlace(
        overrides.registry or entry.registry or environment.get("DEFAULT_REGISTRY"),
        overrides.namespace or entry.namespace or environment.get("DEFAULT_NAMESPACE"),
    )
    return Settings(
        ForAllRules(
            None if place_is_wrong else place,
            platforms,
            overrides.platforms,
            overrides.force,
            bool(entry.trust_records),
            _first(entry.full_check_every, DEFAULT_FULL_CHECK_EVERY),
        ),
        _first(overrides.concurrency, entry.concurrency, DEFAULT_CONCURRENCY),
        _first(overrides.retries, entry.retries, DEFAULT_RETRIES),
        timeouts,
        docker,
        problems,
    )


def check_default_registry(text: str) -> str:
    """Return a registry that names can begin with, normalised; raise InvalidReference."""
    registry = normalise_registry(text)
    if not names_registry(registry):
        raise InvalidReference(
            f"{quoted(text)} would be read as a namespace of Docker Hub; expected a host with a dot or a "
            f"port, like {text}:443"
        )
    return registry


def check_namespace(text: str) -> str:
    """Return a namespace, which may have several parts; raise InvalidReference."""
    try:
        return Repository.parse(f"localhost/{text}").path
    except InvalidReference:
        raise InvalidReference(
            f"{quoted(text)} is not a namespace; expected name parts of a-z, 0-9 and single '.', '_', '__' "
            "or '-' between them, joined by '/'"
        ) from None


def parse_platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Return the platforms, each once; raise InvalidReference."""
    return tuple(dict.fromkeys(Platform.parse(text) for text in texts))


def _timeouts(value: object) -> tuple[Timeouts, list[Wrong]]:
    """Return what ``defaults.timeouts`` says, and what is wrong there."""
    if value is None:
        return Timeouts(), []
    entry, wrong = read_entry(TimeoutsEntry, value)
    said = {name: seconds for name, seconds in entry.model_dump().items() if seconds is not None}
    return Timeouts(**said), [(f"timeouts.{name}" if name else "timeouts", message) for name, message in wrong]


def _docker(entry: DefaultsEntry, overrides: Overrides, folder: Path | None) -> tuple[DockerLogins, list[Wrong]]:
    """Return whether and where Docker's logins are used, and what is wrong about that."""
    value = entry.docker_config
    wrong: list[Wrong] = []
    if not (value is None or isinstance(value, bool) or (isinstance(value, str) and value)):
        wrong.append(("docker_config", f"found {describe(value)}, expected true, false or the path of a file"))
        value = None
    path = None
    if isinstance(value, str):
        path = str(folder.absolute() / value) if folder is not None else value
    return DockerLogins(
        everywhere=bool(value) or overrides.docker_config,
        path=path,
        helpers=bool(entry.credential_helpers) or overrides.credential_helpers,
    ), wrong


def _wrong_overrides(overrides: Overrides) -> list[tuple[str | None, str]]:
    """Return (name, message) pairs for what is said on top of a configuration."""
    wrong = _wrong_names(overrides)
    bounds = (
        ("concurrency", overrides.concurrency, 1, MAX_CONCURRENCY),
        ("retries", overrides.retries, 0, MAX_RETRIES),
    )
    for name, value, least, most in bounds:
        if value is not None and not least <= value <= most:
            wrong.append((name, f"found {describe(value)}, expected a whole number from {least} to {most}"))
    return wrong


def _wrong_names(said: Overrides | DefaultsEntry) -> list[tuple[str | None, str]]:
    """Return (name, message) pairs for a default registry and namespace that are none."""
    wrong: list[tuple[str | None, str]] = []
    for name, value, check in (
        ("registry", said.registry, check_default_registry),
        ("namespace", said.namespace, check_namespace),
    ):
        try:
            if value:
                check(value)
        except InvalidReference as error:
            wrong.append((name, str(error)))
    return wrong


def _first(*values: int | None) -> int:
    """Return the first of `values` that is not None."""
    return next(value for value in values if value is not None)
