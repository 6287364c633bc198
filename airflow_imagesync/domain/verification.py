"""What a verification found: every destination beside what its source names, and whether all is as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_imagesync.domain.plan import ImagePair, PairState, Plan


class VerifiedState(StrEnum):
    """How a destination was found: not to be compared, something else, not there, or right; the worst first."""

    FAILED = "failed"
    DIFFERENT = "different"
    MISSING = "missing"
    SAME = "same"


_STATES = {
    PairState.NEW: VerifiedState.MISSING,
    PairState.CHANGED: VerifiedState.DIFFERENT,
    PairState.SAME: VerifiedState.SAME,
    PairState.FAILED: VerifiedState.FAILED,
}
#: What there is to do about what is not the same; why something failed, its own error says.
ADVICE = {
    VerifiedState.DIFFERENT: (
        "the tag was moved since the copy, at the source or at the destination: sync again to have what the source "
        "names now, or give the rule the digest that is wanted"
    ),
    VerifiedState.MISSING: "it was never copied, or was deleted since: sync again",
}


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """One image at one destination, as it was found.

    ``rule`` is the rule's 0-based position. ``source`` and ``destination`` are full references, or for a rule whose
    tags could not be listed its source as written and the destination repository. ``expected_digest`` is what the
    destination should have: ``source_digest``, or what a platform filter makes of that; None for what failed. The other
    digests are None where nothing is there or nothing is known. ``error`` says what is wrong and what to do.
    ``temporary`` says whether a failure may pass by itself, and ``retry_at`` from when on, in POSIX seconds, where the
    registry asked for a longer wait than was sat out.
    """

    rule: int
    source: str
    destination: str
    state: VerifiedState
    source_digest: str | None = None
    expected_digest: str | None = None
    destination_digest: str | None = None
    error: str | None = None
    temporary: bool = False
    retry_at: float | None = None

    @classmethod
    def of(cls, pair: ImagePair) -> VerifiedImage:
        """Return how a planned image was found."""
        state = _STATES[pair.state]
        return cls(
            rule=pair.rule,
            source=pair.source,
            destination=pair.destination,
            state=state,
            source_digest=pair.source_digest,
            expected_digest=None if state is VerifiedState.FAILED else pair.filtered_digest or pair.source_digest,
            destination_digest=pair.destination_digest,
            error=_error(pair, state),
            temporary=pair.temporary,
            retry_at=pair.retry_at,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the row of ``verify -o json``."""
        return {
            "rule": self.rule,
            "source": self.source,
            "destination": self.destination,
            "state": self.state.value,
            "source_digest": self.source_digest,
            "destination_digest": self.destination_digest,
            "expected_digest": self.expected_digest,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """All images of the rules as they were found, in the order of the rules; ``notes`` are what a plan's are."""

    images: tuple[VerifiedImage, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, plan: Plan) -> Verification:
        """Return what a plan found that was made without force and without taking any record's word."""
        return cls(tuple(VerifiedImage.of(pair) for pair in plan.images), plan.notes)

    @property
    def deviations(self) -> tuple[VerifiedImage, ...]:
        """The images that are not the same: those that could not be compared first, then the different, the missing."""
        order = list(VerifiedState)
        found = [one for one in self.images if one.state is not VerifiedState.SAME]
        return tuple(sorted(found, key=lambda one: order.index(one.state)))

    @property
    def may_pass(self) -> bool:
        """Whether something is not the same, and all of that are failures that may pass by themselves."""
        found = self.deviations
        return bool(found) and all(one.temporary and one.state is VerifiedState.FAILED for one in found)

    @property
    def totals(self) -> dict[str, int]:
        """The number of images in each state."""
        count = Counter(one.state for one in self.images)
        return {state.value: count[state] for state in reversed(VerifiedState)}

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``verify -o json``."""
        return {"images": [one.as_dict() for one in self.images], "totals": self.totals}


def _error(pair: ImagePair, state: VerifiedState) -> str | None:
    if state is VerifiedState.SAME:
        return None
    if state is VerifiedState.FAILED:
        return pair.error or "no reason known"
    expected = (
        f"{pair.filtered_digest}, which the platform filter makes of the source's {pair.source_digest}"
        if pair.filtered_digest
        else f"{pair.source_digest}, which the source names"
    )
    found = pair.destination_digest or "nothing"
    return f"the destination has {found} in place of {expected}; {ADVICE[state]}"
