"""The plain data that configuration texts are read into, before anything is known about its meaning."""

from __future__ import annotations

from dataclasses import dataclass

#: Deeper nesting than any configuration has; it protects against texts that are made to exhaust the stack.
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with its (key, value) pairs in the order written, repeated keys included.

    Repeated keys are kept because a source may stand twice among image-syncer's ``images``.
    """

    pairs: tuple[tuple[object, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Odd:
    """A value that no configuration needs, such as a date; ``kind`` says what it is."""

    kind: str


class MalformedText(Exception):
    """A mistake in the syntax of a text, told with its line and column but without anything from the text.

    What stands there may be a password that should have been put in quotes.
    """


def check_characters(text: str) -> None:
    """Raise MalformedText when `text` has half a character in it, which nothing behind us can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedText("a text has half a character (a lone surrogate)") from None
