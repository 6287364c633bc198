"""What the parts of a configuration may hold: keys, types and bounds, checked by pydantic."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from airflow_imagesync.config.plain import Odd, Table
from airflow_imagesync.domain.reference import quoted

MAX_CONCURRENCY = 256
MAX_RETRIES = 20
#: What stands at these keys is never shown.
_SECRET = frozenset({"username", "password", "identitytoken", "proxy"})
_BOUNDS = {
    "max_concurrent": "a whole number of at least 1",
    "requests_per_second": "a number above 0",
    "min_remaining": "a whole number of at least 0",
    "concurrency": f"a whole number from 1 to {MAX_CONCURRENCY}",
    "retries": f"a whole number from 0 to {MAX_RETRIES}",
    "full_check_every": "a whole number of at least 1",
    "min_rate": "a number of bytes a second, 0 for no limit",
}


class _Entry(BaseModel):
    """A mapping with known keys only, in which null means not set and no type is converted to another."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class RegistryEntry(_Entry):
    """What an ``auth`` or ``registries`` key holds."""

    conn_id: Annotated[str, Field(min_length=1)] | None = None
    username: str | None = Field(default=None, repr=False)
    password: str | None = Field(default=None, repr=False)
    identitytoken: str | None = Field(default=None, repr=False)
    insecure: bool | None = None
    tls_verify: bool | None = None
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    client_cert: Annotated[str, Field(min_length=1)] | None = None
    client_key: Annotated[str, Field(min_length=1)] | None = None
    proxy: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    requests_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    min_remaining: Annotated[int, Field(ge=0)] | None = None
    token_realm_hosts: list[str] | None = None
    allow_cross_host_upload: bool | None = None
    create_repositories: bool | None = None
    docker_config: bool | None = None


class DefaultsEntry(_Entry):
    """What ``defaults`` holds."""

    registry: str | None = None
    namespace: str | None = None
    platforms: list[str] | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] | None = None
    timeouts: Any = None
    docker_config: Any = None
    credential_helpers: bool | None = None
    trust_records: bool | None = None
    full_check_every: Annotated[int, Field(ge=1)] | None = None


_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TimeoutsEntry(_Entry):
    """What ``timeouts`` holds."""

    connect: _Seconds | None = None
    read: _Seconds | None = None
    write: _Seconds | None = None
    commit: _Seconds | None = None
    slow: _Seconds | None = None
    min_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class RuleEntry(_Entry):
    """What one of ``rules`` holds; one of ``images`` has the first two, which no rule may lack."""

    source: str | None = None
    destination: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    platforms: list[str] | None = None
    allow_empty: bool | None = None
    force: bool | None = None
    trust_records: bool | None = None


EntryType = TypeVar("EntryType", bound=_Entry)
#: A key, None where the whole mapping is meant, and what is wrong there.
Wrong = tuple[str | None, str]


def read_entry(kind: type[EntryType], value: object) -> tuple[EntryType, list[Wrong]]:
    """Return what is right of `value` as a `kind`, and what is wrong; keys that begin with ``x-`` are left out."""
    known = kind.model_fields
    if not isinstance(value, Table):
        return kind(), [(None, f"found {describe(value)}, expected a mapping with {listing(known)}")]
    wrong: list[Wrong] = []
    values: dict[str, object] = {}
    for key, item in value.pairs:
        if not isinstance(key, str):
            wrong.append((None, f"found {describe(key)} as a key, expected {listing(known)}"))
        elif key in values:
            wrong.append((shown_key(key), f"the key {quoted(key)} is there twice; expected once"))
        elif not key.startswith("x-"):
            values[key] = item
    try:
        return kind.model_validate(values), wrong
    except ValidationError as error:
        told = [_told(kind, details) for details in error.errors(include_url=False)]
    bad = {name for name, _ in told}
    right = {key: item for key, item in values.items() if key in known and key not in bad}
    return kind.model_validate(right), [*wrong, *told]


def describe(value: object, *, secret: bool = False) -> str:
    """Return what to call a wrong value in a message; a `secret` one is named by its type only."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a truth value" if secret else f"the truth value {str(value).lower()}"
        case int() | float():
            return "a number" if secret else f"the number {str(value)[:40]}"
        case str():
            return "a text" if secret else f"the text {quoted(value)}"
        case list():
            return "a list" if value else "an empty list"
        case Odd(kind):
            return kind
    return "a mapping"


def shown_key(key: str) -> str:
    """Return a key as it can stand in a message: on one line, shortened, without a login in it."""
    return quoted(key).replace("'", "")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return what to say about a key that is none of the `known` ones."""
    known = list(known)
    word = key.lower().replace("-", "_")
    close = difflib.get_close_matches(word, known)
    # Of "registry" and "retries", "retry" begins like the second.
    close.sort(key=lambda one: not one.startswith(word[:4]))
    hint = f"did you mean {close[0]!r}?" if close else f"expected {listing(known)}"
    return f"unknown key {quoted(key)}; {hint}"


def listing(words: Iterable[str]) -> str:
    """Return `words` joined by commas and an "or"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _told(kind: type[_Entry], details: ErrorDetails) -> tuple[str, str]:
    """Return the key and the message for one of pydantic's errors."""
    key, *inside = details["loc"]
    name = str(key)
    if details["type"] == "extra_forbidden":
        return shown_key(name), unknown_key(name, kind.model_fields)
    found = describe(details["input"], secret=name in _SECRET)
    where = f" at position {inside[0]}" if inside else ""
    return name, f"found {found}{where}, expected {_expected(name, details)}"


def _expected(key: str, details: ErrorDetails) -> str:
    """Return what one of pydantic's errors asks for."""
    value = details["input"]
    # YAML reads 1.10 and 0123 as other numbers than are written there, so they are not taken for texts.
    quotes = "" if value is None or isinstance(value, (list, Table)) else "; put it in quotes"
    match details["type"]:
        case "string_type":
            return f"a text{quotes}"
        case "bool_type":
            return "true or false"
        case "int_type" | "float_type" | "greater_than" | "greater_than_equal" | "less_than_equal" | "finite_number":
            return _BOUNDS.get(key, "a number of seconds above 0")
        case "list_type":
            return f"a text or a list of texts{quotes}" if key == "destination" else "a list of texts"
        case "too_short":
            return "at least one text"
        case "string_too_short":
            return "a text that is not empty"
    return details["msg"]
