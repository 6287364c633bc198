"""How long to wait for a registry: the bounds of every wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds, and how slow is too slow.

    ``connect`` for a connection; ``read`` for the next piece of an answer; ``write`` for the peer to take the next
    piece of a body, at most 256 KiB; ``commit`` for the answer to a whole blob, which a registry may first have to
    move and verify (GHCR takes 5 to 11 s for 700 MB). An answer that has begun and then brings less than ``min_rate``
    bytes a second over ``slow`` seconds of waiting for it is given up: a peer that drips is as good as a silent one.
    """

    connect: float = 10.0
    read: float = 60.0
    write: float = 90.0
    commit: float = 600.0
    slow: float = 300.0
    min_rate: float = 1024.0
