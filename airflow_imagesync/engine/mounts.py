"""What a registry lets be mounted: everything, only what a manifest refers to, or nothing."""

from __future__ import annotations

import re
import threading
from collections import Counter
from enum import Enum

#: Amazon's registries mount only blobs that a manifest refers to (aws/containers-roadmap#2860).
_ECR = re.compile(r"[0-9]+\.dkr[.-]ecr[.-].*\.(amazonaws\.com(\.cn)?|on\.aws)")
#: So many refusals without a single success mean that nothing is ever mounted.
_ENOUGH = 3


class Mounting(Enum):
    """What a registry mounts."""

    ANYTHING = "anything"
    REFERENCED = "referenced"
    NOTHING = "nothing"


class Mounts:
    """Learns what each registry mounts; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mounted: Counter[tuple[str, bool]] = Counter()
        self._refused: Counter[tuple[str, bool]] = Counter()

    def of(self, registry: str) -> Mounting:
        """Return what `registry` is known to mount."""
        with self._lock:
            if self._refused[registry, True] >= _ENOUGH and not self._mounted[registry, True]:
                return Mounting.NOTHING
            if self._mounted[registry, False]:
                return Mounting.ANYTHING
            if self._refused[registry, False] or _ECR.fullmatch(registry):
                return Mounting.REFERENCED
            return Mounting.ANYTHING

    def learn(self, registry: str, *, referenced: bool, mounted: bool) -> None:
        """Note what came of mounting a blob that is surely there, and whether a manifest refers to it there."""
        with self._lock:
            (self._mounted if mounted else self._refused)[registry, referenced] += 1
