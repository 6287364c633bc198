"""The plain data that configuration texts are read into, before anything is known about its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Deeper nesting than any configuration has; it protects against texts that are made to exhaust the stack.
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with its (key, value) pairs in the order written, repeated keys included.

    Repeated keys are kept because a source may stand twice among image-syncer's ``images``. ``lines`` are those
    on which the keys stand, counted from 1 or None; empty where none is known.
    """

    pairs: tuple[tuple[object, object], ...] = ()
    lines: tuple[int | None, ...] = field(default=(), compare=False)

    @property
    def lined_pairs(self) -> list[tuple[object, object, int | None]]:
        """The keys and values with the line of each key, None where it is not known."""
        lines = self.lines or (None,) * len(self.pairs)
        return [(key, value, line) for (key, value), line in zip(self.pairs, lines, strict=True)]


class Listing(list[object]):
    """A list; ``lines`` are those on which its items begin, counted from 1, or None where they are not known."""

    def __init__(self, items: Iterable[object] = (), lines: Sequence[int | None] = ()) -> None:
        super().__init__(items)
        self.lines = lines or (None,) * len(self)


def lines_of(items: list[object]) -> Sequence[int | None]:
    """Return the lines on which the items of any list begin, None for each that is not known."""
    return items.lines if isinstance(items, Listing) else (None,) * len(items)


@dataclass(frozen=True, slots=True)
class Odd:
    """A value that no configuration needs, such as a date; ``kind`` says what it is."""

    kind: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """What stands where a rule should, and is not written as one; ``message`` says what was expected."""

    message: str


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
