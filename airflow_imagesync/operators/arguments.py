"""What operators' arguments come out as: templates make text of everything, and nothing of some."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_imagesync.errors import ConfigError

_BOOL = TypeAdapter(bool)
_COUNT = TypeAdapter(int)


def said(value: object) -> str | None:
    """
    Return the text that an argument came out as; None when it says nothing.

    A list or mapping, such as what another task returned, comes out as JSON.

    :param value: the argument: a text, or what a template that gives native objects made of one
    :raises ConfigError: for a list or mapping with something in it that JSON can't say
    """
    if value is None or isinstance(value, str):
        text = (value or "").strip()
        return None if text in ("", "None") else value
    if not isinstance(value, (Mapping, Sequence)) or isinstance(value, (bytes, bytearray)):
        return str(value)
    try:
        return json.dumps(value, default=_plain)
    except ConfigError:  # which is a ValueError, too
        raise
    except TypeError:
        raise ConfigError("found a key that is no text in a mapping, expected texts as keys") from None
    except (ValueError, RecursionError):
        raise ConfigError("found a list or mapping inside of itself, expected plain lists and mappings") from None


def _plain(value: object) -> object:
    """Return what JSON can say of a value that is neither a list nor a dict; raise ConfigError where it can't."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return list(value)  # such as what a mapped task returned
    if isinstance(value, PurePath):
        return str(value)
    raise ConfigError(f"found a {type(value).__name__} in a list or mapping, expected texts, numbers, lists, mappings")


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


def as_count(value: object, name: str) -> int | None:
    """
    Return a whole number that a template may have turned into text; None for nothing.

    :param value: the argument
    :param name: its name, for the message
    :raises ConfigError: when it is no whole number
    """
    text = said(value)
    try:
        return None if text is None else _COUNT.validate_python(text.strip())
    except ValidationError as error:
        raise ConfigError(f"{name}: {value!r} is not a whole number") from error


def as_names(value: object) -> list[str]:
    """
    Return the names in a list, in a text with commas, or in a list that a template turned into text.

    :param value: the argument
    """
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return re.findall(r"[^\s,'\"\[\]]+", said(value) or "")


def plain_path(path: Any) -> Any:
    """
    Return a path as text, and anything else as it is.

    :param path: a path as a DAG's author may give it: a text, a Path, or what another task will return
    """
    return str(path) if isinstance(path, PurePath) else path
