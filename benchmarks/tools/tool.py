"""What a compared program is: the job it is given, the command it becomes, and the clean place it runs in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

#: How many images every tool may have in hand at once, which is what ours does unless told.
AT_ONCE = 8
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")

Command = list[str | Path]


@dataclass(frozen=True)
class Job:
    """Repositories to bring to other registries under the same names; ``tags`` None means all that there are."""

    repositories: tuple[str, ...]
    tags: tuple[str, ...] | None = None

    def images(self, registry: str) -> list[str]:
        """Return the references of the named tags in a registry, in order; of the repositories where none are."""
        return [f"{registry}/{name}{tag}" for name in self.repositories for tag in self._suffixes()]

    def _suffixes(self) -> list[str]:
        return [""] if self.tags is None else [f":{tag}" for tag in self.tags]


class Tool(Protocol):
    """A program that can do a job."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return the command that does the job between registries, ``HOST:PORT`` over HTTP.

        Files that it needs go into ``folder``.
        """

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment to run it in, with nothing of the user's own."""


class Peer(ABC):
    """Another program that does the same; ``program`` is where it is.

    ``how`` says how it was told to be quick. ``takes_lists``: one command of it does many repositories. ``one_by_one``:
    an image costs it the same whatever else there is, so part of a job says what all of it would take. ``in_turn``: the
    tags of a repository go one after the other.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    takes_lists: ClassVar[bool] = False
    one_by_one: ClassVar[bool] = False
    in_turn: ClassVar[bool] = False
    #: The arguments that it tells its version for; none where that is not documented.
    version_arguments: ClassVar[tuple[str, ...]] = ("version",)

    def __init__(self, program: Path) -> None:
        self._program = program

    @abstractmethod
    def command(self, job: Job, source: str, destinations: Sequence[str], folder: Path) -> Command:
        """Return the command that does the job; see Tool."""

    def environment(self, folder: Path) -> dict[str, str]:
        """Return an environment with a home of its own, and no logins."""
        return clean_environment(folder)

    def version(self) -> str | None:
        """Return what the program says of its version, or None."""
        if not self.version_arguments:
            return None
        command: Command = [self._program, *self.version_arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        found = _VERSION.search(done.stdout)
        return found[0] if found else None


def write(file: Path, content: Mapping[str, object]) -> Path:
    """Write a configuration file, as JSON, which is YAML too; return its path."""
    file.write_text(json.dumps(content, indent=2))
    return file


def script(folder: Path, lines: Iterable[str]) -> Command:
    """Return the command that runs lines of shell in ``folder`` until one of them fails."""
    file = folder / "job.sh"
    file.write_text("\n".join(["set -e", f"cd {shlex.quote(str(folder))}", *lines, ""]))
    return ["sh", file]


def one_after_the_other(folder: Path, commands: Sequence[Command]) -> Command:
    """Return the command that runs commands in order; a single one as it is."""
    return commands[0] if len(commands) == 1 else script(folder, map(line, commands))


def line(command: Iterable[str | Path]) -> str:
    """Return a command as a line of shell."""
    return shlex.join(map(str, command))


def pairs(job: Job, source: str, destinations: Sequence[str]) -> str:
    """Return lines of ``SOURCE DESTINATION`` for ``xargs -n 2``: of images where the job names tags, else of
    repositories."""
    return "".join(
        f"{one} {other}\n"
        for destination in destinations
        for one, other in zip(job.images(source), job.images(destination), strict=True)
    )


def for_each_image(
    folder: Path, list_tags: Command, copy: Command, job: Job, source: str, destinations: Sequence[str]
) -> Command:
    """Return a script for a tool that copies one image a process: it lists tags where the job names none, then
    copies AT_ONCE images at a time.

    ``list_tags`` is completed with a repository, ``copy`` with an image and what it is to become.
    """
    lines = []
    if job.tags is None:
        (folder / "pairs").write_text("")
        for name in job.repositories:
            lines.append(f"{line([*list_tags, f'{source}/{name}'])} > tags")
            lines += [
                f"sed 's|.*|{source}/{name}:& {destination}/{name}:&|' tags >> pairs" for destination in destinations
            ]
    else:
        (folder / "pairs").write_text(pairs(job, source, destinations))
    return script(folder, [*lines, f"xargs -P {AT_ONCE} -n 2 {line(copy)} < pairs"])


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment without proxies, logins and settings."""
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    }
    return {**kept, "HOME": str(home)}
