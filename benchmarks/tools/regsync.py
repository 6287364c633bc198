"""``regsync once``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import AT_ONCE, Command, Job, Peer, write


class Regsync(Peer):
    """A configuration of all repositories, or of all images where a job names tags.

    Its entries go side by side, the tags of a whole repository one after the other.
    """

    name = "regsync"
    how = "once, with all in one file, parallel: 8, fastCheck: true; the tags of a repository go one after the other"
    takes_lists = True
    in_turn = True

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return ``regsync once`` with a configuration for the job."""
        kind = "repository" if job.tags is None else "image"
        config = {
            "version": 1,
            # 3 requests at once to a registry would be its own limit.
            "creds": [
                {"registry": host, "tls": "disabled", "reqConcurrent": AT_ONCE} for host in (source, *destinations)
            ],
            "defaults": {"parallel": AT_ONCE, "fastCheck": True, "skipDockerConfig": True},
            "sync": [
                {"source": one, "target": other, "type": kind}
                for destination in destinations
                for one, other in zip(job.images(source), job.images(destination), strict=True)
            ],
        }
        file = write(folder / "regsync.yaml", config)
        return [self._program, "once", "--config", file, "--verbosity", "warn"]
