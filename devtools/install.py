"""Finds the programs that tests, demo and benchmarks need, and installs what is missing where it can.

Runs with a bare python3, before any environment exists: ``python3 devtools/install.py registry skopeo``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Program -> Debian's package.
PACKAGES = {
    "registry": "docker-registry",
    "skopeo": "skopeo",
    "docker-compose": "docker-compose",
    "postgres": "postgresql",
}

#: Runs when neither a program nor a package is to be had, but a Docker engine is.
REGISTRY_IMAGE = "registry:3"

_POLICY = Path("/usr/sbin/policy-rc.d")
#: Where Debian has each version of PostgreSQL: ``15/bin/postgres``.
_POSTGRES_FOLDER = Path("/usr/lib/postgresql")


class MissingProgramError(RuntimeError):
    """A program is neither installed nor installable from here; the message says what to install."""


def find(name: str) -> Path | None:
    """Return the path of a program, or None."""
    if name == "registry":
        return find_registry()
    if name == "postgres":
        return find_postgres()
    found = shutil.which(name)
    return Path(found) if found else None


def find_registry() -> Path | None:
    """Return the path of a Distribution registry, which Debian calls ``docker-registry``, or None."""
    for name in ("registry", "docker-registry"):
        found = shutil.which(name)
        if found and "distribution" in _output(found, "--version"):  # "registry" could be anybody's
            return Path(found)
    return None


def find_postgres() -> Path | None:
    """Return the path of PostgreSQL's server, which Debian keeps off the PATH, or None.

    Its other programs, such as ``initdb``, are in the same folder once links are followed.
    """
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve()
    installed = _POSTGRES_FOLDER.glob("*/bin/postgres")
    return max(installed, key=lambda path: float(path.parts[-3]), default=None)


def find_docker() -> Path | None:
    """Return the path of Docker's command when its engine really answers, or None."""
    found = shutil.which("docker")
    if found is None:
        return None
    # Without an engine `docker info` still prints the client's part, but the server's version is then empty.
    version = _output(found, "info", "--format", "{{.ServerVersion}}")
    return Path(found) if version.strip() else None


def ensure(name: str) -> Path:
    """Return the path of a program, after installing it if need be; ``docker`` when a registry needs that.

    Raises MissingProgramError with what to install.
    """
    if name not in PACKAGES:
        raise ValueError(f"unknown program {name!r}, known are: {', '.join(sorted(PACKAGES))}")
    found = find(name)
    failure = None
    if found is None:
        failure = _install(PACKAGES[name])
        found = find(name)
    if found is None and name == "registry":
        found = find_docker()
    if found is None:
        raise MissingProgramError(f"{_advice(name)} ({failure})." if failure else f"{_advice(name)}.")
    return found


def _advice(name: str) -> str:
    package = PACKAGES[name]
    if name == "registry":
        return (
            f"No registry found: install Debian's package {package} (apt-get install {package}), put a "
            f"Distribution binary named registry on PATH, or start a Docker engine to run {REGISTRY_IMAGE}"
        )
    return f"{name} is missing: install it, on Debian by apt-get install {package}"


def _install(package: str) -> str | None:
    """Install a Debian package where this user can; return why it was not done, or None."""
    apt = shutil.which("apt-get")
    if apt is None:
        return "there is no apt-get here to install it with"
    if os.geteuid() != 0:
        return "not installed by itself, since that needs root"
    _say(f"Installing Debian's package {package} ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    with _no_services_started():
        # A failed update is no reason to give up: yesterday's lists may do.
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", package]):
            done = subprocess.run(
                [apt, *options, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
    if done.returncode != 0:
        last = done.stdout.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return f"apt-get install {package} failed: {last[0]}"
    return None


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Keep packages from starting their services while they are installed.

    Debian's docker-registry would take port 5000 at once; here it is wanted as a program only.
    """
    if _POLICY.exists():
        yield
        return
    try:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(names: list[str]) -> int:
    """Ensure every named program and say where it is."""
    status = 0
    for name in names:
        try:
            print(f"{name}: {ensure(name)}")
        except (MissingProgramError, ValueError) as error:
            _say(str(error))
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
