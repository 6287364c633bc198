"""The programs that are compared, each told the same in its own words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devtools import install

#: What is imported by `run` before it does anything.
_ALL_MODULES = "import airflow_imagesync.cli.commands, airflow_imagesync.connections, airflow_imagesync.engine.sync"


@dataclass(frozen=True)
class Job:
    """Repositories to bring to another registry under the same names; ``tags`` None means all that there are."""

    repositories: tuple[str, ...]
    tags: tuple[str, ...] | None = None


class Tool(Protocol):
    """A program that can do a job."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def command(self, job: Job, source: str, destination: str, folder: Path) -> list[str | Path]:
        """Return the command that does the job between two registries, ``HOST:PORT`` over HTTP.

        Files that it needs go into ``folder``.
        """

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment to run it in, with nothing of the user's own."""


class ImageSync:
    """This package, as a command: what starting Python costs is part of it."""

    name = "airflow-imagesync"

    def command(self, job: Job, source: str, destination: str, folder: Path) -> list[str | Path]:
        """Return ``python -m airflow_imagesync run`` with a configuration file for the job."""
        selection = ":" + ",".join(job.tags) if job.tags is not None else ""
        config = {
            "registries": {host: {"insecure": True} for host in (source, destination)},
            "rules": [
                {"source": f"{source}/{name}{selection}", "destination": f"{destination}/{name}"}
                for name in job.repositories
            ],
        }
        file = _write(folder / "imagesync.yaml", config)
        return [sys.executable, "-m", "airflow_imagesync", "run", file, "-o", "json"]

    def idle(self) -> list[str | Path]:
        """Return the command that imports all that ``run`` needs, and ends."""
        return [sys.executable, "-c", _ALL_MODULES]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment without proxies, logins and settings."""
        return _environment(folder)


class Skopeo:
    """``skopeo sync``, the peer."""

    name = "skopeo"

    def __init__(self, program: Path) -> None:
        self._program = program

    def command(self, job: Job, source: str, destination: str, folder: Path) -> list[str | Path]:
        """Return ``skopeo sync`` with a file that lists the job's repositories."""
        listed = {name: list(job.tags or ()) for name in job.repositories}
        file = _write(folder / "skopeo.yaml", {source: {"tls-verify": False, "images": listed}})
        # It keeps only the last part of a repository's name.
        (namespace,) = {name.rpartition("/")[0] for name in job.repositories}
        options = ["--all", "--preserve-digests", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
        return [self._program, "--insecure-policy", "sync", *options, file, f"{destination}/{namespace}"]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment with a home of its own."""
        logins = _write(folder / "auth.json", {})
        return {
            **_environment(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "REGISTRY_AUTH_FILE": str(logins),
        }


def find_skopeo() -> Skopeo | None:
    """Return skopeo where it is installed."""
    program = install.find("skopeo")
    return Skopeo(program) if program is not None else None


def _write(file: Path, content: Mapping[str, object]) -> Path:
    file.write_text(json.dumps(content, indent=2))  # JSON is YAML
    return file


def _environment(home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    }
    return {**kept, "HOME": str(home)}
