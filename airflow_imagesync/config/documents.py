"""Texts and files of a configuration turned into plain data, whichever format they are in."""

from __future__ import annotations

from pathlib import Path

from airflow_imagesync.config.json_text import looks_like_json, read_json, without_comments
from airflow_imagesync.config.plain import MalformedText, check_characters
from airflow_imagesync.config.yaml_text import read_yaml
from airflow_imagesync.errors import ConfigError, Problem

_MAX_BYTES = 64 * 1024 * 1024


def read_document(path: str | Path) -> object:
    """Return the data in the file at `path`.

    The suffix decides between JSON and YAML; with any other suffix the text does. Raises ConfigError with one
    problem for a file that can't be read and for a mistake in the syntax, with line and column.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise _failure(name, "there is no such file; check the path, and that it is on this machine") from None
    except IsADirectoryError:
        raise _failure(name, "found a directory, expected a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _failure(name, f"the file can't be read: {reason}") from None
    if len(content) > _MAX_BYTES:
        raise _failure(name, f"the file is larger than {_MAX_BYTES // 1024 // 1024} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _failure(name, f"line {line} is not UTF-8 text") from None
    return parse_document(text, name=name, suffix=Path(path).suffix)


def parse_document(text: str, *, name: str | None = None, suffix: str = "") -> object:
    """Return the data in `text`: mappings are Table, lists are list, the rest are plain values or Odd.

    Raises ConfigError with one problem, in the file `name`, for a mistake in the syntax or an empty text.
    """
    text = text.removeprefix("\ufeff")
    match suffix.lower():
        case ".json":
            is_json = True
        case ".yaml" | ".yml":
            is_json = False
        case _:
            is_json = looks_like_json(text)
    try:
        check_characters(text)
        document = (read_json if is_json else read_yaml)(text) if text.strip() else None
    except MalformedText as error:
        raise _failure(name, str(error)) from None
    if document is None:
        raise _failure(name, "found nothing, expected a configuration")
    return document


def check_text(text: str, *, name: str | None = None) -> None:
    """Raise ConfigError when `text`, called `name`, has half a character in it."""
    try:
        check_characters(text)
    except MalformedText as error:
        raise _failure(name, str(error)) from None


def with_lines(document: object, text: str) -> object:
    """Return `document`, which was read from `text`, so that it knows its lines where they can be told.

    JSON without comments is YAML, but for rare texts, and YAML's reader knows the lines.
    """
    if not looks_like_json(text):
        return document
    try:
        lined = read_yaml(without_comments(text))
    except MalformedText:
        return document
    return lined if lined == document else document


def _failure(name: str | None, message: str) -> ConfigError:
    return ConfigError([Problem(message, file=name)])
