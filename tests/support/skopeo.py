"""Skopeo as an independent judge of what a registry holds."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path


class Skopeo:
    """Runs skopeo away from the user's logins and policy; a failure of skopeo fails the test.

    References are written ``HOST/REPOSITORY:TAG`` or ``HOST/REPOSITORY@DIGEST``.
    """

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        auth_file = home / "auth.json"
        auth_file.write_text("{}")
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "REGISTRY_AUTH_FILE": str(auth_file),
        }

    def __call__(
        self, *arguments: str | Path, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Run skopeo; with ``check=False`` the caller looks at the exit code."""
        done = subprocess.run(
            [self._program, "--insecure-policy", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"skopeo {' '.join(map(str, arguments))}: {done.stderr.decode().strip()}")
        return done

    def raw(self, reference: str, *options: str) -> bytes:
        """Return a manifest byte for byte."""
        return self("inspect", "--raw", "--tls-verify=false", *options, f"docker://{reference}").stdout

    def digest(self, reference: str, *options: str) -> str:
        """Return the digest of a manifest, computed here from its bytes."""
        return f"sha256:{hashlib.sha256(self.raw(reference, *options)).hexdigest()}"

    def pull(self, reference: str, directory: Path, *options: str) -> None:
        """Pull an image, or an index with all its images, which verifies every digest in it."""
        self(
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            *options,
            f"docker://{reference}",
            f"dir:{directory}",
        )
