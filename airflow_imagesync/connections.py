"""What an Airflow connection says about a registry: reading one without Airflow, and making a Login of it.

Must not import Airflow: the hook hands over a connection's plain values, and the command line reads the
``AIRFLOW_CONN_<ID>`` variables that Airflow itself would read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from airflow_imagesync.domain.login import PROXY_EXPECTED, SETTINGS, Login, is_proxy_setting, with_client_key
from airflow_imagesync.domain.reference import normalise_registry
from airflow_imagesync.errors import ConfigError, InvalidReference, Problem

#: The type of connections that are for registries.
CONN_TYPE = "oci_registry"
#: The parameter of a connection URI that holds all extras as one JSON object.
_EXTRA_PARAMETER = "__extra__"


@dataclass(frozen=True, slots=True)
class ConnectionValues:
    """The values of a connection that matter for a registry; what is not set is None or empty."""

    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    conn_type: str = field(default="", compare=False)


def _nothing_for_blank(value: object) -> object:
    # A form field that was left alone arrives as "" or as a null.
    return None if isinstance(value, str) and not value.strip() else value


def _split_hosts(value: object) -> object:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)):
        return value
    hosts = [one.strip().lower() for one in value if isinstance(one, str) and one.strip()]
    for host in hosts:
        normalise_registry(host)  # raises for what is no host
    return tuple(dict.fromkeys(hosts))


def _check_proxy(value: str | None) -> str | None:
    if value is not None and not is_proxy_setting(value):
        raise ValueError(f"expected {PROXY_EXPECTED}")
    return value


_Blank = BeforeValidator(_nothing_for_blank)


class _Extra(BaseModel):
    """The extra fields of a connection that are known here; others are somebody else's and passed over."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, coerce_numbers_to_str=True)

    insecure: Annotated[bool | None, _Blank] = None
    tls_verify: Annotated[bool | None, _Blank] = None
    ca_file: Annotated[str | None, _Blank] = None
    client_cert: Annotated[str | None, _Blank] = None
    client_key: Annotated[str | None, _Blank] = None
    proxy: Annotated[str | None, _Blank, AfterValidator(_check_proxy)] = None
    identity_token: Annotated[str | None, _Blank] = Field(
        default=None, validation_alias=AliasChoices("identity_token", "identitytoken")
    )
    token_realm_hosts: Annotated[tuple[str, ...], BeforeValidator(_split_hosts)] = ()
    allow_cross_host_upload: Annotated[bool | None, _Blank] = None
    max_concurrent: Annotated[PositiveInt | None, _Blank] = None
    requests_per_second: Annotated[PositiveFloat | None, _Blank] = None
    min_remaining: Annotated[NonNegativeInt | None, _Blank] = None


def variable_of(conn_id: str) -> str:
    """Return the name of the environment variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def connection_from_environment(conn_id: str, environ: Mapping[str, str] | None = None) -> ConnectionValues | None:
    """Return the connection that `environ` (the process's own where None) defines, or None without one.

    Raises ConfigError when the variable holds no connection.
    """
    variable = variable_of(conn_id)
    text = (os.environ if environ is None else environ).get(variable, "").strip()
    if not text:
        return None
    try:
        return _from_json(text) if text.startswith("{") else _from_uri(text)
    except (TypeError, ValueError, RecursionError):
        # The cause is dropped because it may quote a part of the password.
        raise ConfigError(
            f"{variable} holds no connection; expected type://login:password@host:port?key=value with "
            "every part percent-encoded, or a JSON object with host, login, password and extra"
        ) from None


def _from_json(text: str) -> ConnectionValues:
    document = json.loads(text)
    extra = document.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    port = document.get("port")
    texts = {key: document.get(key) or None for key in ("host", "login", "password")}
    if not isinstance(extra, dict) or not all(one is None or isinstance(one, str) for one in texts.values()):
        raise ValueError("a value has the wrong type")
    conn_type = str(document.get("conn_type") or "")
    return ConnectionValues(**texts, port=int(port) if port else None, extra=extra, conn_type=conn_type)


def _from_uri(text: str) -> ConnectionValues:
    # Airflow allows a second scheme, as in "http://https://host", which then belongs to the host.
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise ValueError("no scheme")
    protocol, second, after = rest.partition("://")
    if not second or any(mark in protocol for mark in "@:/?"):
        protocol, after = "", rest
    parts = urlsplit(f"//{after}")
    host = unquote(parts.hostname or "")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = {key: _as_json(value) for key, value in query.items()}
    if _EXTRA_PARAMETER in query:
        extra = json.loads(query[_EXTRA_PARAMETER] or "{}")
        if not isinstance(extra, dict):
            raise ValueError("the extra is no object")
    return ConnectionValues(
        host=(f"{protocol}://{host}" if protocol else host) or None,
        port=parts.port,
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        extra=extra,
        conn_type=scheme.replace("-", "_"),
    )


def _as_json(text: str) -> Any:
    """Return the value of a parameter as Airflow reads it: JSON where it is that, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def login_from_environment(entry: Login, environ: Mapping[str, str] | None = None) -> Login:
    """Return `entry` filled in with the connection it names, which the environment must define.

    Raises ConfigError when it does not, or when the connection does not fit the entry.
    """
    if entry.conn_id is None:
        return entry
    values = connection_from_environment(entry.conn_id, environ)
    if values is None:
        raise connection_problem(
            entry,
            f"connection {entry.conn_id!r} is not known here; set {variable_of(entry.conn_id)}, or use "
            "'airflow imagesync', which also finds the connections that Airflow stores",
        )
    if not values.host and values.conn_type not in ("", CONN_TYPE):
        # What is in it would go to whatever registry a rule names.
        raise connection_problem(
            entry,
            f"connection {entry.conn_id!r} has the type {values.conn_type!r} and no host; expected the type "
            f"{CONN_TYPE!r} or the registry as its host, or use 'airflow imagesync', which knows those of clouds",
        )
    return login_from_connection(
        entry,
        conn_id=entry.conn_id,
        host=values.host,
        port=values.port,
        login=values.login,
        password=values.password,
        extra=values.extra,
    )


def login_from_connection(
    entry: Login,
    *,
    conn_id: str,
    host: str | None,
    port: int | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any] | None,
) -> Login:
    """Return `entry` with what it leaves open filled in from the values of connection `conn_id`.

    What the entry sets wins; the result names no connection any more, and without credentials it means nobody, whatever
    Docker's configuration has. An entry without registry takes the
    connection's host, for callers that have nothing but a connection. Raises ConfigError when an extra has
    the wrong type, when the host is no registry, or when the connection is for another registry than the
    entry: credentials go only to the registry they are for.
    """
    fields = _read_extra(entry, conn_id, extra or {})
    settings = _settings(entry, fields)
    insecure = bool(settings.get("insecure", entry.insecure))
    registry = _registry(entry, conn_id, host, port)
    if (
        registry
        and entry.registry
        and _without_default_port(registry, insecure) != _without_default_port(entry.registry, insecure)
    ):
        raise connection_problem(
            entry,
            f"connection {conn_id!r} is for {registry}, not for {entry.registry}; credentials go only "
            "to the registry they are for",
        )
    # A password and an identity token are two ways to log in: one set by hand is not overruled by the other.
    password = entry.password or (None if entry.identity_token else password or None)
    identity_token = entry.identity_token or (None if entry.password else fields.identity_token)
    return replace(
        entry,
        registry=entry.registry or registry,
        conn_id=None,
        username=entry.username or login or None,
        password=password,
        identity_token=identity_token,
        docker_config=bool(entry.docker_config),
        stated=entry.stated | settings.keys(),
        **settings,
    )


_UNSAID = Login()


def _settings(entry: Login, fields: _Extra) -> dict[str, Any]:
    """Return the settings that a connection says and the entry it fills does not."""
    own = with_client_key(
        name for name in SETTINGS if name in entry.stated or getattr(entry, name) != getattr(_UNSAID, name)
    )
    said = {name: getattr(fields, name, None) for name in SETTINGS if name not in own}
    return {name: value for name, value in said.items() if value not in (None, ())}


def _read_extra(entry: Login, conn_id: str, extra: Mapping[str, Any]) -> _Extra:
    try:
        return _Extra.model_validate(extra)
    except ValidationError as error:
        raise ConfigError(
            [
                Problem(
                    f"connection {conn_id!r}: extra{_field(one['loc'])}: {one['msg']}",
                    field=_place(entry),
                )
                for one in error.errors(include_input=False, include_url=False)
            ]
        ) from None


def _field(place: tuple[int | str, ...]) -> str:
    return f" field {place[0]!r}" if place else ""


def _registry(entry: Login, conn_id: str, host: str | None, port: int | None) -> str:
    """Return the registry that a connection's host and port name, normalised; empty without a host."""
    text = (host or "").strip().rstrip("/")
    if not text:
        return ""
    if text.count(":") > 1 and "[" not in text and "/" not in text:
        text = f"[{text}]"  # Airflow takes the brackets off an IPv6 address
    try:
        if port and not text.endswith(f":{port}"):
            text = f"{text}:{port}"
        return normalise_registry(text)
    except InvalidReference as error:
        raise connection_problem(entry, f"connection {conn_id!r}: host: {error}") from error


def _without_default_port(registry: str, insecure: bool) -> str:
    return normalise_registry(registry.removesuffix(":80" if insecure else ":443"))


def connection_problem(entry: Login, message: str) -> ConfigError:
    """Return the error that `message` about the connection of `entry` makes, with the entry's place."""
    return ConfigError([Problem(message, field=_place(entry))])


def _place(entry: Login) -> str | None:
    return f"registries.{entry.key}" if entry.key else None
