"""``skopeo sync``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.tool import Command, Job, Peer, clean_environment, one_after_the_other, write


class Skopeo(Peer):
    """A file lists all repositories; the images of it are copied one after the other, their layers side by side."""

    name = "skopeo"
    how = "sync --all --preserve-digests with a file of all repositories, once for each destination"
    takes_lists = True
    one_by_one = True
    in_turn = True
    version_arguments = ("--version",)

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return ``skopeo sync`` with a file that lists the job's repositories."""
        listed = {name: list(job.tags or ()) for name in job.repositories}
        file = write(folder / "skopeo.yaml", {source: {"tls-verify": False, "images": listed}})
        # It keeps only the last part of a repository's name.
        (namespace,) = {name.rpartition("/")[0] for name in job.repositories}
        options = ["--all", "--preserve-digests", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
        sync: Command = [self._program, "--insecure-policy", "sync", *options, file]
        return one_after_the_other(folder, [[*sync, f"{destination}/{namespace}"] for destination in destinations])

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment with a home of its own."""
        logins = write(folder / "auth.json", {})
        return {**clean_environment(folder), "XDG_RUNTIME_DIR": str(folder), "REGISTRY_AUTH_FILE": str(logins)}
