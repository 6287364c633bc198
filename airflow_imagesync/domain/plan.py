"""What a run would do: every image with its state, before anything is copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from airflow_imagesync.domain.reference import ImageReference


class PairState(StrEnum):
    """How an image's destination stands to its source."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImagePair:
    """One image to one destination.

    ``rule`` is the rule's 0-based position. ``source`` and ``destination`` are texts because a rule that could
    not be planned stands here with its selection as written. Digests are None where unknown.
    ``filtered_digest`` is the digest the destination will have when a platform filter changes it, else None.
    ``temporary`` says whether a failure may pass by itself, and ``retry_at`` from when on, in POSIX seconds, where the
    registry asked for a longer wait than was sat out.
    """

    rule: int
    source: str
    destination: str
    state: PairState
    source_digest: str | None = None
    destination_digest: str | None = None
    filtered_digest: str | None = None
    error: str | None = None
    temporary: bool = False
    retry_at: float | None = None
    whole_rule: bool = False

    @property
    def images(self) -> tuple[ImageReference, ImageReference]:
        """The source and the destination as references; only where ``whole_rule`` is False."""
        return ImageReference.parse(self.source), ImageReference.parse(self.destination)

    def as_dict(self) -> dict[str, Any]:
        """Return the row of ``plan -o json``."""
        return {
            "rule": self.rule,
            "source": self.source,
            "destination": self.destination,
            "state": self.state.value,
            "source_digest": self.source_digest,
            "destination_digest": self.destination_digest,
            "error": self.error,
        }

    def dump(self) -> dict[str, Any]:
        """Return everything as plain JSON, for XCom; `load` reads it back."""
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def load(cls, row: Mapping[str, Any]) -> ImagePair:
        """Return the image that `dump` wrote."""
        return cls(**{**row, "state": PairState(row["state"])})


@dataclass(frozen=True, slots=True)
class Plan:
    """The images of all rules, in the order of the rules, then of the tags, then of the destinations."""

    images: tuple[ImagePair, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def totals(self) -> dict[str, int]:
        """The number of images in each state."""
        count = Counter(pair.state for pair in self.images)
        return {state.value: count[state] for state in PairState}

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``plan -o json``."""
        return {"images": [pair.as_dict() for pair in self.images], "totals": self.totals}
