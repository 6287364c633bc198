"""Environment variables in a configuration: where ``$NAME`` and ``${NAME}`` are replaced, and by what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_imagesync.domain.notation import split_pattern

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"\$(?:({_NAME})|\{{({_NAME})\}})")


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with its variables replaced.

    ``text`` is None where that can't be done: ``unset`` names the variables that are missing, and is empty
    when there is no environment yet.
    """

    text: str | None
    unset: tuple[str, ...] = ()


class Environment:
    """The variables there are, or None for an environment that is not known yet."""

    def __init__(self, variables: Mapping[str, str] | None) -> None:
        self._variables = variables

    @property
    def known(self) -> bool:
        """Whether there are variables to look at."""
        return self._variables is not None

    def get(self, name: str) -> str | None:
        """Return the variable `name`, None when it is not set or empty."""
        return (self._variables or {}).get(name) or None

    def fill_name(self, text: str) -> Filled:
        """Replace the variables in a source or a destination, anywhere but within ``/regex/``.

        A ``$`` that no name follows stays as it is.
        """
        name, pattern = split_pattern(text)
        filled = self._fill(name)
        if filled.text is None or pattern is None:
            return filled
        return Filled(f"{filled.text}:{pattern}")

    def fill_credential(self, text: str) -> Filled:
        """Replace a credential that is one variable and nothing else; any other ``$`` stays as it is."""
        return self._fill(text) if _REFERENCE.fullmatch(text) else Filled(text)

    def _fill(self, text: str) -> Filled:
        names = dict.fromkeys(match[1] or match[2] for match in _REFERENCE.finditer(text))
        if not names:
            return Filled(text)
        variables = self._variables
        if variables is None:
            return Filled(None)
        unset = tuple(name for name in names if name not in variables)
        if unset:
            return Filled(None, unset)
        return Filled(_REFERENCE.sub(lambda match: variables[match[1] or match[2]], text))


def unset_message(names: tuple[str, ...]) -> str:
    """Return what to say about variables that are not set."""
    quoted = ", ".join(repr(name) for name in names)
    return (
        f"the environment variable {quoted} is not set"
        if len(names) == 1
        else f"the environment variables {quoted} are not set"
    )
