"""The entries under ``auth`` or ``registries`` turned into logins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from airflow_imagesync.config.environment import Environment, unset_message
from airflow_imagesync.config.plain import Table
from airflow_imagesync.config.schema import RegistryEntry, describe, read_entry
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository, normalise_registry, quoted
from airflow_imagesync.errors import InvalidReference, Problem

#: What an entry takes from a shorter key that covers it, where it does not say otherwise itself. Credentials
#: are not among them: what a registry is reached by is a fact about the registry, who goes there is a choice.
_INHERITED = ("insecure", "tls_verify", "ca_file", "max_concurrent", "token_realm_hosts")


class LoginReader:
    """Reads the entries of one mapping.

    Problems are told for `file` with fields like ``<name>.<key>.<field>``. `folder` is what a relative
    ``ca_file`` is relative to, None where there is no such folder. ``problems`` and ``warnings`` grow while
    reading.
    """

    def __init__(self, name: str, *, file: str | None, folder: Path | None, environment: Environment) -> None:
        self._name = name
        self._file = file
        self._folder = folder
        self._environment = environment
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def read(self, table: Table) -> tuple[Login, ...]:
        """Return the logins, in the order written.

        An entry with a mistake gives a login without settings, so that it is still known which key applies.
        """
        logins: dict[tuple[str, str], Login] = {}
        said: dict[tuple[str, str], set[str]] = {}
        for key, value in table.pairs:
            login = self._key(key)
            if login is None or login.key is None:
                continue
            place = login.registry, login.namespace
            if place in logins:
                self._problem(
                    login.key,
                    None,
                    f"the key means the same as {logins[place].key!r}; expected one entry for both",
                )
                continue
            entry, wrong = read_entry(RegistryEntry, value if value is not None else Table())
            for field, message in wrong:
                self._problem(login.key, field, message)
            logins[place] = self._fill(login, entry) if entry else login
            said[place] = {name for name in _INHERITED if entry and getattr(entry, name) is not None}
        return _inherit(logins, said)

    def _problem(self, key: str, field: str | None, message: str) -> None:
        name = ".".join(part for part in (self._name, key if key.isprintable() else repr(key), field) if part)
        self.problems.append(Problem(message, file=self._file, field=name))

    def _key(self, key: object) -> Login | None:
        """Return a login that knows only where it applies, or None with a problem."""
        if not isinstance(key, str):
            message = (
                f"found {describe(key)} as a key, expected registry or registry/namespace; put it in quotes"
            )
            self.problems.append(Problem(message, file=self._file, field=self._name))
            return None
        try:
            registry, _, namespace = key.partition("/")
            if "://" in key and "index.docker.io/v1" in key:
                raise InvalidReference(f"{quoted(key)} is Docker's own spelling; expected docker.io")
            if "://" in key:
                normalise_registry(key)
            registry = normalise_registry(registry)
            # image-syncer also matches keys that end with a slash.
            namespace = namespace.removesuffix("/")
            if namespace:
                namespace = Repository.parse(f"localhost/{namespace}").path
        except InvalidReference as error:
            self._problem(key, None, f"{error}, or one of these with /namespace behind it")
            return None
        return Login(key, registry, namespace)

    def _fill(self, login: Login, entry: RegistryEntry) -> Login:
        """Return `login` with the settings of its own entry."""
        key = login.key or ""
        credentials = {
            name: self._credential(key, name, getattr(entry, name))
            for name in ("username", "password", "identitytoken")
        }
        given = [name for name in credentials if getattr(entry, name)]
        if entry.conn_id and given:
            self._problem(
                key,
                "conn_id",
                f"stands beside {' and '.join(given)}; expected either a connection or a login",
            )
        elif "identitytoken" in given and "password" in given:
            self._problem(key, "identitytoken", "stands beside password; expected one of the two")
        elif ("username" in given) != ("password" in given) and "identitytoken" not in given:
            have, lack = ("username", "password") if "username" in given else ("password", "username")
            self.warnings.append(f"{self._name}.{key}: there is a {have} but no {lack}")
        if entry.insecure and (entry.ca_file or entry.tls_verify is not None):
            other = "ca_file" if entry.ca_file else "tls_verify"
            self.warnings.append(f"{self._name}.{key}: {other} has no effect, as insecure means plain HTTP")
        elif entry.tls_verify is False and entry.ca_file:
            self.warnings.append(f"{self._name}.{key}: ca_file has no effect, as tls_verify is false")
        return replace(
            login,
            conn_id=entry.conn_id,
            username=credentials["username"],
            password=credentials["password"],
            identity_token=credentials["identitytoken"],
            insecure=bool(entry.insecure),
            tls_verify=entry.tls_verify is not False,
            ca_file=self._ca_file(key, entry.ca_file),
            max_concurrent=entry.max_concurrent,
            token_realm_hosts=self._realm_hosts(key, entry.token_realm_hosts or []),
        )

    def _credential(self, key: str, field: str, written: str | None) -> str | None:
        """Return a credential with its variable filled in; None where there is none, or an empty one."""
        if not written:
            return None
        filled = self._environment.fill_credential(written)
        if filled.unset:
            self._problem(key, field, unset_message(filled.unset))
        elif filled.text == "":
            self.warnings.append(f"{self._name}.{key}.{field}: the environment variable for it is empty")
        return filled.text or None

    def _ca_file(self, key: str, written: str | None) -> str | None:
        """Return the path of the CA certificates, absolute where the folder of the configuration is known."""
        if written is None:
            return None
        path = Path(written)
        if self._folder is not None:
            path = self._folder.absolute() / path
        elif not path.is_absolute():
            self._problem(
                key, "ca_file", f"found {quoted(written)}, expected an absolute path in a text without file"
            )
            return None
        if self._environment.known:
            try:
                with path.open("rb"):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self._problem(
                    key,
                    "ca_file",
                    f"{quoted(str(path))} can't be read ({reason}); expected CA certificates (PEM)",
                )
        return str(path)

    def _realm_hosts(self, key: str, written: list[str]) -> tuple[str, ...]:
        hosts = []
        for host in written:
            try:
                normalise_registry(host)
            except InvalidReference as error:
                self._problem(
                    key, "token_realm_hosts", str(error).replace("is not a registry", "is not a host")
                )
            else:
                hosts.append(
                    host.lower()
                )  # not normalised further: docker.io is not where its tokens come from
        return tuple(dict.fromkeys(hosts))


def _inherit(
    logins: dict[tuple[str, str], Login], said: dict[tuple[str, str], set[str]]
) -> tuple[Login, ...]:
    """Return the logins with what each takes from the next shorter key, which took its own before."""
    done: dict[tuple[str, str], Login] = {}
    for place in sorted(logins, key=lambda place: place[1].count("/") + bool(place[1])):
        registry, namespace = place
        parent = None
        while parent is None and namespace:
            namespace = namespace.rpartition("/")[0]
            parent = done.get((registry, namespace))
        login = logins[place]
        if parent is not None:
            login = replace(
                login, **{name: getattr(parent, name) for name in _INHERITED if name not in said[place]}
            )
        done[place] = login
    return tuple(done[place] for place in logins)
