"""``image-syncer``, by its documentation: nobody has run this yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import AT_ONCE, Command, Job, Peer, write


class ImageSyncer(Peer):
    """A file of all repositories, each with all its destinations.

    Written from https://github.com/AliyunContainerService/image-syncer (v1.5.5) without the program at hand. It copies
    manifest lists whole, compares by GET, and does not say its version.
    """

    name = "image-syncer"
    how = "with all in one file, --proc 8"
    takes_lists = True
    version_arguments = ()

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return ``image-syncer`` with its two files for the job."""
        selection = ":" + ",".join(job.tags) if job.tags is not None else ""
        images = {
            f"{source}/{name}{selection}": [f"{destination}/{name}" for destination in destinations]
            for name in job.repositories
        }
        auth = write(folder / "auth.json", {host: {"insecure": True} for host in (source, *destinations)})
        listed = write(folder / "images.json", images)
        return [self._program, "--proc", str(AT_ONCE), "--auth", auth, "--images", listed]
