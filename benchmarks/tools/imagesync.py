"""This package as a command, as it is installed for users."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tools.tool import Command, Job, clean_environment, write

NAME = "airflow-imagesync"
#: What is imported by `run` before it does anything.
_ALL_MODULES = "import " + ", ".join(
    f"airflow_imagesync.{name}" for name in ("cli.commands", "connections", "engine.sync", "engine.records_database")
)


@dataclass(frozen=True)
class ImageSync:
    """``python -m airflow_imagesync``: what starting Python costs is part of it.

    ``verb`` is the command of it. ``records`` is a file of records that lasts; without one they are where the command
    keeps them by itself, in a home that is new for each run. ``trust`` has it believe them.
    """

    verb: str = "run"
    records: Path | None = None
    trust: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return NAME

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return the command with a configuration file for the job."""
        selection = ":" + ",".join(job.tags) if job.tags is not None else ""
        config: dict[str, object] = {
            "registries": {host: {"insecure": True} for host in (source, *destinations)},
            "rules": [
                {
                    "source": f"{source}/{name}{selection}",
                    "destination": [f"{destination}/{name}" for destination in destinations],
                }
                for name in job.repositories
            ],
        }
        if self.trust:
            config["defaults"] = {"trust_records": True}
        options: Command = ["--records", self.records] if self.records is not None else []
        file = write(folder / "imagesync.yaml", config)
        return [sys.executable, "-m", "airflow_imagesync", self.verb, file, "-o", "json", *options]

    def idle(self) -> Command:
        """Return the command that imports all that ``run`` needs, and ends."""
        return [sys.executable, "-c", _ALL_MODULES]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment without proxies, logins and settings."""
        return clean_environment(folder)
