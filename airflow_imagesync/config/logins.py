"""The entries under ``auth`` or ``registries`` turned into logins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from airflow_imagesync.config.environment import Environment, unset_message
from airflow_imagesync.config.plain import Table
from airflow_imagesync.config.schema import RegistryEntry, describe, read_entry, shown_key
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository, check_no_scheme, normalise_registry, quoted
from airflow_imagesync.errors import InvalidReference, Problem

#: What an entry takes from a shorter key that covers it, where it does not say otherwise itself. Credentials
#: are not among them: what a registry is reached by is a fact about the registry, who goes there is a choice.
_INHERITED = ("insecure", "tls_verify", "ca_file", "max_concurrent", "token_realm_hosts")
#: A registry and a namespace in it, both normalised.
_Place = tuple[str, str]


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

        An entry with a mistake gives a login without what is wrong, so that it is still known which key applies.
        """
        logins: dict[_Place, Login] = {}
        said: dict[_Place, set[str]] = {}
        for key, value in table.pairs:
            if not isinstance(key, str):
                message = f"found {describe(key)} as a key, expected registry or registry/namespace; put it in quotes"
                self.problems.append(Problem(message, file=self._file, field=self._name))
                continue
            place = self._place(key, logins)
            entry, wrong = read_entry(RegistryEntry, value if value is not None else Table())
            for field, message in wrong:
                self._problem(key, field, message)
            login = self._login(key, entry)
            if place is not None:
                logins[place] = replace(login, registry=place[0], namespace=place[1])
                said[place] = {name for name in _INHERITED if getattr(entry, name) is not None}
        return _inherit(logins, said)

    def _problem(self, key: str, field: str | None, message: str) -> None:
        name = ".".join(part for part in (self._name, shown_key(key), field) if part)
        self.problems.append(Problem(message, file=self._file, field=name))

    def _place(self, key: str, taken: Mapping[_Place, Login]) -> _Place | None:
        """Return what a key stands for, or None with a problem."""
        registry, _, namespace = key.partition("/")
        # image-syncer matches keys that end with a slash, too.
        namespace = namespace.removesuffix("/")
        try:
            if "://" in key and "index.docker.io/v1" in key:
                raise InvalidReference(f"{quoted(key)} is how Docker's own login file says it; expected docker.io")
            check_no_scheme(key)
            place = normalise_registry(registry), Repository.parse(f"localhost/{namespace}").path if namespace else ""
        except InvalidReference as error:
            self._problem(key, None, str(error))
            return None
        if place in taken:
            other = quoted(taken[place].key or "")
            self._problem(key, None, f"the key means the same as {other}; expected one entry for both")
            return None
        return place

    def _login(self, key: str, entry: RegistryEntry) -> Login:
        """Return the login for a key, with the settings of its own entry only."""
        credentials = {
            name: self._credential(key, name, getattr(entry, name))
            for name in ("username", "password", "identitytoken")
        }
        given = [name for name in credentials if getattr(entry, name)]
        if entry.conn_id and given:
            self._problem(
                key,
                "conn_id",
                f"conn_id stands beside {' and '.join(given)}; expected either a connection or a login",
            )
        elif "identitytoken" in given and "password" in given:
            self._problem(key, "identitytoken", "identitytoken stands beside password; expected one of the two")
        elif ("username" in given) != ("password" in given) and "identitytoken" not in given:
            have, lack = ("username", "password") if "username" in given else ("password", "username")
            self.warnings.append(f"{self._name}.{shown_key(key)}: there is a {have} but no {lack}")
        if entry.insecure and (entry.ca_file or entry.tls_verify is not None):
            other = "ca_file" if entry.ca_file else "tls_verify"
            self.warnings.append(f"{self._name}.{shown_key(key)}: {other} has no effect, as insecure means plain HTTP")
        elif entry.tls_verify is False and entry.ca_file:
            self.warnings.append(f"{self._name}.{shown_key(key)}: ca_file has no effect, as tls_verify is false")
        return Login(
            key,
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
            self.warnings.append(f"{self._name}.{shown_key(key)}.{field}: the environment variable for it is empty")
        return filled.text or None

    def _ca_file(self, key: str, written: str | None) -> str | None:
        """Return the path of the CA certificates, absolute where the folder of the configuration is known."""
        if written is None:
            return None
        path = Path(written)
        if self._folder is not None:
            path = self._folder.absolute() / path
        elif not path.is_absolute():
            self._problem(key, "ca_file", f"found {quoted(written)}, expected an absolute path in a text without file")
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
                self._problem(key, "token_realm_hosts", str(error).replace("is not a registry", "is not a host"))
            else:
                hosts.append(host.lower())  # not normalised further: docker.io is not where its tokens come from
        return tuple(dict.fromkeys(hosts))


def _inherit(logins: dict[_Place, Login], said: dict[_Place, set[str]]) -> tuple[Login, ...]:
    """Return the logins with what each takes from the next shorter key, which took its own before."""
    done: dict[_Place, Login] = {}
    for place in sorted(logins, key=lambda place: place[1].count("/") + bool(place[1])):
        registry, namespace = place
        parent = None
        while parent is None and namespace:
            namespace = namespace.rpartition("/")[0]
            parent = done.get((registry, namespace))
        login = logins[place]
        if parent is not None:
            login = replace(login, **{name: getattr(parent, name) for name in _INHERITED if name not in said[place]})
        done[place] = login
    return tuple(done[place] for place in logins)
