"""The shapes a configuration comes in, and where logins, defaults and rules stand in each of them.

Native: ``registries``, ``defaults``, ``rules`` in one file. Image-syncer's: ``auth`` and ``images`` in one
file, ``defaults`` beside them; or a file that is the ``auth`` mapping and one that is the ``images`` mapping.
A text that is no file may also be rules alone: that mapping, a list, or one rule.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from airflow_imagesync.config.line_text import read_lines
from airflow_imagesync.config.plain import Listing, Table, lines_of
from airflow_imagesync.config.rule_lists import listed_rules
from airflow_imagesync.config.schema import describe, listing, shown_key, unknown_key
from airflow_imagesync.errors import Problem

_NATIVE = ("registries", "rules")
_ANCESTOR = ("auth", "images")
_DEFAULTS = "defaults"
_KEYS = (*_NATIVE, _DEFAULTS, *_ANCESTOR)
# What only names of registries and images have in them.
_NAME = re.compile(r"[/:.]")
_NO_RULES = "found no rules, expected at least one"
# Where a file's own keys are names of registries or images, only what can't be one is an extension.
_EXTENSION = re.compile(r"x-[^./:@]*")


@dataclass
class Parts:
    """A configuration taken apart, its parts not looked at yet.

    ``registries`` holds what was under ``registries`` or ``auth``, in the file ``registries_file``; problems
    call it ``registries_key``. ``defaults`` is None where there are none. ``rules`` are mappings as in the
    native form, whatever the shape was, or Malformed; they and the defaults come from ``file``. ``one_a_line`` is
    for rules that are a line each, whose number is then what they are called by.
    """

    file: str | None = None
    registries: Table = field(default_factory=Table)
    registries_file: str | None = None
    registries_key: str = "auth"
    defaults: object = None
    rules: Listing = field(default_factory=Listing)
    one_a_line: bool = False
    problems: list[Problem] = field(default_factory=list)

    def problem(self, message: str, key: str | None = None) -> None:
        """Note a mistake in ``file``."""
        self.problems.append(Problem(message, file=self.file, field=shown_key(key) if key else None))

    def called(self, index: int) -> str:
        """Return what to call the rule at a position in a message."""
        return f"line {self.rules.lines[index]}" if self.one_a_line else f"rule {index}"


def one_file(document: object, file: str | None, *, may_be_empty: bool = False) -> Parts:
    """Take a whole configuration apart, in either spelling.

    `may_be_empty` is whether an empty list or mapping of rules means that there are none, instead of a mistake.
    """
    parts = Parts(file, registries_file=file)
    if not isinstance(document, Table):
        parts.problem(f"found {describe(document)}, expected a mapping with rules, or with auth and images")
        return parts
    values = _top_level(document, parts)
    native, ancestor = ([key for key in keys if key in values] for keys in (_NATIVE, _ANCESTOR))
    if native and ancestor:
        parts.problem(
            f"{ancestor[0]!r} and {native[0]!r} stand in one file; expected either registries and rules, "
            "or auth and images",
            ancestor[0],
        )
        return parts
    parts.defaults = values.get(_DEFAULTS)
    if native:
        parts.registries_key = "registries"
        parts.rules = _rules(values.get("rules"), parts)
    else:
        parts.rules = _images(_table(values.get("images"), "images", parts))
    parts.registries = _table(values.get(parts.registries_key), parts.registries_key, parts)
    key = "images" if ancestor else "rules"
    if not (parts.rules or parts.problems or (may_be_empty and values.get(key) is not None)):
        parts.problem(_NO_RULES, key)
    return parts


def pair(auth: object, auth_file: str | None, images: object, images_file: str | None) -> Parts:
    """Take image-syncer's pair of files apart; `auth` is None where there is no such file."""
    parts = Parts(images_file, registries_file=auth_file)
    if auth is not None:
        if isinstance(auth, Table):
            parts.registries = _without_extensions(auth)
        else:
            message = f"found {describe(auth)}, expected a mapping of registries to their logins"
            parts.problems.append(Problem(message, file=auth_file))
    if not isinstance(images, Table):
        parts.problem(f"found {describe(images)}, expected a mapping of sources to destinations")
        return parts
    _bare_images(images, parts)
    return parts


def form_text(document: object, name: str | None, *, may_be_empty: bool = False) -> Parts:
    """Take apart what one text holds: a whole configuration, or rules alone.

    Rules alone are image-syncer's ``images`` mapping, a list, or one rule of the native form. For `may_be_empty` see
    `one_file`.
    """
    parts = Parts(name, registries_file=name)
    if isinstance(document, list):
        parts.rules = listed_rules(document)
    elif isinstance(document, Table) and {"source", "destination"} <= {key for key, _ in document.pairs}:
        parts.rules = Listing([document], document.lines[:1])
    elif not isinstance(document, Table) or any(_is_part(key, value) for key, value in document.pairs):
        return one_file(document, name, may_be_empty=may_be_empty)
    elif document.pairs:
        _bare_images(document, parts)
    if not (parts.rules or parts.problems or may_be_empty):
        parts.problem(_NO_RULES)
    return parts


def line_text(text: str, name: str | None) -> Parts:
    """Take apart a text with one rule a line."""
    return Parts(name, registries_file=name, rules=read_lines(text), one_a_line=True)


def _is_part(key: object, value: object) -> bool:
    """Whether a key at the top is one of a whole configuration's, perhaps misspelt."""
    if key in (*_NATIVE, *_ANCESTOR):
        return True
    if not isinstance(key, str) or key == _DEFAULTS or isinstance(value, str) or _NAME.search(key):
        return False
    return bool(difflib.get_close_matches(key, _KEYS, n=1))


def _top_level(document: Table, parts: Parts) -> dict[str, object]:
    """Return the known keys of a whole configuration; unknown and repeated ones are problems."""
    values: dict[str, object] = {}
    unknown: list[str] = []
    for key, value in document.pairs:
        if not isinstance(key, str):
            parts.problem(f"found {describe(key)} as a key, expected {listing(_KEYS)}")
        elif key in values:
            parts.problem(f"the key {key!r} is there twice; expected once", key)
        elif key in _KEYS:
            values[key] = value
        elif not key.startswith("x-"):
            unknown.append(key)
    if unknown and not values and all(_NAME.search(key) for key in unknown):
        parts.problem(
            "found names of images or registries as keys, expected rules, or auth and images; image-syncer's "
            "pair of files is given as auth file and images file"
        )
        return values
    for key in unknown:
        parts.problem(unknown_key(key, _KEYS), key)
    return values


def _bare_images(images: Table, parts: Parts) -> None:
    """Fill in `parts` from a mapping of sources to destinations, beside which defaults may stand."""
    rows: list[tuple[object, object]] = []
    lines = []
    for key, value, line in _without_extensions(images).lined_pairs:
        if key != _DEFAULTS or not isinstance(value, Table):
            rows.append((key, value))
            lines.append(line)
        elif parts.defaults is not None:
            parts.problem(f"the key {_DEFAULTS!r} is there twice; expected once", _DEFAULTS)
        else:
            parts.defaults = value
    parts.rules = _images(Table(tuple(rows), tuple(lines)))
    if any(key in _KEYS and isinstance(value, (list, Table)) for key, value in rows):
        parts.problem(
            "this looks like a whole configuration, expected nothing but a mapping of sources to destinations"
        )
        parts.rules = Listing()
    elif not rows:
        parts.problem(_NO_RULES)


def _table(value: object, key: str, parts: Parts) -> Table:
    """Return the mapping at `key`; an empty one where there is none or, with a problem, something else."""
    if isinstance(value, Table):
        return value
    if value is not None:
        parts.problem(f"found {describe(value)}, expected a mapping", key)
    return Table()


def _rules(value: object, parts: Parts) -> Listing:
    if isinstance(value, list):
        return Listing(value, lines_of(value))
    if value is not None:
        parts.problem(f"found {describe(value)}, expected a list of rules", "rules")
    return Listing()


def _images(images: Table) -> Listing:
    rules = [Table((("source", source), ("destination", destination))) for source, destination in images.pairs]
    return Listing(rules, images.lines)


def _without_extensions(table: Table) -> Table:
    kept = [
        (key, value, line)
        for key, value, line in table.lined_pairs
        if not (isinstance(key, str) and _EXTENSION.fullmatch(key))
    ]
    return Table(tuple((key, value) for key, value, _ in kept), tuple(line for _, _, line in kept))
