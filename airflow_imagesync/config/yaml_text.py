"""YAML turned into plain data with its lines, repeated keys kept, with bounds on nesting and on what aliases repeat.

Built from the parser's events: PyYAML's own composer recurses, in C without a limit, so that a deeply nested
text would end the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from airflow_imagesync.config.plain import MAX_DEPTH, Listing, MalformedText, Odd, Table

# The one of PyYAML's loaders that is written in C, where it was built with libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Ten thousand rules are some 100,000 values; what an alias repeats is counted each time.
_MAX_VALUES = 5_000_000
_MAX_BITS = 256
_TAG = "tag:yaml.org,2002:"
_TAGGED = Odd("a value with a YAML tag (!name)")
# A pair of a mapping and the line of its key.
_Lined = tuple[tuple[object, object], int | None]


def read_yaml(text: str) -> object:
    """Return the data of the one document in `text`, mappings as Table, lists as Listing; raise MalformedText."""
    try:
        return _Reader(text).read()
    except yaml.MarkedYAMLError as error:
        if error.context == "while scanning a simple key":
            # Found out at the end of the next line, or of the text.
            raise _malformed(error.context_mark, "not YAML: a key without a colon behind it") from None
        # PyYAML's Python code quotes the document, which is what may not be shown.
        parts = [re.sub(r"'.*'|\".*\"", "...", part) for part in (error.context, error.problem) if part]
        raise _malformed(error.problem_mark or error.context_mark, f"not YAML: {', '.join(parts)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise MalformedText(f"near line {line}: a character that YAML does not allow") from None


def _malformed(mark: Any, message: str) -> MalformedText:
    """Return the exception for a mistake at `mark`, a position as PyYAML gives it, or None."""
    return MalformedText(f"line {mark.line + 1}, column {mark.column + 1}: {message}" if mark else message)


class _Merge:
    """The key ``<<``."""


_MERGE = _Merge()


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read; a mapping's keys and values alternate in ``items``.

    ``lines`` are those on which the items begin.
    """

    event: Any
    count_before: int
    items: list[object] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.event, yaml.MappingStartEvent)

    @property
    def expects_key(self) -> bool:
        return self.is_mapping and len(self.items) % 2 == 0


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an anchor names, and of how many values it consists; not ``finished`` while it is being read."""

    value: object = None
    size: int = 0
    finished: bool = True


class _Reader:
    """Reads one document; see `read_yaml`."""

    def __init__(self, text: str) -> None:
        self._loader = _Loader(text)
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Anchored] = {}
        self._count = 0
        self._document: object = None

    def read(self) -> object:
        documents = 0
        try:
            while self._loader.check_event():
                event = self._loader.get_event()
                documents += isinstance(event, yaml.DocumentStartEvent)
                if documents > 1:
                    raise _malformed(event.start_mark, "a second document begins; expected one")
                self._take(event)
        finally:
            self._loader.dispose()
        return self._document

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                value = self._scalar(event)
                self._remember(event.anchor, value, 1)
                self._add(value, event, 1)
            case yaml.AliasEvent():
                anchored = self._aliased(event)
                self._add(anchored.value, event, anchored.size)
            case yaml.CollectionStartEvent():
                if len(self._frames) >= MAX_DEPTH:
                    raise _malformed(event.start_mark, f"values are nested more than {MAX_DEPTH} deep")
                if event.anchor is not None:
                    self._anchors[event.anchor] = _Anchored(finished=False)
                self._frames.append(_Frame(event, self._count))
            case yaml.CollectionEndEvent():
                frame = self._frames.pop()
                value = _collection(frame)
                self._remember(frame.event.anchor, value, self._count - frame.count_before + 1)
                self._add(value, frame.event, 1)

    def _remember(self, anchor: str | None, value: object, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, size)

    def _aliased(self, event: Any) -> _Anchored:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise _malformed(
                event.start_mark,
                "an alias (*name) without its anchor (&name); put it in quotes if it is text",
            )
        if not anchored.finished:
            raise _malformed(event.start_mark, "an alias stands inside of what it repeats")
        return anchored

    def _add(self, value: object, event: Any, size: int) -> None:
        self._count += size
        if self._count > _MAX_VALUES:
            raise _malformed(
                event.start_mark, f"more than {_MAX_VALUES} values, counting each time what aliases repeat"
            )
        if self._frames:
            self._frames[-1].items.append(value)
            self._frames[-1].lines.append(event.start_mark.line + 1)
        else:
            self._document = value

    def _scalar(self, event: Any) -> object:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        match tag.removeprefix(_TAG):
            case "str" | "value":
                return event.value
            case "merge":
                return _MERGE if self._frames and self._frames[-1].expects_key else event.value
            case "null":
                return None
            case "bool" | "int" | "float" as kind:
                try:
                    value = self._loader.construct_object(yaml.ScalarNode(tag, event.value))
                except (ValueError, KeyError, IndexError):
                    # "!!int text", or more digits than Python converts.
                    return Odd("a truth value" if kind == "bool" else "a number")
                # 1:1:1:1 is a number to the base of 60, and may be one that can't be shown.
                return value if not isinstance(value, int) or value.bit_length() < _MAX_BITS else Odd("a number")
            case "timestamp":
                return Odd("a date")
        return _TAGGED


def _collection(frame: _Frame) -> object:
    """Return the finished list or mapping."""
    if frame.event.tag not in (None, "!", f"{_TAG}{'map' if frame.is_mapping else 'seq'}"):
        return _TAGGED
    if not frame.is_mapping:
        return Listing(frame.items, frame.lines)
    merged: list[Table] = []
    own: list[_Lined] = []
    for key, value, line in zip(frame.items[::2], frame.items[1::2], frame.lines[::2], strict=True):
        if isinstance(key, _Merge):
            merged += _tables(value, frame)
        else:
            own.append(((key if not isinstance(key, (list, Table)) else Odd("a list or mapping"), value), line))
    pairs = [*_without(merged, (key for (key, _), _ in own)), *own]
    return Table(tuple(pair for pair, _ in pairs), tuple(line for _, line in pairs))


def _tables(value: object, frame: _Frame) -> Iterable[Table]:
    """Yield the mappings that `value`, which stands at ``<<``, names."""
    for table in value if isinstance(value, list) else [value]:
        if not isinstance(table, Table):
            raise _malformed(frame.event.start_mark, "'<<' takes a mapping or a list of mappings")
        yield table


def _without(tables: list[Table], taken: Iterable[object]) -> Iterable[_Lined]:
    """Yield the pairs of `tables` whose key is not `taken`, and in no earlier one of the tables."""
    seen = set(taken)
    for table in tables:
        yield from [one for one in zip(table.pairs, table.lines, strict=True) if one[0][0] not in seen]
        seen.update(key for key, _ in table.pairs)
