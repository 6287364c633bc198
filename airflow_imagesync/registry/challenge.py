"""Reading WWW-Authenticate headers (RFC 9110 section 11.6.1).

Several challenges may stand in one header or in several, with parameters quoted or not, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*')
_SCHEME = re.compile(rf"\s*({_WORD})(?=\s|,|$)\s*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_MAX_LENGTH = 16 * 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers: the scheme in lower case and its parameters, names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all WWW-Authenticate headers of an answer; what can't be read is passed over."""
    challenges: list[Challenge] = []
    for header in headers:
        text = header[:_MAX_LENGTH]
        position = 0
        while position < len(text):
            if text[position] in ", \t":
                position += 1
                continue
            parameter = _PARAMETER.match(text, position)
            if parameter is not None and challenges:
                value = parameter[2] if parameter[2] is not None else parameter[3]
                value = re.sub(r"\\(.)", r"\1", value)
                challenges[-1].parameters.setdefault(parameter[1].lower(), value)
                position = parameter.end()
                continue
            scheme = _SCHEME.match(text, position)
            if scheme is None:
                break
            challenges.append(Challenge(scheme[1].lower()))
            position = scheme.end()
            token = _TOKEN68.match(text, position)
            if token is not None:
                position = token.end()
    return challenges
