"""A credential helper as Docker has them: a real program on the PATH, with the logins that a test gives it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest


class HelperProgram:
    """``docker-credential-fake``, in a folder that comes first on the PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._log = folder / "asked"
        self.path = folder / "docker-credential-fake"
        self.logins = {}

    @classmethod
    def on_path(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
        """Make the folder and put it on the PATH."""
        program = cls(folder)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return program

    @property
    def asked(self) -> list[str]:
        """What it was asked so far: the command and the server's URL."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def logins(self) -> Mapping[str, tuple[str, str]]:
        """User and secret by server."""
        return self._logins

    @logins.setter
    def logins(self, logins: Mapping[str, tuple[str, str]]) -> None:
        self._logins = dict(logins)
        cases = "".join(
            f"'{server}') echo '{json.dumps({'ServerURL': server, 'Username': user, 'Secret': secret})}';;\n"
            for server, (user, secret) in logins.items()
        )
        self.script(f'case "$server" in\n{cases}*) echo "credentials not found in native keychain"; exit 1;;\nesac')

    def script(self, lines: str, *, reads: bool = True) -> None:
        """Have it do these lines of shell, after it has read the server's URL."""
        begin = f'read -r server\necho "$1 $server" >> {self._log}\n' if reads else ""
        self.path.write_text(f"#!/bin/sh\n{begin}{lines}\n")
        self.path.chmod(0o755)
