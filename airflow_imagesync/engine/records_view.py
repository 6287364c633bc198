"""What people do with records: look at them, take them out, and drop what is old."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Select, case, delete, distinct, func, select

from airflow_imagesync.engine.records_connection import (
    DATABASE_ERRORS,
    Database,
    as_url,
    connect,
    reason_of,
    shown,
    sqlite_file,
    transaction,
)
from airflow_imagesync.engine.records_schema import (
    blobs,
    claims,
    images,
    prepare,
    registries,
    repositories,
    version_of,
)
from airflow_imagesync.errors import RecordsUnusable

#: So many of the last runs are shown.
LAST_RUNS = 10
#: Rows that the driver fetches at once.
_FETCHED = 1000


class RecordsView:
    """The records in a database that is there already; use it as a context manager.

    ``name`` says where they are, for people. ``exists`` is False where none were ever kept: then there is nothing in
    them, and nothing is made. Raises RecordsUnusable, when opened and later.
    """

    def __init__(self, where: str | URL) -> None:
        """Open the records in `where`: the path of an SQLite file, or an SQLAlchemy URL."""
        try:
            url = as_url(where)
        except ValueError as error:
            raise RecordsUnusable(f"records can't be used: {error}") from None
        self._url = url
        self._file = sqlite_file(url)
        self._database: Database | None = None
        self.name = shown(url)
        if self._file is not None and not self._file.exists():
            return
        with self._named_errors():
            database = connect(url)
            try:
                with database.engine.connect() as connection:
                    if version_of(connection) is not None:
                        prepare(connection)
                        self._database = database
            finally:
                if self._database is None:
                    database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.engine.dispose()

    @property
    def exists(self) -> bool:
        """Whether records were ever kept there."""
        return self._database is not None

    def summary(self, registry: str | None = None) -> dict[str, Any]:
        """Return what there is, as plain values: registries with their counts, the last runs, and the images.

        `registry` limits it to what is of that registry. Runs are those that images were last noted by.
        """
        listed = list(self._rows(self._images(registry))) if self.exists else []
        by_registry = Counter(one["destination"].partition("/")[0] for one in listed)
        found = {row["registry"]: row for row in (self._rows(_counts(registry)) if self.exists else ())}
        for name in by_registry:
            found.setdefault(name, {"registry": name, "repositories": 0, "blobs": 0})
        return {
            "records": self.name,
            "size": self._size(),
            "registries": [{**found[name], "images": by_registry[name]} for name in sorted(found)],
            "runs": [_readable(row) for row in self._rows(_runs(registry))] if self.exists else [],
            "images": [_readable(row) for row in listed],
        }

    def export(self) -> Iterator[dict[str, Any]]:
        """Yield everything, row by row, as plain values whose ``type`` is ``blob`` or ``image``."""
        if not self.exists:
            return
        held = (
            select(registries.c.name.label("registry"), repositories.c.path.label("repository"))
            .add_columns(blobs.c.digest, blobs.c.referenced, blobs.c.seen_at)
            .join_from(blobs, registries, registries.c.id == blobs.c.registry_id)
            .join(repositories, repositories.c.id == blobs.c.repository_id)
            .order_by(registries.c.name, blobs.c.digest, repositories.c.path)
        )
        for row in self._rows(held):
            yield {"type": "blob", **_readable(row), "referenced": bool(row["referenced"])}
        for row in self._rows(self._images(None)):
            yield {"type": "image", **_readable(row)}

    def prune(self, seconds: float, registry: str | None = None) -> tuple[int, int]:
        """Drop what was not seen for so long, in `registry` where one is given; return how many blobs and images.

        Repositories stay: other processes remember their ids. Claims whose process is gone are dropped, too.
        """
        if self._database is None:
            return 0, 0
        before = int(self._database.now() - seconds)
        old_blobs = delete(blobs).where(blobs.c.seen_at < before)
        old_images = delete(images).where(images.c.seen_at < before)
        if registry is not None:
            of_registry = select(registries.c.id).where(registries.c.name == registry).scalar_subquery()
            old_blobs = old_blobs.where(blobs.c.registry_id == of_registry)
            old_images = old_images.where(images.c.destination.startswith(f"{registry}/", autoescape=True))
        with self._named_errors(), self._database.engine.connect() as connection, transaction(connection):
            connection.execute(delete(claims).where(claims.c.until < int(self._database.now())))
            return connection.execute(old_blobs).rowcount, connection.execute(old_images).rowcount

    def _images(self, registry: str | None) -> Select[Any]:
        query = select(images).order_by(images.c.destination)
        if registry is not None:
            query = query.where(images.c.destination.startswith(f"{registry}/", autoescape=True))
        return query

    def _rows(self, query: Select[Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `query`, fetched as they are wanted."""
        if self._database is None:
            return
        with self._named_errors(), self._database.engine.connect() as connection:
            if self._file is None:  # servers hand rows out piece by piece only within a transaction
                connection.execution_options(isolation_level="READ COMMITTED")
            connection.execution_options(yield_per=_FETCHED)
            for row in connection.execute(query).mappings():
                yield dict(row)

    def _size(self) -> int | None:
        """Return the bytes that an SQLite file takes; None for any other database."""
        if self._file is None:
            return None
        parts = [self._file, *(Path(f"{self._file}{suffix}") for suffix in ("-wal", "-shm"))]
        return sum(one.stat().st_size for one in parts if one.exists())

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (*DATABASE_ERRORS, RecordsUnusable) as error:
            raise RecordsUnusable(f"records in {self.name} can't be used: {reason_of(error, self._url)}") from None


def _counts(registry: str | None) -> Select[Any]:
    query = (
        select(
            registries.c.name.label("registry"),
            func.count(distinct(blobs.c.repository_id)).label("repositories"),
            func.count(distinct(blobs.c.digest)).label("blobs"),
        )
        .join_from(blobs, registries, registries.c.id == blobs.c.registry_id)
        .group_by(registries.c.name)
    )
    return query if registry is None else query.where(registries.c.name == registry)


def _runs(registry: str | None) -> Select[Any]:
    def count(result: str) -> Any:
        return func.sum(case((images.c.result == result, 1), else_=0)).label(result)

    query = (
        select(images.c.run, func.max(images.c.at).label("at"), count("copied"), count("same"), count("failed"))
        .group_by(images.c.run)
        .order_by(func.max(images.c.at).desc(), images.c.run)
        .limit(LAST_RUNS)
    )
    if registry is None:
        return query
    return query.where(images.c.destination.startswith(f"{registry}/", autoescape=True))


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its times as text, in UTC."""
    return {
        key: datetime.fromtimestamp(value, UTC).isoformat() if key.endswith("at") and value is not None else value
        for key, value in row.items()
    }
