"""Rules written one ``source destination`` a line: which texts are, and what a line says.

Blank lines and lines that begin with ``#`` are nothing; a ``#`` behind a blank begins a comment, too. Several
destinations have blanks, or a comma and blanks, between them. ``""`` is the empty destination. The expression in
``source:/expression/`` ends with the first slash that a blank follows, and may hold anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_imagesync.config.json_text import looks_like_json
from airflow_imagesync.config.plain import Listing, Malformed, MalformedText, Table

# What a YAML or JSON text begins with where it does not begin with a key, and no name of an image does.
_SIGNS = frozenset("{}[]\"'&*!|>%@`?-~,")
_LINE_END = re.compile(r"\r\n?|\n")
_PATTERN_END = re.compile(r"/:?(?=\s|$)")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.DOTALL)
_SEPARATOR = re.compile(r"\s*,\s+|\s+")
_EMPTY = ('""', "''")


def looks_like_lines(text: str) -> bool:
    """Whether `text` is rules one a line, and no YAML or JSON.

    Its first line that says something decides: it must begin with a name, and no colon may be behind that. A text
    that begins like JSON behind JSON's comments is JSON.
    """
    line = next((line for _, line in _said(text)), "")
    if not line or line[0] in _SIGNS or looks_like_json(text):
        return False
    source, rest = _split(line)
    return not (source.endswith(":") or rest.startswith(":"))


def read_lines(text: str) -> Listing:
    """Return a rule for each line of `text` that says something: a Table, or Malformed."""
    lines = list(_said(text))
    return Listing([rule_of(line) for _, line in lines], [number for number, _ in lines])


def rule_of(line: str) -> Table | Malformed:
    """Return the rule that a line says, as a mapping with ``source`` and ``destination``."""
    try:
        source, destinations = _read(line.strip())
    except MalformedText as error:
        return Malformed(str(error))
    return Table((("source", source), ("destination", Listing(destinations))))


def _said(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, without blanks around them, with their numbers from 1."""
    for number, whole in enumerate(_LINE_END.split(text), 1):
        line = whole.strip()
        if line and not line.startswith("#"):
            yield number, line


def _split(line: str) -> tuple[str, str]:
    """Return the source that `line` begins with, and what is behind it."""
    first = line.split(maxsplit=1)[0] if line else ""
    end = len(first)
    begin = first.find(":/")
    if begin >= 0 and (found := _PATTERN_END.search(line, begin + 2)):
        end = found.end()
    return line[:end], line[end:].strip()


def _read(line: str) -> tuple[str, list[str]]:
    """Return the source and the destinations in a line; raise MalformedText, which shows nothing of it."""
    source, rest = _split(line)
    rest = _COMMENT.sub("", rest).rstrip()
    if source[0] in _SIGNS:
        raise MalformedText("found a sign that no name begins with, expected source and destination")
    if source.endswith(":") or rest.startswith(":"):
        raise MalformedText("found a colon behind the first word, expected nothing but a blank behind the source")
    if source.endswith(",") or rest.startswith(","):
        raise MalformedText(
            "found a comma behind the first word, expected nothing but a blank behind the source; several tags have a "
            "comma and no blank between them"
        )
    if not rest:
        raise MalformedText(
            'found one word, expected source and destination with a blank between them ("" for the default destination)'
        )
    if rest.endswith(","):
        raise MalformedText("found a comma at the end of the line, expected another destination behind it")
    destinations = ["" if one in _EMPTY else one for one in _SEPARATOR.split(rest)]
    for one in destinations[1:]:
        # Of "host/app:v1, v2" the second would be an image of Docker Hub.
        if one and not {"/", "$"} & set(one):
            raise MalformedText(
                "found a further destination without a slash, expected registry/repository; several tags have a "
                "comma and no blank between them"
            )
    return source, destinations
