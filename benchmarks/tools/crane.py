"""``crane copy``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import AT_ONCE, Command, Job, Peer, line, pairs, script


class Crane(Peer):
    """A process for each repository, or for each image where a job names tags; eight images at once altogether."""

    name = "crane"
    how = "a process for each repository (copy --all-tags), 8 images at once by xargs -P and --jobs"

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return a script that starts ``crane copy`` for each repository, or for each named tag.

        --no-clobber would be quicker, but skips tags that differ.
        """
        (folder / "pairs").write_text(pairs(job, source, destinations))
        copy: Command = [self._program, "copy", "--insecure"]
        processes = AT_ONCE
        if job.tags is None:
            processes = min(AT_ONCE, len(job.repositories) * len(destinations))
            copy += ["--all-tags", "--jobs", str(AT_ONCE // processes)]
        return script(folder, [f"xargs -P {processes} -n 2 {line(copy)} < pairs"])
