"""JSON with ``//`` and ``/* */`` comments turned into plain data, repeated keys kept."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonc  # type: ignore[import-untyped]

from airflow_imagesync.config.plain import MAX_DEPTH, MalformedText, Odd, Table, check_characters

# Possessive and atomic, because a row of slashes can be cut into comments in very many ways.
_BLANKS = r"(?:\s++|//[^\n]*+|(?>/\*.*?\*/))*+"
_START = re.compile(rf'{_BLANKS}(?:[\[{{]{_BLANKS})++["\]}}]', re.DOTALL)
_STRING = r'("(?:\\.|[^"\\])*")'
_COMMENT = re.compile(_STRING + r"|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[\]}])", re.DOTALL)


def looks_like_json(text: str) -> bool:
    """Whether `text` begins with a brace or bracket and a quote; YAML's own style would leave the quote away."""
    return _START.match(text) is not None


def read_json(text: str) -> object:
    """Return the data in `text`, objects as Table; raise MalformedText."""
    try:
        return _read(text)
    except RecursionError:
        raise MalformedText(f"values are nested more than {MAX_DEPTH} deep") from None


def without_comments(text: str) -> str:
    """Return `text` with blanks in the place of comments and last commas, so that every position stays."""
    return _LAST_COMMA.sub(_blank, _COMMENT.sub(_blank, text))


def _read(text: str) -> object:
    try:
        return _load(json.loads, text)  # quick, and right for most files
    except json.JSONDecodeError:
        pass
    try:
        return _load(jsonc.loads, text)
    except json.JSONDecodeError as error:
        found = error
    # jsonc takes comments out together with their line ends, so its positions are not those of the text. With
    # blanks in the place of comments the plain parser stumbles over the same mistake, at the right place.
    try:
        json.loads(without_comments(text))
    except json.JSONDecodeError as error:
        raise MalformedText(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    raise MalformedText(f"not JSON: {found.msg}")


def _load(loads: Any, text: str) -> object:
    return loads(
        text,
        object_pairs_hook=_table,
        parse_int=_integer,
        parse_constant=lambda name: Odd(f"the number {name}"),
    )


def _table(pairs: list[tuple[str, object]]) -> Table:
    for pair in pairs:
        for text in pair:
            _check_texts(text)
    return Table(tuple(pairs))


def _check_texts(value: object) -> None:
    """Raise MalformedText for half a character, which JSON can write as an escape such as ``\\ud800``."""
    if isinstance(value, str):
        check_characters(value)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _integer(digits: str) -> object:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return Odd("a number without end")


def _blank(match: re.Match[str]) -> str:
    """Return a string as it is, and anything else as blanks of the same length with the same line ends."""
    return match[1] or re.sub(r"[^\r\n]", " ", match[0])
