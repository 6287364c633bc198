"""What earlier tries of a task did, kept where Airflow lets it outlive a try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.operators.task_state import TaskState

if TYPE_CHECKING:
    from airflow.sdk import Context

_KEY = "copied"
#: What of a copied image can't be seen later.
_KEPT = ("bytes_copied", "bytes_mounted", "bytes_skipped", "seconds", "note")
#: As much of a digest as is kept: Airflow warns above 64 KiB, and whole digests would make most of it.
_DIGEST_LENGTH = len("sha256:") + 12


class EarlierTries:
    """
    What earlier tries of a task copied, so that the last one can tell, and forces nothing twice.

    Airflow removes a task's XComs before each try; its task state store, there since Airflow 3.3, outlives tries and
    clears. What is in it is a hint: without it, images of earlier tries count as the same.

    :param context: the context of the task
    :param this_try: what this try had done before it was deferred, as ImageResult.dump wrote it
    """

    def __init__(self, context: Context, this_try: Iterable[Mapping[str, Any]] = ()) -> None:
        self._state = TaskState(context)
        kept = self._state.get(_KEY, "what earlier tries copied can't be read, and counts as the same")
        kept = kept if isinstance(kept, dict) else {}
        self._rows: dict[tuple[str, str], list[Any]] = {
            (source, destination): row for source, destination, *row in kept.get("images", ())
        }
        #: The images that a try copied that left others undone, as source and destination.
        self.unfinished: frozenset[tuple[str, str]] = frozenset() if kept.get("finished") else frozenset(self._rows)
        results = (ImageResult.load(one) for one in this_try)
        copied = {(one.source, one.destination): _row(one)[2:] for one in results if one.state is ResultState.COPIED}
        self._rows |= copied
        self.unfinished |= copied.keys()

    def fresh(self, report: SyncReport) -> list[ImageResult]:
        """
        Return what this try found: without the images that are the same because an unfinished try copied them.

        :param report: the report of this try
        """
        return [
            one
            for one in report.images
            if one.state is not ResultState.SAME or (one.source, one.destination) not in self.unfinished
        ]

    def not_announced(self, joined: SyncReport, fresh: Iterable[ImageResult]) -> list[ImageResult]:
        """
        Return what this try and the unfinished ones before it did, of which nobody was told.

        :param joined: what `joined` returned
        :param fresh: what `fresh` returned
        """
        untold = {(one.source, one.destination) for one in fresh if one.state is ResultState.COPIED} | self.unfinished
        return [one for one in joined.images if (one.source, one.destination) in untold]

    def joined(self, report: SyncReport) -> SyncReport:
        """
        Return the report with what earlier tries copied told as copied, and keep that for later ones.

        :param report: the report of this try
        """
        images = tuple(self._told(one) for one in report.images)
        copied = [one for one in images if one.state is ResultState.COPIED]
        if copied:
            finished = all(one.state is not ResultState.FAILED for one in images)
            done = {"finished": finished, "images": [_row(one) for one in copied]}
            self._state.set(_KEY, done, "what was copied can't be kept for a later try's report")
        return replace(report, images=images)

    def _told(self, image: ImageResult) -> ImageResult:
        row = self._rows.get((image.source, image.destination))
        if image.state is not ResultState.SAME or row is None:
            return image
        digest, *values = row
        if digest != _shortened(image.digest):
            return image
        return replace(image, state=ResultState.COPIED, **dict(zip(_KEPT, values, strict=True)))


def _row(image: ImageResult) -> list[Any]:
    values = image.dump()
    return [image.source, image.destination, _shortened(image.digest), *(values[key] for key in _KEPT)]


def _shortened(digest: str | None) -> str:
    return (digest or "")[:_DIGEST_LENGTH]
