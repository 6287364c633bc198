"""Where in a text that stands which a problem is about."""

from __future__ import annotations

from dataclasses import replace

from airflow_imagesync.config.plain import Table
from airflow_imagesync.config.schema import shown_key
from airflow_imagesync.config.shapes import Parts
from airflow_imagesync.errors import Problem

#: What problems say of their place: the rule and the field.
_Place = tuple[int | None, str | None]


class Places:
    """The lines of what one text holds: the `document` as it was read, and the same taken apart."""

    def __init__(self, document: object, parts: Parts) -> None:
        self._parts = parts
        self._lines: dict[_Place, int] = {}
        self._add_keys(None, "", document)
        self._add_keys(None, f"{parts.registries_key}.", parts.registries, depth=2)
        self._add_keys(None, "defaults.", parts.defaults, depth=2)
        for index, (rule, line) in enumerate(zip(parts.rules, parts.rules.lines, strict=True)):
            self._add((index, None), line)
            self._add_keys(index, "", rule)

    def told(self, problem: Problem) -> Problem:
        """Return `problem` with its line, as far as that is known; where a rule is a line, that alone names it."""
        if problem.file != self._parts.file:
            return problem  # about what was said on top of the text
        line = self._line(problem.rule, problem.field)
        if line is not None and self._parts.one_a_line:
            return replace(problem, line=line, rule=None)
        return replace(problem, line=line)

    def _line(self, rule: int | None, field: str | None) -> int | None:
        """Return the line of a field, or of what it should be in."""
        while field and (rule, field) not in self._lines:
            field = field.rpartition(".")[0]
        return self._lines.get((rule, field or None))

    def _add_keys(self, rule: int | None, prefix: str, value: object, *, depth: int = 1) -> None:
        if not isinstance(value, Table):
            return
        for key, item, line in value.lined_pairs:
            if isinstance(key, str):
                name = f"{prefix}{shown_key(key)}"
                self._add((rule, name), line)
                if depth > 1:
                    self._add_keys(rule, f"{name}.", item, depth=depth - 1)

    def _add(self, place: _Place, line: int | None) -> None:
        if line is not None:
            self._lines[place] = line
