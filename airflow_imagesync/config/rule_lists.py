"""Lists of rules as a task returns them: mappings, pairs, texts, or lists of these joined."""

from __future__ import annotations

from airflow_imagesync.config.line_text import rule_of
from airflow_imagesync.config.plain import Listing, Malformed, Table, lines_of
from airflow_imagesync.config.schema import describe

_EXPECTED = (
    "expected a mapping with source and destination, a pair [source, destination] or a text 'source destination'"
)


def listed_rules(items: list[object]) -> Listing:
    """Return the rules in a list, each a Table, or Malformed where it is written in no known way.

    A list of rules, or of nothing, in the list counts as its rules: so does a mapped task return them.
    """
    rules: list[object] = []
    lines: list[int | None] = []
    for item, line in zip(items, lines_of(items), strict=True):
        if isinstance(item, list) and all(isinstance(one, Table) for one in item):
            rules += item
            lines += lines_of(item)
        else:
            rules.append(_rule(item))
            lines.append(line)
    return Listing(rules, lines)


def _rule(item: object) -> Table | Malformed:
    """Return the rule that an item says."""
    match item:
        case Table():
            return item
        case str():
            return rule_of(item) if item.strip() else Malformed(f"found an empty text, {_EXPECTED}")
        case [source, destination]:
            return Table((("source", source), ("destination", destination)))
        case list():
            return Malformed(f"found a list of {len(item)}, {_EXPECTED}")
    return Malformed(f"found {describe(item)}, {_EXPECTED}")
