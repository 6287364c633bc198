"""``regctl image copy``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import Command, Job, Peer, for_each_image


class Regctl(Peer):
    """A process for each image, eight at once."""

    name = "regctl"
    how = "a process for each image (image copy --fast), 8 at once by xargs -P; tags from regctl tag ls"
    one_by_one = True

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return a script that starts ``regctl image copy`` for each image."""
        program: Command = [self._program]
        for host in (source, *destinations):
            program += ["--host", f"reg={host},tls=disabled"]
        copy = [*program, "image", "copy", "--fast"]
        return for_each_image(folder, [*program, "tag", "ls"], copy, job, source, destinations)
