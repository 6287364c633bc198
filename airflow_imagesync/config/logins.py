"""The entries under ``auth`` or ``registries`` turned into logins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from airflow_imagesync.config.environment import Environment, unset_message
from airflow_imagesync.config.plain import Table
from airflow_imagesync.config.schema import RegistryEntry, describe, read_entry, shown_key
from airflow_imagesync.domain.login import PROXY_EXPECTED, SETTINGS, Login, is_proxy_setting, with_client_key
from airflow_imagesync.domain.reference import Repository, check_no_scheme, normalise_registry, quoted
from airflow_imagesync.errors import InvalidReference, Problem

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
        return _inherit(logins)

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
        if entry.docker_config and (given or entry.conn_id):
            self._problem(key, "docker_config", "docker_config stands beside a login; expected one of the two")
        if entry.client_key is not None and entry.client_cert is None:
            self._problem(key, "client_key", "client_key stands without client_cert; expected both")
        of_tls = [name for name in ("ca_file", "tls_verify", "client_cert") if getattr(entry, name) is not None]
        if entry.insecure and of_tls:
            other = of_tls[0]
            self.warnings.append(f"{self._name}.{shown_key(key)}: {other} has no effect, as insecure means plain HTTP")
        elif entry.tls_verify is False and entry.ca_file:
            self.warnings.append(f"{self._name}.{shown_key(key)}: ca_file has no effect, as tls_verify is false")
        return Login(
            key,
            conn_id=entry.conn_id,
            username=credentials["username"],
            password=credentials["password"],
            identity_token=credentials["identitytoken"],
            docker_config=entry.docker_config,
            insecure=bool(entry.insecure),
            tls_verify=entry.tls_verify is not False,
            ca_file=self._pem_file(key, "ca_file", entry.ca_file, "CA certificates"),
            client_cert=self._pem_file(key, "client_cert", entry.client_cert, "a certificate"),
            client_key=self._pem_file(key, "client_key", entry.client_key, "a private key"),
            proxy=self._proxy(key, entry.proxy),
            max_concurrent=entry.max_concurrent,
            requests_per_second=entry.requests_per_second,
            min_remaining=entry.min_remaining or 0,
            token_realm_hosts=self._realm_hosts(key, entry.token_realm_hosts or []),
            allow_cross_host_upload=bool(entry.allow_cross_host_upload),
            create_repositories=bool(entry.create_repositories),
            stated=frozenset(name for name in SETTINGS if getattr(entry, name) is not None),
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

    def _proxy(self, key: str, written: str | None) -> str | None:
        """Return the address of a proxy, with its variable filled in: its user and password may be part of it."""
        text = self._credential(key, "proxy", written)
        if text is None or not self._environment.known or is_proxy_setting(text):
            return text
        self._problem(key, "proxy", f"this is no address of a proxy; expected {PROXY_EXPECTED}")
        return None

    def _pem_file(self, key: str, field: str, written: str | None, what: str) -> str | None:
        """Return the path of a PEM file, absolute where the folder of the configuration is known."""
        if written is None:
            return None
        path = Path(written)
        if self._folder is not None:
            path = self._folder.absolute() / path
        elif not path.is_absolute():
            self._problem(key, field, f"found {quoted(written)}, expected an absolute path in a text without file")
            return None
        if self._environment.known:
            try:
                with path.open("rb"):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self._problem(
                    key,
                    field,
                    f"{quoted(str(path))} can't be read ({reason}); expected {what} (PEM)",
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


def _inherit(logins: dict[_Place, Login]) -> tuple[Login, ...]:
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
            own = with_client_key(login.stated)
            taken = {name: getattr(parent, name) for name in SETTINGS if name not in own}
            login = replace(login, stated=login.stated | parent.stated, **taken)
        done[place] = login
    return tuple(done[place] for place in logins)
