"""The statements that records are read and written with, for the dialects that SQLAlchemy knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from airflow_imagesync.engine.records_schema import blobs, claims, images, registries, repositories

Row = Mapping[str, Any]
#: From the values of the row that is there to those that it gets; the argument has the new row's values.
Change = Callable[[Any], dict[str, Any]]

#: Dialects whose insert can be told what to do when the row is there.
_ON_CONFLICT = ("sqlite", "postgresql")

#: Who has seen a blob so many seconds ago has seen it now: what is noted again and again is not written each time.
SEEN_AGAIN_SECONDS = 3600


class Upsert:
    """Puts rows in, and changes those that are there: at once where the dialect can, else one after the other.

    `keys` name the columns that tell whether a row is there, in `table`. `unless` is a condition on what is there and
    on what is new under which nothing need change.
    """

    def __init__(
        self,
        dialect: str,
        table: Table,
        keys: Sequence[str],
        change: Change,
        unless: Callable[[Any], Any] | None = None,
    ) -> None:
        self._statement: Any = None
        if dialect in _ON_CONFLICT:
            new = _insert_for(dialect, table)
            self._statement = new.on_conflict_do_update(
                index_elements=list(keys),
                set_=change(new.excluded),
                where=None if unless is None else ~unless(new.excluded),
            )
        elif dialect in ("mysql", "mariadb"):
            new = _insert_for("mysql", table)
            self._statement = new.on_duplicate_key_update(change(new.inserted))
        else:
            same = (table.c[key] == bindparam(f"new_{key}") for key in keys)
            self._update = update(table).where(*same).values(change(_Parameters()))
            self._insert = insert(table)

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write `rows`, all with the same columns and none twice."""
        if not rows:
            return
        if self._statement is not None:
            connection.execute(self._statement, rows)
            return
        for row in rows:
            if connection.execute(self._update, {f"new_{key}": value for key, value in row.items()}).rowcount == 0:
                connection.execute(self._insert, row)


def _insert_for(dialect: str, table: Table) -> Any:
    """Return the dialect's own insert. The others' are not imported, which would take time."""
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


class _Parameters:
    """Stands for a new row in a statement of its own."""

    def __getattr__(self, name: str) -> Any:
        return bindparam(f"new_{name}")


class TakeClaim:
    """Takes a claim, unless another owner has it whose time is not over yet."""

    def __init__(self, dialect: str) -> None:
        self._insert: Any = insert(claims)
        self._in_one = dialect in _ON_CONFLICT
        if self._in_one:
            new = _insert_for(dialect, claims)
            self._insert = new.on_conflict_do_update(
                index_elements=["registry", "digest"],
                set_={"owner": new.excluded.owner, "until": new.excluded.until},
                where=_free(new.excluded.owner),
            )
        self._update = (
            update(claims)
            .where(claims.c.registry == bindparam("new_registry"), claims.c.digest == bindparam("new_digest"))
            .where(_free(bindparam("new_owner")))
            .values(owner=bindparam("new_owner"), until=bindparam("new_until"))
        )

    def __call__(self, connection: Connection, row: Row, now: int) -> bool:
        """Return whether the claim of `row` is its owner's; `now` is the time by which the others' are judged."""
        if self._in_one:
            return bool(connection.execute(self._insert, {**row, "now": now}).rowcount)
        values = {f"new_{key}": value for key, value in row.items()}
        if connection.execute(self._update, {**values, "now": now}).rowcount:
            return True
        try:
            connection.execute(self._insert, row)
        except IntegrityError:
            return False
        return True


def _free(owner: Any) -> Any:
    """Return the condition under which a claim that is there may be taken."""
    return or_(claims.c.until < bindparam("now"), claims.c.owner == owner)


def blobs_query() -> Select[Any]:
    """Return the query for blobs in one registry: what this repository has, and one other that has it.

    Parameters: ``registry`` (its name), ``path`` (of this repository), ``digests`` (a list). Columns: the digest,
    whether it is here (0 or 1), the path of another repository, and of another where a manifest refers to it. It is
    always the repository that was noted first, which many images then have in common.
    """
    registry = select(registries.c.id).where(registries.c.name == bindparam("registry")).scalar_subquery()
    own = (
        select(repositories.c.id)
        .where(repositories.c.registry_id == registry, repositories.c.path == bindparam("path"))
        .scalar_subquery()
    )
    this = func.coalesce(own, 0)
    other = blobs.c.repository_id
    found = (
        select(
            blobs.c.digest,
            func.max(case((other == this, 1), else_=0)).label("here"),
            func.min(case((other != this, other))).label("home"),
            func.min(case(((other != this) & (blobs.c.referenced == 1), other))).label("referenced"),
        )
        .where(blobs.c.registry_id == registry, blobs.c.digest.in_(bindparam("digests", expanding=True)))
        .group_by(blobs.c.digest)
        .subquery()
    )
    home, referenced = repositories.alias(), repositories.alias()
    return (
        select(found.c.digest, found.c.here, home.c.path, referenced.c.path)
        .outerjoin(home, home.c.id == found.c.home)
        .outerjoin(referenced, referenced.c.id == found.c.referenced)
    )


def images_query() -> Select[Any]:
    """Return the query for destinations that are known with both digests; parameter: ``destinations`` (a list)."""
    return select(
        images.c.destination,
        images.c.source,
        images.c.source_digest,
        images.c.platforms,
        images.c.digest,
        images.c.unchecked,
        images.c.result == "failed",
        images.c.seen_at,
    ).where(
        images.c.destination.in_(bindparam("destinations", expanding=True)),
        images.c.source_digest.is_not(None),
        images.c.digest.is_not(None),
    )


class Statements:
    """The statements for one dialect, each made once and compiled once by SQLAlchemy."""

    def __init__(self, dialect: str) -> None:
        self.blobs = blobs_query()
        self.images = images_query()
        self.registry_id = select(registries.c.id).where(registries.c.name == bindparam("name"))
        self.repository_ids = select(repositories.c.path, repositories.c.id).where(
            repositories.c.registry_id == bindparam("registry_id"),
            repositories.c.path.in_(bindparam("paths", expanding=True)),
        )
        self.put_registry = Upsert(dialect, registries, ("name",), lambda new: {"name": new.name})
        self.put_repositories = Upsert(dialect, repositories, ("registry_id", "path"), lambda new: {"path": new.path})
        self.put_blobs = Upsert(
            dialect,
            blobs,
            ("registry_id", "digest", "repository_id"),
            lambda new: {
                "referenced": case((blobs.c.referenced == 1, 1), else_=new.referenced),
                "seen_at": new.seen_at,
            },
            unless=lambda new: (
                (blobs.c.seen_at > new.seen_at - SEEN_AGAIN_SECONDS) & (blobs.c.referenced >= new.referenced)
            ),
        )
        self.drop_blobs = delete(blobs).where(
            blobs.c.registry_id == bindparam("old_registry_id"),
            blobs.c.digest == bindparam("old_digest"),
            blobs.c.repository_id == bindparam("old_repository_id"),
        )
        self.put_known_images = Upsert(
            dialect,
            images,
            ("destination",),
            lambda new: {one.name: getattr(new, one.name) for one in images.c if one.name != "destination"},
        )
        self.put_failed_images = Upsert(
            dialect,
            images,
            ("destination",),
            lambda new: {name: getattr(new, name) for name in ("result", "error", "run", "at", "seen_at")},
        )
        self.trust_images = (
            update(images)
            .where(images.c.destination.in_(bindparam("destinations", expanding=True)))
            .values(
                unchecked=images.c.unchecked + 1,
                result=bindparam("new_result"),
                error=None,
                run=bindparam("new_run"),
                at=bindparam("new_at"),
                seen_at=bindparam("new_at"),
            )
        )
        self.touch_images = (
            update(images)
            .where(images.c.destination.in_(bindparam("destinations", expanding=True)))
            .values(seen_at=bindparam("new_seen_at"))
        )
        self.take_claim = TakeClaim(dialect)
        self.drop_claim = delete(claims).where(
            claims.c.registry == bindparam("old_registry"),
            claims.c.digest == bindparam("old_digest"),
            claims.c.owner == bindparam("old_owner"),
        )
        self.drop_claims = delete(claims).where(claims.c.owner == bindparam("old_owner"))
        self.renew_claims = (
            update(claims).where(claims.c.owner == bindparam("old_owner")).values(until=bindparam("new_until"))
        )
