"""The tables of records, and bringing a database up to date that an earlier release made.

All names begin with ``imagesync_``: the database may be shared with somebody else. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
    update,
)

from airflow_imagesync.engine.records_connection import transaction
from airflow_imagesync.errors import RecordsUnusable

#: Changes a database that is there. `metadata` below says how a new one looks.
Step = Callable[[Connection], None]

#: From version 1 to 2, from 2 to 3, and so on. A step is never changed once it was released.
STEPS: tuple[Step, ...] = ()

#: Any number, the same in all releases: what PostgreSQL's lock for the whole schema is known by.
_ADVISORY_LOCK = 0x1A6E5C

#: For MySQL, which otherwise takes V1 and v1 for the same tag.
_MYSQL_OPTIONS = {"default_charset": "utf8mb4", "collate": "utf8mb4_bin"}

_NAME = String(255)  # the longest that a registry and a repository may have together
_DIGEST = String(150)
_REFERENCE = String(512)

metadata = MetaData()
schema = Table("imagesync_schema", metadata, Column("version", Integer, nullable=False))
registries = Table(
    "imagesync_registries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
)
repositories = Table(
    "imagesync_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("registry_id", Integer, nullable=False),
    Column("path", _NAME, nullable=False),
    UniqueConstraint("registry_id", "path"),
)
#: What is asked is always who in a registry has a blob, which the primary key answers alone. There is no index on the
#: time: every note would pay for it, and only the rare pruning would use it.
blobs = Table(
    "imagesync_blobs",
    metadata,
    Column("registry_id", Integer, primary_key=True, autoincrement=False),
    Column("digest", _DIGEST, primary_key=True),
    Column("repository_id", Integer, primary_key=True, autoincrement=False),
    Column("referenced", SmallInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
images = Table(
    "imagesync_images",
    metadata,
    Column("destination", _REFERENCE, primary_key=True),
    Column("source", Text, nullable=False),
    Column("platforms", Text, nullable=False),
    Column("source_digest", _DIGEST),
    Column("digest", _DIGEST),
    Column("result", String(20), nullable=False),
    Column("error", Text),
    Column("run", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("checked_at", BigInteger),
    Column("unchecked", Integer, nullable=False),
    # What stays the same is not noted anew, but it is asked for: that counts for pruning.
    Column("seen_at", BigInteger, nullable=False),
)
claims = Table(
    "imagesync_claims",
    metadata,
    Column("registry", _NAME, primary_key=True),
    Column("digest", _DIGEST, primary_key=True),
    Column("owner", _NAME, nullable=False),
    Column("until", BigInteger, nullable=False),
)


def version_of(connection: Connection) -> int | None:
    """Return the version of the tables in a database; None where there are none."""
    if not inspect(connection).has_table(schema.name):
        return None
    return connection.execute(select(schema.c.version)).scalar()


def prepare(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Create the tables, or do the steps that they lack, in one transaction; many processes may do so at once.

    Raises RecordsUnusable when the tables are of a later version.
    """
    wanted = 1 + len(steps)
    found = version_of(connection)
    if found is None or found < wanted:
        with transaction(connection):
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
            found = version_of(connection)  # another process may have been quicker
            if found is None:
                _create(connection)
                connection.execute(insert(schema), {"version": wanted})
            elif found < wanted:
                for step in steps[found - 1 :]:
                    step(connection)
                connection.execute(update(schema).values(version=wanted))
    if found is not None and found > wanted:
        raise RecordsUnusable(
            f"a later release made it (version {found} of its tables, this one knows {wanted}); upgrade this one too"
        )


def _create(connection: Connection) -> None:
    if connection.dialect.name in ("mysql", "mariadb"):
        for table in metadata.sorted_tables:
            table.dialect_options[connection.dialect.name].update(_MYSQL_OPTIONS)
    metadata.create_all(connection)
