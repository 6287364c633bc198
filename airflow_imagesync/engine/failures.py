"""What an error means for a result: its text, whether it may pass, and from when on."""

from __future__ import annotations

import logging

from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.errors import ImageSyncError, NotFound

logger = logging.getLogger(__name__)


def describe(error: BaseException) -> str:
    """Return the text of an error for a result; an error that is no fault of registry or user is logged as a bug."""
    if isinstance(error, ImageSyncError):
        return str(error)
    logger.error("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}; this is a bug, please report it with the log"


def is_temporary(error: BaseException) -> bool:
    """Whether an error may pass by itself."""
    return isinstance(error, ImageSyncError) and error.temporary


def retry_time(error: BaseException) -> float | None:
    """Return from when on trying again is of use, in POSIX seconds, where that is longer than was waited."""
    return error.retry_at if isinstance(error, ImageSyncError) else None


def missing_source(source: ImageReference) -> NotFound:
    """Return the error for a source that names nothing."""
    return NotFound(f"{source} does not exist at the source; check the repository and the tag")
