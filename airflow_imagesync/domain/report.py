"""What a run did: every image with its result, and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class ResultState(StrEnum):
    """What became of an image."""

    COPIED = "copied"
    SAME = "same"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What became of one image at one destination.

    ``source`` and ``destination`` are full references, or for a rule that could not be planned its source as
    written and the destination repository. ``digest`` is the destination's. Bytes are those of blobs,
    configurations included, credited to the image that moved them. ``seconds`` is the time from when work on the image
    began to its end. ``temporary`` says whether a failure may pass by itself, and ``retry_at`` from when on, in POSIX
    seconds, where the registry asked for a longer wait than was sat out; ``note`` states what a person should know
    about a success, such as a digest that a platform filter changed.
    """

    rule: int
    source: str
    destination: str
    state: ResultState
    source_digest: str | None = None
    digest: str | None = None
    bytes_copied: int = 0
    bytes_mounted: int = 0
    bytes_skipped: int = 0
    seconds: float = 0.0
    error: str | None = None
    temporary: bool = False
    retry_at: float | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row of ``run -o json``."""
        row = asdict(self)
        row["state"] = self.state.value
        row["seconds"] = round(self.seconds, 3)
        del row["temporary"], row["retry_at"], row["note"]
        return row

    def dump(self) -> dict[str, Any]:
        """Return everything as plain JSON, for XCom; `load` reads it back."""
        return {**self.as_dict(), "temporary": self.temporary, "retry_at": self.retry_at, "note": self.note}

    @classmethod
    def load(cls, row: Mapping[str, Any]) -> ImageResult:
        """Return the result that `dump` or `as_dict` wrote; keys of later releases are passed over."""
        known = {one.name for one in fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        return cls(**{**values, "state": ResultState(values["state"])})


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The results of a run, in the order of the rules, and how long it took (wall seconds).

    ``failing`` says for a rule's source, as written in its failed rows, in how many runs in a row it has been failing,
    this one included, where earlier reports told.
    """

    images: tuple[ImageResult, ...] = ()
    seconds: float = 0.0
    failing: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[ImageResult, ...]:
        """The images that failed."""
        return tuple(one for one in self.images if one.state is ResultState.FAILED)

    @property
    def totals(self) -> dict[str, Any]:
        """The number of images in each state, the bytes, and the seconds."""
        count = Counter(one.state for one in self.images)
        totals: dict[str, Any] = {state.value: count[state] for state in ResultState}
        for key in ("bytes_copied", "bytes_mounted", "bytes_skipped"):
            totals[key] = sum(getattr(one, key) for one in self.images)
        totals["seconds"] = round(self.seconds, 3)
        return totals

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``run -o json``."""
        return {"images": [one.as_dict() for one in self.images], "totals": self.totals}
