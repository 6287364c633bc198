"""``oras cp``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import Command, Job, Peer, for_each_image


class Oras(Peer):
    """A process for each image, eight at once."""

    name = "oras"
    how = "a process for each image (cp), 8 at once by xargs -P; tags from oras repo tags"
    one_by_one = True

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return a script that starts ``oras cp`` for each image."""
        list_tags: Command = [self._program, "repo", "tags", "--plain-http"]
        copy: Command = [self._program, "cp", "--no-tty", "--from-plain-http", "--to-plain-http"]
        return for_each_image(folder, list_tags, copy, job, source, destinations)
