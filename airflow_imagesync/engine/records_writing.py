"""Writing what was noted to a database, in one transaction and in an order that all processes share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from airflow_imagesync.engine.records_connection import transaction
from airflow_imagesync.engine.records_pending import Pending, TimedRecord
from airflow_imagesync.engine.records_statements import Row, Statements

#: So many values are in the list of one statement.
CHUNK = 500
#: No error is kept longer, in characters.
_LONGEST_ERROR = 2000


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield `values` in parts that fit in one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


class Writer:
    """Writes for one process. `run` names the run that notes, `owner` is what this process's claims are known by."""

    def __init__(self, statements: Statements, run: str, owner: str) -> None:
        self._statements = statements
        self._run = _plain(run)
        self._owner = owner
        #: Rows of registries and repositories are never deleted, so that what is here stays true.
        self._registry_ids: dict[str, int] = {}
        self._repository_ids: dict[tuple[str, str], int] = {}

    def write(self, connection: Connection, pending: Pending, now: int) -> None:
        """Write all of `pending`; blobs are seen `now`, in seconds since 1970."""
        with transaction(connection):
            self._write_blobs(connection, pending, now)
            statements = self._statements
            # Rows are sorted, here and below: who locks in one order never waits for each other in a circle.
            statements.put_known_images(connection, [self._known_row(one) for one in _sorted(pending.known)])
            for chunk in chunks(sorted(pending.touched)):
                connection.execute(statements.touch_images, {"destinations": chunk, "new_seen_at": now})
            self._write_trusted(connection, _sorted(pending.trusted))
            statements.put_failed_images(connection, [self._failed_row(one) for one in _sorted(pending.failed)])
            if pending.released:
                connection.execute(
                    statements.drop_claim,
                    [
                        {"old_registry": registry, "old_digest": digest, "old_owner": self._owner}
                        for registry, digest in sorted(pending.released)
                    ],
                )

    # --- Blobs -------------------------------------------------------------------------------------------

    def _write_blobs(self, connection: Connection, pending: Pending, now: int) -> None:
        if not pending.blobs:
            return
        self._learn_ids(
            connection, {(registry, path) for (registry, _), by_path in pending.blobs.items() for path in by_path}
        )
        changes = sorted(
            (self._registry_ids[registry], digest, self._repository_ids[registry, path], change)
            for (registry, digest), by_path in pending.blobs.items()
            for path, change in by_path.items()
        )
        forgotten = [
            {"old_registry_id": registry_id, "old_digest": digest, "old_repository_id": repository_id}
            for registry_id, digest, repository_id, change in changes
            if change.forgotten
        ]
        if forgotten:
            connection.execute(self._statements.drop_blobs, forgotten)
        self._statements.put_blobs(
            connection,
            [
                {
                    "registry_id": registry_id,
                    "digest": digest,
                    "repository_id": repository_id,
                    "referenced": int(change.referenced),
                    "seen_at": now,
                }
                for registry_id, digest, repository_id, change in changes
                if change.noted
            ],
        )

    def _learn_ids(self, connection: Connection, repositories: Iterable[tuple[str, str]]) -> None:
        missing = defaultdict(list)
        for registry, path in sorted(repositories):
            if (registry, path) not in self._repository_ids:
                missing[registry].append(path)
        for registry, paths in missing.items():
            registry_id = self._registry_id(connection, registry)
            unknown = set(paths) - self._find_paths(connection, registry, registry_id, paths)
            if unknown:
                self._statements.put_repositories(
                    connection, [{"registry_id": registry_id, "path": path} for path in sorted(unknown)]
                )
                self._find_paths(connection, registry, registry_id, sorted(unknown))

    def _registry_id(self, connection: Connection, registry: str) -> int:
        known = self._registry_ids.get(registry)
        if known is None:
            query, name = self._statements.registry_id, {"name": registry}
            known = connection.execute(query, name).scalar()
            if known is None:
                self._statements.put_registry(connection, [name])
                known = connection.execute(query, name).scalar_one()
            self._registry_ids[registry] = known
        return known

    def _find_paths(self, connection: Connection, registry: str, registry_id: int, paths: Sequence[str]) -> set[str]:
        found = {
            path: repository_id
            for chunk in chunks(paths)
            for path, repository_id in connection.execute(
                self._statements.repository_ids, {"registry_id": registry_id, "paths": chunk}
            )
        }
        self._repository_ids.update({(registry, path): repository_id for path, repository_id in found.items()})
        return set(found)

    # --- Images ------------------------------------------------------------------------------------------

    def _known_row(self, one: TimedRecord) -> Row:
        record = one.record
        return {
            **self._failed_row(one),
            "source_digest": record.source_digest,
            "digest": record.digest,
            "checked_at": one.at,
        }

    def _failed_row(self, one: TimedRecord) -> dict[str, Any]:
        record = one.record
        return {
            "destination": record.destination,
            "source": record.source,
            "platforms": record.platforms,
            "result": record.result,
            "error": None if record.error is None else _plain(record.error),
            "run": self._run,
            "at": one.at,
            "unchecked": 0,
            "seen_at": one.at,
        }

    def _write_trusted(self, connection: Connection, trusted: Iterable[TimedRecord]) -> None:
        """Count that images were believed; those of one time and result, which are all of a plan, at once."""
        alike = defaultdict(list)
        for one in trusted:
            alike[one.record.result, one.at].append(one.record.destination)
        for (result, at), destinations in alike.items():
            for chunk in chunks(destinations):
                connection.execute(
                    self._statements.trust_images,
                    {"destinations": chunk, "new_result": result, "new_run": self._run, "new_at": at},
                )


def _sorted(images: dict[str, TimedRecord]) -> list[TimedRecord]:
    return [images[destination] for destination in sorted(images)]


def _plain(text: str) -> str:
    """Return a text that every database takes: no NUL, nothing that is not UTF-8, and not endless."""
    return text[:_LONGEST_ERROR].replace("\0", "").encode("utf-8", "replace").decode()
