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
    """Repositories to bring from one registry to the other, under the same names.

    Registries are ``HOST:PORT`` and speak HTTP. All repositories are ``namespace/...``, one part below it. ``tags``
    None means all that there are.
    """

    source: str
    destination: str
    namespace: str
    repositories: tuple[str, ...]
    tags: tuple[str, ...] | None = None


class Tool(Protocol):
    """A program that can do a job."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def command(self, job: Job, directory: Path) -> list[str | Path]:
        """Return the command that does the job; files that it needs go into ``directory``."""

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the environment to run it in, with nothing of the user's own."""


class ImageSync:
    """This package, as a command: what starting Python costs is part of it."""

    name = "airflow-imagesync"

    def command(self, job: Job, directory: Path) -> list[str | Path]:
        """Return ``python -m airflow_imagesync run`` with a configuration file for the job."""
        selection = ":" + ",".join(job.tags) if job.tags is not None else ""
        config = {
            "registries": {host: {"insecure": True} for host in (job.source, job.destination)},
            "rules": [
                {"source": f"{job.source}/{name}{selection}", "destination": f"{job.destination}/{name}"}
                for name in job.repositories
            ],
        }
        file = _write(directory / "imagesync.yaml", config)
        return [sys.executable, "-m", "airflow_imagesync", "run", file, "-o", "json"]

    def idle(self) -> list[str | Path]:
        """Return the command that imports all that ``run`` needs, and ends."""
        return [sys.executable, "-c", _ALL_MODULES]

    def environment(self, directory: Path) -> dict[str, str]:
        """Return an environment without proxies, logins and settings."""
        return _environment(directory)


class Skopeo:
    """``skopeo sync``, the peer."""

    name = "skopeo"

    def __init__(self, program: Path) -> None:
        self._program = program

    def command(self, job: Job, directory: Path) -> list[str | Path]:
        """Return ``skopeo sync`` with a file that lists the job's repositories."""
        listed = {name: list(job.tags or ()) for name in job.repositories}
        file = _write(
            directory / "skopeo.yaml", {job.source: {"tls-verify": False, "images": listed}}
        )
        options = ["--all", "--preserve-digests", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
        return [
            self._program,
            "--insecure-policy",
            "sync",
            *options,
            file,
            f"{job.destination}/{job.namespace}",
        ]

    def environment(self, directory: Path) -> dict[str, str]:
        """Return an environment with a home of its own."""
        logins = _write(directory / "auth.json", {})
        return {
            **_environment(directory),
            "XDG_RUNTIME_DIR": str(directory),
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
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")}
    return {**kept, "HOME": str(home)}
