"""Records in both databases that are tested for real, and processes that use them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from airflow_imagesync.engine.records_connection import as_url, connect
from airflow_imagesync.engine.records_database import DatabaseRecords, open_records

DIGESTS = [f"sha256:{number:064x}" for number in range(3000)]

#: What every script begins with: the records are in the first argument.
_BEGIN = """
import logging, sys
logging.basicConfig()
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.records import ImageRecord
from airflow_imagesync.engine.records_database import open_records
from tests.support.records import DIGESTS
where = sys.argv[1]
"""


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of this test's own, without any tables."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "records.db")
    postgres = request.getfixturevalue("postgres")
    return str(postgres.url(postgres.new_database()))


def opened(where: str, run: str = "a_dag/a_run") -> DatabaseRecords:
    """Open records that work."""
    records = open_records(where, run=run)
    assert isinstance(records, DatabaseRecords)
    return records


def query(where: str, statement: str, **values: Any) -> list[Any]:
    """Do what a statement says, on a connection of its own, and return its rows."""
    database = connect(as_url(where))
    try:
        with database.engine.connect() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        database.engine.dispose()


def eventually(check: Callable[[], object]) -> None:
    """Wait until `check` returns something true, and fail after a while."""
    until = time.monotonic() + 20
    while not check():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def together(where: str, script: str, count: int, barriers: int = 1) -> list[str]:
    """Run `script` in so many processes at once, and return what each wrote in the end; all must succeed in silence.

    ``number`` is the position of a process in it. ``barrier()`` waits until all are there, so many times.
    """
    code = f"""{_BEGIN}
number = int(sys.argv[2])
def barrier():
    print("ready", flush=True)
    sys.stdin.readline()
{script}
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, where, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for _ in range(barriers):
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", process.communicate()[1]
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [(process.returncode, error) for process, (_, error) in zip(processes, outputs, strict=True)] == [
        (0, "")
    ] * count
    return [output for output, _ in outputs]


def started(where: str, script: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that runs `script`, and kill it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN + script, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
