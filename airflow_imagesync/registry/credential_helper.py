"""Credentials from a program: Docker's credential helper protocol.

``docker-credential-<suffix> get`` reads a server's URL from its standard input and writes a JSON object with
``Username`` and ``Secret`` to its standard output (github.com/docker/docker-credential-helpers).
"""

from __future__ import annotations

import copy
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import IO, cast

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.reference import quoted
from airflow_imagesync.errors import ConfigError, ImageSyncError, TransportError

#: How long a helper may take, in seconds.
TIMEOUT = 30.0
#: How long what a helper said is good for, and for how long one that failed is not asked again, in seconds.
GOOD_FOR = 3600.0
PAUSE_AFTER_FAILURE = 5.0
MAX_OUTPUT = 64 * 1024

_SUFFIX = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_FOUND = "credentials not found in native keychain"
#: The username that says that the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105  # a name, and no secret
_MAX_SHOWN = 200


def check_suffix(suffix: str, named_in: str) -> str:
    """Return what names a helper, when it can; `named_in` says where it stands. Raises ConfigError."""
    if _SUFFIX.fullmatch(suffix) is None:
        raise ConfigError(
            f"{named_in} names the credential helper {quoted(suffix)}; expected letters, digits, '_', '.' and '-'"
        )
    return suffix


class CredentialHelper:
    """A source of the credentials that the helper ``docker-credential-<suffix>`` has for one server.

    `server` is the server's URL as the helper knows it. What it said is kept for an hour. Safe to use from many
    threads: one of them runs the helper, and the others wait. Credentials are empty where it has none.
    """

    def __init__(self, suffix: str, server: str, *, timeout: float = TIMEOUT) -> None:
        self._program = f"docker-credential-{suffix}"
        self._server = server
        self._timeout = timeout
        self._lock = threading.Lock()
        self._found: Credentials | None = None
        self._failure: ImageSyncError | None = None
        self._asked_at = 0.0

    def get(self, *, renew: bool = False) -> Credentials:
        """Return the credentials; with `renew`, whatever the helper says now.

        Raises ConfigError when there is no such helper, TransportError when it takes too long, and ImageSyncError
        with its message when it fails.
        """
        with self._lock:
            age = time.monotonic() - self._asked_at
            if self._failure is not None and age < PAUSE_AFTER_FAILURE:
                raise copy.copy(self._failure)  # one exception must not be raised by many threads
            if self._found is not None and not renew and age < GOOD_FOR:
                return self._found
            self._failure = None
            try:
                self._found = self._ask()
            except ImageSyncError as error:
                self._failure = error
                raise
            finally:
                self._asked_at = time.monotonic()
            return self._found

    def _ask(self) -> Credentials:
        program = shutil.which(self._program)
        if program is None:
            raise ConfigError(
                f"there is no {self._program} on the PATH, which is to have the login for {self._shown}; install it"
            )
        try:
            code, output = _run(program, self._server, self._timeout)
        except TimeoutError:
            raise TransportError(
                f"{self._program} gave no login for {self._shown} within {self._timeout:g} s; run it by hand to see why"
            ) from None
        except OSError as error:
            raise ImageSyncError(f"{self._program} can't be run ({error.strerror or type(error).__name__})") from None
        text = output.decode("utf-8", "replace").strip()
        if code != 0:
            if text.lower().startswith(_NOT_FOUND):
                return Credentials()
            raise ImageSyncError(
                f"{self._program} has no login for {self._shown} (exit {code}){_message(text)}; log in again, or run "
                f"'{self._program} get' by hand to see why"
            )
        return self._parse(text)

    @property
    def _shown(self) -> str:
        return quoted(self._server)[1:-1]

    def _parse(self, text: str) -> Credentials:
        try:
            answer = json.loads(text)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            # The cause is dropped because it may quote the output.
            raise ImageSyncError(
                f"{self._program} answered for {self._shown} what is no login; expected a JSON object with Username "
                "and Secret"
            ) from None
        if user == _TOKEN_USER:
            return Credentials(identity_token=secret or None)
        return Credentials(user or None, secret or None)


def _run(program: str, text: str, timeout: float) -> tuple[int, bytes]:
    """Return the exit code of ``program get``, given `text`, and what it wrote; raise TimeoutError, OSError.

    Not by subprocess.run: neither is its output bounded, nor its time when a child of the program goes on.
    """
    deadline = time.monotonic() + timeout
    output = bytearray()
    with (
        subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
        selectors.DefaultSelector() as ready,
    ):
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            with suppress(BrokenPipeError), stdin:
                stdin.write(text.encode("utf-8", "replace"))
            ready.register(stdout, selectors.EVENT_READ)
            while len(output) <= MAX_OUTPUT:
                if not ready.select(deadline - time.monotonic()):
                    raise TimeoutError
                piece = os.read(stdout.fileno(), MAX_OUTPUT)
                if not piece:
                    return process.wait(max(0.1, deadline - time.monotonic())), bytes(output)
                output += piece
            return 0, b""  # no login is that long
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def _message(text: str) -> str:
    """Return what a helper said of its failure: one line of it, and nothing that looks like its answer."""
    line = text.partition("\n")[0].strip()
    if not line or line.startswith("{") or "Secret" in text:
        return ""
    line = "".join(one if one.isprintable() else " " for one in line)
    return f": {line[:_MAX_SHOWN]}{'...' if len(line) > _MAX_SHOWN else ''}"
