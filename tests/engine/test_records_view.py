"""What people see of records, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.records import ImageRecord
from airflow_imagesync.engine.records_database import open_records
from airflow_imagesync.engine.records_view import RecordsView
from airflow_imagesync.errors import RecordsUnusable
from tests.support.postgres import PostgresServer
from tests.support.records import DIGESTS, opened, query, where

__all__ = ["where"]  # a fixture

A, B = Repository("registry.example.com", "team/a"), Repository("registry.example.com", "team/b")
OTHER = Repository("quay.io", "team/a")
ONE, TWO = DIGESTS[:2]
#: An underscore is any character in a LIKE pattern.
SIMILAR = Repository("registry-example.com", "a")


@pytest.fixture
def kept(where: str) -> str:
    """Records of two runs in three registries, all seen at midnight of 2026-01-01."""
    with opened(where, "dag/first") as records:
        records.note_blobs(A, [ONE], referenced=True)
        records.note_blobs(B, [ONE, TWO])
        records.note_blobs(OTHER, [TWO])
        records.note_images(
            [
                ImageRecord(f"{A}:v1", "docker.io/library/a:v1", "linux/amd64", "copied", ONE, TWO),
                ImageRecord(f"{A}:v2", "docker.io/library/a:v2", "", "failed", error="no answer"),
                ImageRecord(f"{SIMILAR}:v1", "docker.io/library/a:v1", "", "same", ONE, ONE),
            ]
        )
    query(where, "UPDATE imagesync_images SET at = 1767225500, seen_at = 1767225600, checked_at = 1767225600")
    with opened(where, "dag/second") as records:
        records.note_images([ImageRecord(f"{OTHER}:v1", "docker.io/library/a:v1", "", "same", TWO, TWO)])
    query(where, "UPDATE imagesync_images SET at = 1767225600, seen_at = 1767225600 WHERE run = 'dag/second'")
    query(where, "UPDATE imagesync_blobs SET seen_at = 1767225600")
    return where


def test_a_summary_counts_by_registry_and_lists_runs_and_images(kept: str) -> None:
    with RecordsView(kept) as view:
        assert view.exists
        summary = view.summary()
    assert summary["registries"] == [
        {"registry": "quay.io", "repositories": 1, "blobs": 1, "images": 1},
        {"registry": "registry-example.com", "repositories": 0, "blobs": 0, "images": 1},
        {"registry": "registry.example.com", "repositories": 2, "blobs": 2, "images": 2},
    ]
    assert summary["runs"] == [
        {"run": "dag/second", "at": "2026-01-01T00:00:00+00:00", "copied": 0, "same": 1, "failed": 0},
        {"run": "dag/first", "at": "2025-12-31T23:58:20+00:00", "copied": 1, "same": 1, "failed": 1},
    ]
    assert [one["destination"] for one in summary["images"]] == sorted(
        [f"{A}:v1", f"{A}:v2", f"{OTHER}:v1", f"{SIMILAR}:v1"]
    )
    (failed,) = [one for one in summary["images"] if one["result"] == "failed"]
    assert failed == {
        "destination": f"{A}:v2",
        "source": "docker.io/library/a:v2",
        "platforms": "",
        "source_digest": None,
        "digest": None,
        "result": "failed",
        "error": "no answer",
        "run": "dag/first",
        "at": "2025-12-31T23:58:20+00:00",
        "checked_at": "2026-01-01T00:00:00+00:00",
        "unchecked": 0,
        "seen_at": "2026-01-01T00:00:00+00:00",
    }
    assert summary["records"].endswith(kept.rpartition("/")[2])
    assert (summary["size"] or 0) > 10_000 or "://" in kept


def test_a_summary_may_be_of_one_registry(kept: str) -> None:
    with RecordsView(kept) as view:
        summary = view.summary("registry.example.com")
    assert summary["registries"] == [{"registry": "registry.example.com", "repositories": 2, "blobs": 2, "images": 2}]
    assert [one["destination"] for one in summary["images"]] == [f"{A}:v1", f"{A}:v2"]
    assert [(one["run"], one["same"]) for one in summary["runs"]] == [("dag/first", 0)]


def test_everything_is_exported(kept: str) -> None:
    with RecordsView(kept) as view:
        rows = list(view.export())
    when = "2026-01-01T00:00:00+00:00"

    def blob(repository: Repository, digest: str, referenced: bool = False) -> dict[str, Any]:
        return {
            "type": "blob",
            "registry": repository.registry,
            "repository": repository.path,
            "digest": digest,
            "referenced": referenced,
            "seen_at": when,
        }

    assert rows[:4] == [blob(OTHER, TWO), blob(A, ONE, True), blob(B, ONE), blob(B, TWO)]
    assert [(row["type"], row["destination"], row["result"], row["run"]) for row in rows[4:]] == [
        ("image", f"{OTHER}:v1", "same", "dag/second"),
        ("image", f"{SIMILAR}:v1", "same", "dag/first"),
        ("image", f"{A}:v1", "copied", "dag/first"),
        ("image", f"{A}:v2", "failed", "dag/first"),
    ]


def test_thousands_of_rows_are_exported(where: str) -> None:
    with opened(where) as records:
        records.note_blobs(A, DIGESTS)
    with RecordsView(where) as view:
        assert [row["digest"] for row in view.export()] == DIGESTS


def age() -> float:
    """How many seconds ago the records of `kept` were seen."""
    return datetime.now(UTC).timestamp() - 1767225600


def test_what_was_not_seen_for_long_is_pruned(kept: str) -> None:
    with opened(kept) as records:
        records.note_blobs(B, [TWO])
        records.note_images([ImageRecord(f"{A}:v1", "docker.io/library/a:v1", "linux/amd64", "same", ONE, TWO)])
    with RecordsView(kept) as view:
        assert view.prune(age() + 60) == (0, 0)
        assert view.prune(age() - 60, "registry.example.com") == (2, 1)
        assert view.prune(age() - 60) == (1, 2)
        assert [(row["type"], row.get("destination", row["digest"])) for row in view.export()] == [
            ("blob", TWO),
            ("image", f"{A}:v1"),
        ]
    with opened(kept) as records:  # what is left works
        records.note_blobs(A, [ONE])
        assert set(records.blobs(A, [ONE, TWO])) == {ONE, TWO}


def test_claims_of_processes_that_are_gone_are_pruned(kept: str) -> None:
    with opened(kept) as records:
        assert records.claim("quay.io", ONE)
        assert records.claim("quay.io", TWO)
        query(kept, "UPDATE imagesync_claims SET until = 1 WHERE digest = :one", one=ONE)
        with RecordsView(kept) as view:
            view.prune(0)
        assert query(kept, "SELECT digest FROM imagesync_claims") == [(TWO,)]


def test_where_nothing_was_kept_nothing_is_made(where: str) -> None:
    with RecordsView(where) as view:
        assert not view.exists
        summary = view.summary()
        assert (summary["registries"], summary["runs"], summary["images"]) == ([], [], [])
        assert list(view.export()) == []
        assert view.prune(0) == (0, 0)
    if "://" in where:
        assert query(where, "SELECT * FROM pg_tables WHERE tablename LIKE 'imagesync%'") == []
    else:
        assert not Path(where).parent.exists()


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, postgres: PostgresServer) -> None:
    file = tmp_path / "records.db"
    file.write_text("rules: []\n" * 500)
    with pytest.raises(RecordsUnusable, match=f"records in {file} can't be used: file is not a database"):
        RecordsView(str(file))
    with pytest.raises(RecordsUnusable, match="password authentication failed") as caught:
        RecordsView(postgres.url("postgres", password="wr0ng-w0rd"))
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(RecordsUnusable, match="expected an SQLite URL that names a file"):
        RecordsView("sqlite://")


def test_records_of_a_later_release_are_not_read(where: str) -> None:
    open_records(where, run="later", steps=(lambda connection: None,)).close()
    with pytest.raises(RecordsUnusable, match="a later release made it"):
        RecordsView(where)
