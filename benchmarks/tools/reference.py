"""The least that a verified copy costs in Python: `benchmarks.reference_copy` as a tool."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import reference_copy
from benchmarks.tools.tool import Command, Job, clean_environment


class Reference:
    """Copies one image with http.client and hashlib alone; no peer, but what our CPU time is held against."""

    name = "http.client"

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:  # noqa: ARG002
        """Return the command that copies the job's only image to the only destination."""
        (repository,), (tag,), (destination,) = job.repositories, job.tags or (), destinations
        return [*self.idle(), source, destination, repository, tag]

    def idle(self) -> Command:
        """Return the command that imports what a copy needs, and ends."""
        return [sys.executable, "-I", reference_copy.__file__]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment without proxies, logins and settings."""
        return clean_environment(folder)
