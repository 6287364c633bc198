"""YAML and JSON texts as nodes that know where in the text they stand.

Built from the parser's events: PyYAML's own composer recurses, in C without a limit, so that a deeply nested text would
end the process. What an anchor names is one node, however often it is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

MAX_DEPTH = 200
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
#: Anchors and tags before a value, with the space, line breaks and comments behind each.
_PROPERTIES = re.compile(r"(?:(?:&[^\s,\[\]{}]+|!<[^>]*>|![^\s,\[\]{}]*)(?:\s+(?:#[^\r\n]*)?)*)*")
#: In JSON, escapes of half a character, which YAML knows as whole ones only; found among all escapes, so that the
#: second half of an escaped backslash is not taken for the beginning of one.
_JSON_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)
#: What may be in a text of JSON, and in YAML is not allowed there or ends a line.
_NOT_IN_IMAGES = re.compile(r"[^\r\n\x20-\x7e]")


class MalformedText(Exception):
    """A text that is neither YAML nor JSON, or nested too deeply; ``line`` counts from one."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A value; ``start`` and ``end`` enclose it without its anchor and tag, in characters of the text.

    ``style`` is a quote, ``|`` or ``>``, or empty for a plain one. A plain value may be a number, a truth value or
    nothing: ``is_text`` and ``is_null`` tell.
    """

    value: str
    start: int
    end: int
    style: str
    is_text: bool
    is_null: bool


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A mapping with its pairs as written, merged ones (``<<``) not resolved."""

    start: int
    end: int
    pairs: list[tuple[Node, Node]]

    def find(self, key: str) -> Node | None:
        """Return the value of a key, its own before one that is merged; None when it is not there."""
        waiting, seen = [self], {id(self)}
        while waiting:
            mapping = waiting.pop(0)
            merged: list[Node] = []
            for name, value in mapping.pairs:
                if isinstance(name, Scalar):
                    if name.value == key:
                        return value
                    if name.value == "<<" and not name.style:
                        merged += value.items if isinstance(value, Sequence) else [value]
            for node in merged:
                if isinstance(node, Mapping) and id(node) not in seen:
                    seen.add(id(node))
                    waiting.append(node)
        return None

    def text(self, key: str) -> str | None:
        """Return the value of a key when it is a text."""
        node = self.find(key)
        return node.value if isinstance(node, Scalar) and node.is_text else None


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list."""

    start: int
    end: int
    items: list[Node]


Node: TypeAlias = Scalar | Mapping | Sequence


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read; a mapping's keys and values alternate in ``items``."""

    event: Any
    items: list[Node] = field(default_factory=list)


def read_nodes(text: str, *, is_json: bool = False) -> list[Node]:
    """Return the documents of `text`, which begins with no byte order mark; raise MalformedText."""
    readable = _as_yaml(text) if is_json else text
    try:
        return list(_documents(text, _Loader(readable)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = [part for part in (error.context, error.problem) if part]
        raise MalformedText(1 if mark is None else mark.line + 1, ", ".join(parts)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise MalformedText(line, "a character that YAML does not allow") from None


def _as_yaml(text: str) -> str:
    """Return JSON of the same length, changed where YAML would not have it and no image can be."""
    whole = _JSON_ESCAPE.sub(lambda found: r"\u0020" if found[0][:3].lower() == r"\ud" else found[0], text)
    return _NOT_IN_IMAGES.sub("?", whole.replace("\t", " "))


def content_span(text: str, node: Scalar) -> tuple[int, int] | None:
    """Return where the value of `node` stands, in its quotes if it has any, and of a block without the rest of it.

    None for a value that is spread over several lines: there is no one place then.
    """
    written = text[node.start : node.end]
    if node.style in ("'", '"'):
        return (node.start, node.end) if written[:1] == written[-1:] == node.style else None
    if not node.style:
        return (node.start, node.end) if written == node.value else None
    value, header = node.value.strip(), text.find("\n", node.start, node.end)
    start = text.find(value, header, node.end) if value and header >= 0 else -1
    return (start, start + len(value)) if start >= 0 else None


def _documents(text: str, loader: Any) -> Iterator[Node]:
    frames: list[_Frame] = []
    anchors: dict[str, Node | None] = {}
    try:
        while loader.check_event():
            event = loader.get_event()
            line: int = event.start_mark.line + 1
            node: Node
            match event:
                case yaml.DocumentStartEvent():
                    anchors.clear()
                    continue
                case yaml.CollectionStartEvent():
                    if len(frames) >= MAX_DEPTH:
                        raise MalformedText(line, f"nested more than {MAX_DEPTH} deep")
                    if event.anchor is not None:
                        anchors[event.anchor] = None
                    frames.append(_Frame(event))
                    continue
                case yaml.ScalarEvent():
                    node = _scalar(text, loader, event)
                    if event.anchor is not None:
                        anchors[event.anchor] = node
                case yaml.AliasEvent():
                    node = _aliased(anchors, event)
                case yaml.CollectionEndEvent():
                    frame = frames.pop()
                    node = _collection(frame, event)
                    if frame.event.anchor is not None:
                        anchors[frame.event.anchor] = node
                case _:
                    continue
            if frames:
                frames[-1].items.append(node)
            else:
                yield node
    finally:
        loader.dispose()


def _scalar(text: str, loader: Any, event: Any) -> Scalar:
    start, end = event.start_mark.index, event.end_mark.index
    if event.anchor is not None or event.tag is not None:
        found = _PROPERTIES.match(text, start, end)
        start = found.end() if found else start
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    # The parser in Python says None where that in C says "".
    return Scalar(event.value, start, end, event.style or "", tag == _STRING, tag == _NULL)


def _aliased(anchors: dict[str, Node | None], event: Any) -> Node:
    node = anchors.get(event.anchor)
    if node is None:
        problem = "an alias inside of what it repeats" if event.anchor in anchors else "an alias without its anchor"
        raise MalformedText(event.start_mark.line + 1, problem)
    return node


def _collection(frame: _Frame, end: Any) -> Node:
    start = frame.event.start_mark.index
    if isinstance(frame.event, yaml.SequenceStartEvent):
        return Sequence(start, end.end_mark.index, frame.items)
    return Mapping(start, end.end_mark.index, list(zip(frame.items[::2], frame.items[1::2], strict=True)))
