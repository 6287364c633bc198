"""A real PostgreSQL on loopback, for as long as tests need it."""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2

from devtools import install

USER = "imagesync"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_PORT_TRIES = 5
#: Nothing of it need outlive a power cut.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
}


class PostgresServer:
    """A server with one user, who must give a password; a context manager.

    It refuses to be root's, so root's tests run it as ``postgres`` or ``nobody``. Ends only what it started.
    """

    def __init__(self) -> None:
        self.password = secrets.token_hex(12)
        self.port = 0
        self._programs = install.ensure("postgres").parent
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        try:
            self._create()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str, password: str | None = None) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}", "postgres")
        return name

    def execute(self, statement: str, database: str) -> list[tuple[Any, ...]]:
        """Do what a statement says and return its rows, over a connection of its own."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def start(self) -> None:
        """Start the server, on a port that is free, or the one it had."""
        for attempt in range(_PORT_TRIES):
            if attempt or not self.port:
                self.port = _free_port()
            if self._started():
                return
        raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}")

    def stop(self, *, at_once: bool = False) -> None:
        """End the server; `at_once` as if it had crashed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the server and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _create(self) -> None:
        password = self._folder / "password"
        password.write_text(self.password)
        self._log.touch()
        if self._account:
            for path in (self._folder, password, self._log):
                shutil.chown(path, self._account["user"], self._account["group"])
        done = subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self._folder / "data", "--username", USER, "--no-sync"),
                *("--auth=scram-sha-256", "--pwfile", password, "--encoding=UTF8", "--locale=C"),
            ],
            cwd=self._folder,
            capture_output=True,
            text=True,
            **self._account,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def _started(self) -> bool:
        settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": self.port}.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *settings],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account,
            )
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self.execute("SELECT 1", "postgres")
            except psycopg2.OperationalError:
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False


def _account() -> dict[str, Any]:
    """Return how to start a process that is not root's; nothing for who is not root."""
    if os.geteuid() != 0:
        return {}
    known = {one.pw_name: one for one in pwd.getpwall()}
    account = known.get("postgres") or known["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
