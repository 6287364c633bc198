"""How the database of records is reached: where it is, what its driver is told, and what may be said of it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

#: How long another process may hold SQLite's lock, in seconds, before records are done without.
BUSY_SECONDS = 15
#: How long to wait for a server's answer to a new connection, in seconds.
CONNECT_SECONDS = 5
#: At most so many connections from one process; more threads than that wait for each other.
CONNECTIONS = 4

#: For libpq, so that a server or a firewall that fell silent is noticed in about half a minute.
_LIBPQ = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "airflow-imagesync",
}
#: So many rows go to a server at once.
_BATCH = 500

#: What to ask a server for its own clock, by dialect.
_CLOCKS = {
    "postgresql": func.extract("epoch", func.clock_timestamp()),
    "mysql": func.unix_timestamp(),
    "mariadb": func.unix_timestamp(),
}
_SECRET_WORDS = ("password", "passwd", "secret", "token", "key")

#: What opening or reading a database raises where it is not as it should be.
DATABASE_ERRORS = (SQLAlchemyError, OSError, ImportError)


@dataclass(frozen=True, slots=True)
class Database:
    """An open database of records. ``ahead`` is how many seconds its clock is ahead of this machine's."""

    engine: Engine
    ahead: float

    @property
    def name(self) -> str:
        """Where it is, for people: without password and options."""
        return shown(self.engine.url)

    def now(self) -> float:
        """Return the database's time, in seconds since 1970: the one clock that all hosts share.

        SQLite and what else has no clock of its own has this machine's.
        """
        return time.time() + self.ahead


def as_url(where: str | URL) -> URL:
    """Return the URL of a database that is given as one, or as the path of an SQLite file.

    Raises ValueError, without what it was given, for what is neither.
    """
    if isinstance(where, str):
        if "://" not in where:
            try:
                return URL.create("sqlite", database=str(Path(where).expanduser().absolute()))
            except RuntimeError:
                raise ValueError(f"the home folder that {where!r} is in is not known") from None
        try:
            where = make_url(where)
        except (ArgumentError, ValueError):
            raise ValueError("expected the path of a file or an SQLAlchemy URL") from None
    if where.drivername in ("postgres", "postgresql"):
        # Airflow's and libpq's name for it. SQLAlchemy's usual driver depends on its version, not on what there is.
        where = where.set(drivername="postgresql+psycopg2" if find_spec("psycopg2") else "postgresql+psycopg")
    if where.get_backend_name() == "sqlite" and where.database in (None, "", ":memory:"):
        raise ValueError("expected an SQLite URL that names a file, as sqlite:////folder/records.db does")
    return where


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database; None for any other."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def shown(url: URL) -> str:
    """Return a URL, or an SQLite file's path, without what may be secret."""
    file = sqlite_file(url)
    return str(file) if file is not None else url.set(query={}).render_as_string(hide_password=True)


def connect(url: URL) -> Database:
    """Open a database; an SQLite file and its folder are made where there are none, for this user alone.

    Raises one of DATABASE_ERRORS.
    """
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    backend, driver = url.get_backend_name(), url.get_driver_name()
    file = sqlite_file(url)
    if file is not None:
        _make_private(file)
        arguments = {"timeout": BUSY_SECONDS}
    elif backend == "postgresql" and driver in ("psycopg", "psycopg2"):
        arguments = {key: value for key, value in _LIBPQ.items() if key not in url.query}
        if driver == "psycopg2":  # which otherwise sends many rows one by one
            options = {"executemany_mode": "values_plus_batch", "executemany_batch_page_size": _BATCH}
    elif backend in ("mysql", "mariadb"):
        arguments = {"connect_timeout": CONNECT_SECONDS}
    engine = create_engine(
        url,
        connect_args=arguments,
        isolation_level="AUTOCOMMIT",  # most of what is done is one statement; `transaction` is for the rest
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=2 * BUSY_SECONDS,
        pool_recycle=300,
        **options,
    )
    if file is not None:
        event.listen(engine, "connect", _set_up_sqlite)
    try:
        with engine.connect() as connection:
            clock = _CLOCKS.get(backend)
            ahead = 0.0 if clock is None else float(connection.execute(select(clock)).scalar_one()) - time.time()
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, ahead)


def _make_private(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 - what events pass
    # Not on every file system, and not while another process sets it: either way the file works without.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may take the last notes, but not the file.
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Do all that follows, or nothing of it; in SQLite nobody else writes meanwhile."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
    try:
        yield
    except BaseException:
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def reason_of(error: BaseException, url: URL | None = None) -> str:
    """Return why a database failed in one line, without statements, values and secrets."""
    if isinstance(error, NoSuchModuleError):
        return "SQLAlchemy has no such dialect or driver"
    if isinstance(error, ImportError):
        return f"its driver is not installed ({error.name or 'unknown'})"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    reason = " ".join(str(original).split()) or type(original).__name__
    if url is not None:
        options = {name: value for name, value in url.query.items() if any(word in name for word in _SECRET_WORDS)}
        values = [str(url.password or "")]
        values += [one for value in options.values() for one in ([value] if isinstance(value, str) else value)]
        for secret in filter(None, values):
            reason = reason.replace(secret, "***")
    return reason
