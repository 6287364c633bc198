"""Where Airflow's syncs keep their records: an Airflow connection, or what its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Connection, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL

SECTION = "imagesync"
#: Airflow's types of connections whose SQLAlchemy dialect has another name.
_DIALECTS = {"postgres": "postgresql"}
#: What PostgreSQL's driver understands of the extra of Airflow's connections to it.
_POSTGRES_EXTRAS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


def configured_records(conn_id: str | None = None) -> str | URL | None:
    """
    Return where records are: a path or a URL; None for nowhere.

    :param conn_id: the connection to their database; without one, what Airflow's configuration says
    :raises ConfigError: when there is no such connection
    """
    conn_id = (conn_id or conf.get(SECTION, "records_conn_id", fallback="") or "").strip()
    if conn_id:
        return _url_of(conn_id)
    return (conf.get(SECTION, "records", fallback="") or "").strip() or None


def open_records_of_run(where: str | URL | None, context: Mapping[str, Any]) -> Records:
    """
    Return open records, to be closed; those of nothing, after a warning, where the database can't be used.

    :param where: what `configured_records` returned
    :param context: the task's context, which says what run notes something
    """
    if where is None:
        return NO_RECORDS
    from airflow_imagesync.engine.records_database import open_records

    ti = context["ti"]
    return open_records(where, run=f"{ti.dag_id}/{ti.run_id}")


def _url_of(conn_id: str) -> URL:
    from sqlalchemy import URL

    connection = _connection(conn_id)
    conn_type = connection.conn_type or ""
    if conn_type == "sqlite":
        return URL.create("sqlite", database=connection.host or connection.schema)
    extra = connection.extra_dejson if conn_type == "postgres" else {}
    return URL.create(
        _DIALECTS.get(conn_type, conn_type),
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema or None,
        query={name: str(extra[name]) for name in _POSTGRES_EXTRAS if extra.get(name)},
    )


def _connection(conn_id: str) -> Connection:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigError(
            f"there is no connection {conn_id!r}, which the records should be in; create it under Admin, Connections"
        ) from error
    except PermissionError as error:  # a secrets backend that refuses this task
        raise ConfigError(
            f"the connection {conn_id!r}, which the records should be in, can't be used: {error}"
        ) from error
