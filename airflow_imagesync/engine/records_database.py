"""Records in a database that many processes on many hosts may share.

What is noted is written in batches by a thread of its own, which also keeps this process's claims alive. Open records
in the process that uses them: a fork must not inherit their connections. A database that can't be used is said once,
and then nothing is remembered any more in this process; a run goes on without.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import URL, Connection

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.records import NO_RECORDS, ImageRecord, KnownBlob, KnownImage, Records
from airflow_imagesync.engine.records_connection import (
    Database,
    as_url,
    connect,
    reason_of,
    shown,
)
from airflow_imagesync.engine.records_pending import Pending
from airflow_imagesync.engine.records_schema import STEPS, Step, prepare
from airflow_imagesync.engine.records_statements import Statements
from airflow_imagesync.engine.records_writing import Writer, chunks

logger = logging.getLogger(__name__)

#: Notes are written when so many wait, or the first has waited so many seconds. A released claim waits shorter: others
#: may be waiting for what it was for.
FLUSH_COUNT = 500
FLUSH_SECONDS = 2.0
RELEASE_SECONDS = 0.1
#: How long a claim holds when its process says nothing, and how often that says that it is still at it, in seconds.
CLAIM_SECONDS = 30
RENEW_SECONDS = 10.0
#: An image that is asked for counts as seen, which is written when it was so many seconds ago.
TOUCH_SECONDS = 86400

Found = TypeVar("Found")


def open_records(where: str | URL, *, run: str, steps: Sequence[Step] = STEPS) -> Records:
    """Return the records in a database; NO_RECORDS, after a warning, where it can't be used. Never raises.

    `where` is the path of an SQLite file, which is made where there is none, or an SQLAlchemy URL. `run` names the run
    to which what is noted belongs. `steps` are those that bring older tables up to date. Whoever opens records closes
    them.
    """
    try:
        url = as_url(where)
    except ValueError as error:
        logger.warning("Records can't be used, and the run goes on without: %s", error)
        return NO_RECORDS
    try:
        database = connect(url)
        try:
            with database.engine.connect() as connection:
                prepare(connection, steps)
        except BaseException:
            database.engine.dispose()
            raise
    except Exception as error:  # noqa: BLE001  # as below
        _warn(url, error)
        return NO_RECORDS
    return DatabaseRecords(database, run=run)


def _warn(url: URL, error: BaseException) -> None:
    logger.warning("Records in %s can't be used, and the run goes on without: %s", shown(url), reason_of(error, url))


class DatabaseRecords(Records):
    """Records in an open `database` whose tables are up to date; closes it. `run` names the run that notes."""

    lasting = True

    def __init__(self, database: Database, *, run: str) -> None:
        self._database = database
        self._statements = Statements(database.engine.dialect.name)
        #: What other hosts know this process by.
        self._owner = f"{socket.gethostname()[:200]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._writer = Writer(self._statements, run, self._owner)
        self._off = False
        self._closed = False
        self._pending = Pending()
        #: What is being written: not waiting any more, and not there yet for whoever reads.
        self._writing = Pending()
        self._claimed: set[tuple[str, str]] = set()
        #: Guards what is above and below. Never held while the database is asked.
        self._work = threading.Condition()
        self._thread: threading.Thread | None = None
        self._flush_at: float | None = None
        self._renew_at = 0.0
        #: Has this process's writes come one after the other, so that a claim is not overtaken by its release.
        self._write = threading.Lock()

    # --- Blobs -------------------------------------------------------------------------------------------

    def blobs(self, repository: Repository, digests: Collection[str]) -> Mapping[str, KnownBlob]:
        if self._off or not digests:
            return {}
        registry, own = repository.registry, repository.path
        # Looked at before the database, so that what is written in between is seen in one of them.
        with self._work:
            waiting = [
                (digest, path, change)
                for pending in (self._writing, self._pending)
                if pending.blobs
                for digest in digests
                for path, change in pending.blobs.get((registry, digest), {}).items()
            ]
        parameters = {"registry": registry, "path": own, "digests": list(digests)}

        def ask(connection: Connection) -> dict[str, KnownBlob]:
            rows = connection.execute(self._statements.blobs, parameters)
            return {digest: KnownBlob(bool(here), home, referenced) for digest, here, home, referenced in rows}

        nothing: dict[str, KnownBlob] = {}
        found = self._attempt(ask, nothing)
        for digest, path, change in waiting:
            found[digest] = change.applied(found.get(digest, KnownBlob()), path, path == own)
        return {digest: known for digest, known in found.items() if known.here or known.home} if waiting else found

    def note_blobs(self, repository: Repository, digests: Iterable[str], *, referenced: bool = False) -> None:
        if self._off:
            return
        with self._work:
            self._pending.note_blobs(repository.registry, repository.path, digests, referenced)
            self._wake(FLUSH_SECONDS)

    def forget_blobs(self, repository: Repository, digests: Iterable[str]) -> None:
        if self._off:
            return
        with self._work:
            self._pending.forget_blobs(repository.registry, repository.path, digests)
            self._wake(FLUSH_SECONDS)

    # --- Claims ------------------------------------------------------------------------------------------

    def claim(self, registry: str, digest: str) -> bool:
        key = registry, digest
        if self._off:
            return True
        with self._write:
            with self._work:
                if key in self._claimed:
                    return True
                self._pending.released.discard(key)
            now = int(self._database.now())
            row = {"registry": registry, "digest": digest, "owner": self._owner, "until": now + CLAIM_SECONDS}
            ours = self._attempt(lambda connection: self._statements.take_claim(connection, row, now), True)
            if ours and not self._off:
                with self._work:
                    if not self._claimed:
                        self._renew_at = time.monotonic() + RENEW_SECONDS
                    self._claimed.add(key)
                    self._wake(None)
        return ours

    def release(self, registry: str, digest: str) -> None:
        with self._work:
            if (registry, digest) not in self._claimed or self._off:
                return
            self._claimed.remove((registry, digest))
            self._pending.released.add((registry, digest))
            self._wake(RELEASE_SECONDS)

    # --- Images ------------------------------------------------------------------------------------------

    def images(self, destinations: Collection[str]) -> Mapping[str, KnownImage]:
        if self._off or not destinations:
            return {}
        self._flush()
        wanted = list(destinations)
        long_ago = self._database.now() - TOUCH_SECONDS
        faded: list[str] = []

        def ask(connection: Connection) -> dict[str, KnownImage]:
            found = {}
            for chunk in chunks(wanted):
                rows = connection.execute(self._statements.images, {"destinations": chunk})
                for destination, source, source_digest, platforms, digest, unchecked, failed, seen_at in rows:
                    found[destination] = KnownImage(
                        source, source_digest, platforms, digest, unchecked, failed=bool(failed)
                    )
                    if seen_at < long_ago:
                        faded.append(destination)
            return found

        nothing: dict[str, KnownImage] = {}
        found = self._attempt(ask, nothing)
        if faded:
            with self._work:
                self._pending.touch_images(faded)
                self._wake(FLUSH_SECONDS)
        return found

    def note_images(self, records: Iterable[ImageRecord]) -> None:
        if self._off:
            return
        at = int(self._database.now())
        with self._work:
            for record in records:
                self._pending.note_image(record, at)
            if self._pending.count:
                self._wake(FLUSH_SECONDS)

    # --- Writing -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what was noted, give all claims back, and close the database."""
        with self._work:
            if self._closed:
                return
            self._closed = True
            self._work.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._flush()
        if thread is not None and not self._off:
            values = {"old_owner": self._owner}
            self._attempt(lambda connection: connection.execute(self._statements.drop_claims, values), None)
        self._off = True
        self._database.engine.dispose()

    def _wake(self, seconds: float | None) -> None:
        """Have the thread write within so many seconds, None for only keeping claims; `_work` must be held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="imagesync-records", daemon=True)
            self._thread.start()
        if self._pending.count >= FLUSH_COUNT:
            seconds = 0.0
        if seconds is None:
            self._work.notify()
            return
        flush_at = time.monotonic() + seconds
        if self._flush_at is None or flush_at < self._flush_at:
            self._flush_at = flush_at
            self._work.notify()

    def _keep(self) -> None:
        """Write what waits long enough, and renew the claims, until the records are closed or given up."""
        while True:
            with self._work:
                while not self._is_due():
                    times = [self._flush_at, self._renew_at if self._claimed else None]
                    known = [one for one in times if one is not None]
                    self._work.wait(min(known) - time.monotonic() if known else None)
                if self._closed or self._off:
                    return
                now = time.monotonic()
                flush = self._flush_at is not None and self._flush_at <= now
                renew = bool(self._claimed) and self._renew_at <= now
            if flush:
                self._flush()
            if renew:
                self._renew()

    def _is_due(self) -> bool:
        now = time.monotonic()
        return (
            self._closed
            or self._off
            or (self._flush_at is not None and self._flush_at <= now)
            or (bool(self._claimed) and self._renew_at <= now)
        )

    def _renew(self) -> None:
        values = {"old_owner": self._owner, "new_until": int(self._database.now()) + CLAIM_SECONDS}
        with self._write:
            self._attempt(lambda connection: connection.execute(self._statements.renew_claims, values), None)
        self._renew_at = time.monotonic() + RENEW_SECONDS

    def _flush(self) -> None:
        """Write all that waits, in one transaction."""
        with self._write:
            with self._work:
                self._writing, self._pending, self._flush_at = self._pending, Pending(), None
                writing = self._writing
            if writing.count or writing.released:
                now = int(self._database.now())
                self._attempt(lambda connection: self._writer.write(connection, writing, now), None)
            with self._work:
                self._writing = Pending()

    def _attempt(self, work: Callable[[Connection], Found], otherwise: Found) -> Found:
        """Return what `work` returns, or `otherwise` where the database can't be used any more."""
        if self._off:
            return otherwise
        try:
            with self._database.engine.connect() as connection:
                return work(connection)
        except Exception as error:  # noqa: BLE001  # drivers raise what they like, and a run needs no records
            self._give_up(error)
            return otherwise

    def _give_up(self, error: BaseException) -> None:
        with self._work:
            if self._off:
                return
            self._off = True
            self._pending = Pending()
            self._claimed.clear()
            self._work.notify()
        _warn(self._database.engine.url, error)
