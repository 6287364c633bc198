"""What a run has asked of a registry so far, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """The numbers of one registry at one moment.

    ``requests`` were sent for it, those to its token service and its storage included; ``retries`` is how often an
    exchange was tried again, or a download resumed; an upload that is begun anew counts at its destination, whichever
    side broke it. ``pulls_left`` is what it said last of its pull limit, None where it says nothing.
    """

    requests: int = 0
    retries: int = 0
    pulls_left: int | None = None

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Return the numbers of several logins as those of their registry; the fewest pulls that any has left."""
        found = list(parts)
        return cls(
            requests=sum(one.requests for one in found),
            retries=sum(one.retries for one in found),
            pulls_left=min((one.pulls_left for one in found if one.pulls_left is not None), default=None),
        )
