"""Logins in Docker's configuration: which entry is for a repository, and the credentials in it.

Docker's ``config.json`` ("docker login", CLI reference), podman's ``auth.json`` (containers-auth.json(5)) and
Kubernetes' secrets of the types ``dockerconfigjson`` and ``dockercfg``.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from airflow_imagesync.domain.credentials import Credentials, CredentialSource
from airflow_imagesync.domain.login import DockerLogins, Login
from airflow_imagesync.domain.reference import DOCKER_HUB, Repository, normalise_registry, quoted
from airflow_imagesync.errors import ConfigError, InvalidReference
from airflow_imagesync.registry.credential_helper import CredentialHelper, check_suffix

logger = logging.getLogger(__name__)

MAX_SIZE = 4 * 1024 * 1024
#: How Docker Hub is called by Docker itself.
HUB_SERVER = "https://index.docker.io/v1/"

_VARIABLE = "DOCKER_AUTH_CONFIG"
_NAMES = ("config.json", ".dockerconfigjson", ".dockercfg")
_SECTIONS = ("auths", "credHelpers", "credsStore")
_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")


@dataclass(frozen=True, slots=True)
class DockerLogin:
    """The login for a repository: ``key`` says which, and is equal for all repositories that share it."""

    key: str
    source: CredentialSource


class DockerConfig:
    """Finds logins as `settings` say. Files are read when the first login is looked for, and entries when it is used.

    Without a path: ``DOCKER_AUTH_CONFIG`` (the JSON itself), Docker's file, then podman's; the first that knows the
    registry counts. Safe to use from many threads.
    """

    def __init__(self, settings: DockerLogins) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._files: list[_File] | None = None
        self._found: dict[tuple[str, str], DockerLogin] = {}
        self._missed: set[str] = set()

    def find(self, login: Login, repository: Repository) -> DockerLogin | None:
        """Return the login for `repository`, or None when there is none, or `login` does not want one from here.

        Raises ConfigError for a file that can't be read.
        """
        wanted = self._settings.everywhere if login.docker_config is None else login.docker_config
        if not wanted or login.has_credentials:
            return None
        with self._lock:
            if self._files is None:
                self._files = _files(self._settings.path)
            found = self._find(self._files, repository)
            if found is None and login.docker_config and repository.registry not in self._missed:
                self._missed.add(repository.registry)
                names = ", ".join(one.name for one in self._files) or "which is nowhere"
                logger.warning("Docker's configuration (%s) has no login for %s", names, repository.registry)
            return found

    def _find(self, files: list[_File], repository: Repository) -> DockerLogin | None:
        names = list(_names(repository))
        for file in files:
            for name in names:
                key, suffix = file.helpers.get(name, ("", ""))
                if suffix:
                    return self._by_helper(file, key, name, suffix)
                key, entry = file.entries.get(name, ("", None))
                if _says_something(entry):
                    return self._login(file, key, partial(_Entry, file, name))
                if key and file.store:
                    return self._by_helper(file, key, name, file.store)
        # A store may know more than the file says; to ask it for everything is for those who want helpers at all.
        stores = [file for file in files if file.store and self._settings.helpers]
        if not stores:
            return None
        return self._by_helper(stores[0], repository.registry, repository.registry, stores[0].store)

    def _by_helper(self, file: _File, key: str, name: str, suffix: object) -> DockerLogin:
        server = HUB_SERVER if name == DOCKER_HUB else key

        def make() -> CredentialSource:
            where = f"{file.name}: {quoted(key)}"
            if not isinstance(suffix, str):
                raise ConfigError(f"{where}: expected the name of a credential helper as a text")
            check_suffix(suffix, where)
            if not self._settings.helpers:
                return _NotAllowed(f"{file.name} has the login for {quoted(key)} in docker-credential-{suffix}")
            return CredentialHelper(suffix, server)

        return self._login(file, key, make)

    def _login(self, file: _File, key: str, make: Callable[[], CredentialSource]) -> DockerLogin:
        found = self._found.get((file.name, key))
        if found is None:
            source = make()
            if self._settings.seen is not None:
                source = _Watched(source, self._settings.seen)
            found = self._found[file.name, key] = DockerLogin(f"{file.name}: {key}", source)
        return found


class _Watched:
    """A source that shows what it gives to `seen` before anybody else has it."""

    def __init__(self, source: CredentialSource, seen: Callable[[Credentials], None]) -> None:
        self._source = source
        self._seen = seen
        self._last: Credentials | None = None

    def get(self, *, renew: bool = False) -> Credentials:
        """Return what the source returns."""
        found = self._source.get(renew=renew)
        if found is not self._last:
            self._seen(found)
            self._last = found
        return found


class _NotAllowed:
    """Stands for a helper that must not be run: most registries never ask for a login, so it is no mistake yet."""

    def __init__(self, what: str) -> None:
        self._what = what

    def get(self, *, renew: bool = False) -> Credentials:  # noqa: ARG002  # as a source has it
        """Raise ConfigError."""
        raise ConfigError(
            f"{self._what}, a program that is not run unless it is allowed; set credential_helpers: true under "
            "defaults, or --credential-helpers"
        )


class _Entry:
    """A source of the credentials in an entry; to renew them, the file is read again: somebody may keep it fresh."""

    def __init__(self, file: _File, name: str) -> None:
        self._file = file
        self._name = name
        self._found: Credentials | None = None

    def get(self, *, renew: bool = False) -> Credentials:
        """Return the credentials; raise ConfigError for an entry that is broken."""
        if renew:
            self._file.read()
        found = self._found
        if found is None or renew:
            key, entry = self._file.entries.get(self._name, ("", None))
            found = self._found = _credentials(entry, f"{self._file.name}: {quoted(key)}")
        return found


class _File:
    """One configuration: its entries and helpers by what they are for, each with its key as written."""

    def __init__(self, name: str, load: Callable[[], bytes]) -> None:
        self.name = name
        self._load = load
        self.entries: dict[str, tuple[str, Any]] = {}
        self.helpers: dict[str, tuple[str, Any]] = {}
        self.store: object = None
        self.read()

    def read(self) -> None:
        """Read it, once more where it was read before. Raises ConfigError."""
        text = self._load()
        if len(text) > MAX_SIZE:
            raise ConfigError(f"{self.name} has more than {MAX_SIZE} bytes; expected a configuration of Docker")
        document: Any = None
        try:
            document = json.loads(text or b"{}")
            reason = "is no JSON object"
        except (ValueError, RecursionError) as error:
            line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            reason = f"is no JSON{line}"
        if not isinstance(document, dict):
            # The cause is dropped because it has the whole text.
            raise ConfigError(f"{self.name} {reason}; expected a configuration of Docker")
        is_new = any(section in document for section in _SECTIONS)
        entries = document.get("auths") if is_new else {k: v for k, v in document.items() if isinstance(v, dict)}
        self.entries = self._by_place("auths", entries)
        self.helpers = self._by_place("credHelpers", document.get("credHelpers"))
        self.store = document.get("credsStore")

    def _by_place(self, section: str, table: object) -> dict[str, tuple[str, Any]]:
        if table is None:
            return {}
        if not isinstance(table, dict):
            raise ConfigError(f"{self.name}: {section} is no JSON object; expected one")
        found: dict[str, tuple[str, Any]] = {}
        for key, value in table.items():
            place = _place(key)
            # Of several keys for one registry, an entry that only says "see the helper" gives way.
            if place is not None and (place not in found or not found[place][1]):
                found[place] = (key, value)
        return found


def _files(path: str | None) -> list[_File]:
    """Return the configurations, in the order in which they count."""
    if path is not None:
        given = Path(path).expanduser()
        inside = (given / name for name in _NAMES)
        file = next((one for one in inside if one.is_file()), given) if given.is_dir() else given
        if not file.is_file():
            raise ConfigError(f"there is no Docker configuration at {path}; check defaults.docker_config")
        return [_file(file)]
    files = []
    text = os.environ.get(_VARIABLE)
    if text:
        content = os.fsencode(text)
        files.append(_File(_VARIABLE, lambda: content))
    folder, podman = os.environ.get("DOCKER_CONFIG"), os.environ.get("REGISTRY_AUTH_FILE")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [(folder or "~/.docker") + "/config.json"]
    if podman or runtime:
        places.append(podman or f"{runtime}/containers/auth.json")
    for place in places:
        file = Path(os.path.expanduser(place))  # noqa: PTH111  # Path.expanduser raises where there is no home
        if file.is_file():
            files.append(_file(file))
    return files


def _file(path: Path) -> _File:
    def load() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_SIZE + 1)
        except OSError as error:
            raise ConfigError(f"{path} can't be read ({error.strerror}); check its owner and mode") from error

    return _File(str(path), load)


def _names(repository: Repository) -> Iterator[str]:
    """Yield what an entry for a repository may be for, the most specific first."""
    path = repository.path
    while path:
        yield f"{repository.registry}/{path}"
        path = path.rpartition("/")[0]
    yield repository.registry


def _place(key: str) -> str | None:
    """Return what a key is for, a registry or a namespace in it, normalised; None for what can be neither."""
    scheme, separator, rest = key.partition("://")
    if not separator:
        scheme, rest = "", key
    host, _, path = rest.partition("/")
    path = path.strip("/")
    try:
        registry = normalise_registry(host)
    except InvalidReference:
        return None
    # Docker writes addresses of the registry's API, podman names.
    return registry if scheme or path in ("", "v1", "v2") else f"{registry}/{path}"


def _says_something(entry: object) -> bool:
    """Whether an entry has a login or is broken; others mean that a helper has it, or nothing."""
    return any(entry.get(name) for name in _FIELDS) if isinstance(entry, dict) else entry is not None


def _credentials(entry: object, where: str) -> Credentials:
    """Return what an entry says; raise ConfigError, which never has a part of it, where it is broken."""
    if not isinstance(entry, dict | None):
        raise ConfigError(f"{where} is no JSON object; expected one with auth")
    texts = {name: (entry or {}).get(name) or None for name in _FIELDS}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise ConfigError(f"{where}: {name} is no text; log in to this registry again")
    username, password = texts["username"], texts["password"]
    if texts["auth"]:
        username, password = _decoded(texts["auth"], where)
    return Credentials(username, password, texts["identitytoken"], texts["registrytoken"])


def _decoded(auth: str, where: str) -> tuple[str | None, str | None]:
    """Return the user and password in an ``auth``."""
    text = "".join(auth.split()).rstrip("=")
    try:
        pair = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:
        pair = ""
    username, colon, password = pair.partition(":")
    if not colon:
        raise ConfigError(f"{where}: auth is not base64 of user:password; log in to this registry again") from None
    return username or None, password.rstrip("\0") or None
