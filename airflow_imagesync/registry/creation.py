"""Creating a missing repository when the registry says so, where a cloud's API can and the login asks for it.

Most registries create a repository with its first upload. Amazon's answers 404 NAME_UNKNOWN, or ends the connection in
the middle (dotnet/sdk-container-builds#279).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from airflow_imagesync.domain.credentials import RepositoryCreator
from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import ImageSyncError, NotFound, TransportError
from airflow_imagesync.registry.once import Once

logger = logging.getLogger(__name__)

T = TypeVar("T")


class MissingRepositories:
    """Creates the repositories that one registry says are missing, each at most once.

    Does nothing unless `login` has ``create_repositories`` and credentials of a cloud that can, and nothing for a run
    that was `cancelled`. Safe to use from many threads.
    """

    def __init__(self, login: Login, cancelled: threading.Event) -> None:
        source: object = login.source if login.create_repositories else None
        self._creator = source if isinstance(source, RepositoryCreator) else None
        self._cancelled = cancelled
        self._created: set[str] = set()
        self._creations: defaultdict[str, Once] = defaultdict(Once)
        self._lock = threading.Lock()

    def creating(self, path: str, push: Callable[[], T]) -> T:
        """Return what `push` returns; if it fails because `path` is missing, try once more with that created.

        Raises what `push` raises, and what the cloud's API answers for a repository that is certainly missing.
        """
        try:
            return push()
        except (NotFound, TransportError) as error:
            if not self._create(path, error):
                raise
        return push()

    def _create(self, path: str, error: ImageSyncError) -> bool:
        """Create `path` if `error` may come from its absence; return whether trying again may help."""
        creator = self._creator
        if creator is None or self._cancelled.is_set():
            return False
        if isinstance(error, NotFound):
            if "NAME_UNKNOWN" not in error.codes:
                return False
        elif not error.temporary or path in self._created:
            return False

        def create() -> bool:
            logger.info("creating the repository %s, which is missing: %s", path, error)
            creator.create_repository(path)
            self._created.add(path)
            return True

        with self._lock:
            once = self._creations[path]
        try:
            return once.do(lambda: True if path in self._created else None, create)
        except ImageSyncError as problem:
            if isinstance(error, NotFound):
                raise
            logger.info("the repository %s may be missing, and can't be created: %s", path, problem)
            return False
