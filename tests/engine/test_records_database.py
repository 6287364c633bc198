"""Records in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine import records_database
from airflow_imagesync.engine.records import NO_RECORDS, ImageRecord, KnownBlob, KnownImage, Records
from airflow_imagesync.engine.records_connection import as_url, reason_of
from airflow_imagesync.engine.records_database import DatabaseRecords, open_records
from tests.support.postgres import PostgresServer
from tests.support.records import DIGESTS, eventually, opened, query, started, together, where

__all__ = ["where"]  # a fixture

A, B, C = (Repository("registry.example.com", f"team/{name}") for name in "abc")
ELSEWHERE = Repository("quay.io", "team/a")
ONE, TWO, THREE = DIGESTS[:3]


@contextmanager
def another(where: str) -> Iterator[DatabaseRecords]:
    """Another process's records, as far as the database can tell."""
    with opened(where, "another/run") as records:
        yield records


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged at warning level or above, by whatever logger."""
    caplog.set_level(logging.DEBUG, "airflow_imagesync")
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# --- Blobs -----------------------------------------------------------------------------------------------


def test_what_one_run_noted_the_next_knows(where: str) -> None:
    with opened(where) as records:
        assert records.lasting
        assert records.blobs(A, [ONE, TWO]) == {}
        records.note_blobs(A, [ONE, TWO])
        records.note_blobs(B, [TWO], referenced=True)
    with opened(where) as records:
        assert records.blobs(A, [ONE, TWO, THREE]) == {
            ONE: KnownBlob(here=True),
            TWO: KnownBlob(here=True, home=B.path, referenced=B.path),
        }
        assert records.blobs(B, [ONE, TWO]) == {ONE: KnownBlob(home=A.path), TWO: KnownBlob(here=True, home=A.path)}
        assert records.blobs(C, [TWO]) == {TWO: KnownBlob(home=A.path, referenced=B.path)}
        assert records.blobs(ELSEWHERE, [ONE, TWO]) == {}
        assert records.blobs(A, []) == {}


def test_a_process_knows_what_it_noted_before_it_is_written(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_database, "FLUSH_SECONDS", 3600.0)
    with opened(where) as records, another(where) as other:
        records.note_blobs(A, [ONE], referenced=True)
        assert records.blobs(A, [ONE, TWO]) == {ONE: KnownBlob(here=True)}
        assert records.blobs(B, [ONE]) == {ONE: KnownBlob(home=A.path, referenced=A.path)}
        assert other.blobs(A, [ONE]) == {}
        other.note_blobs(C, [ONE, TWO])
        other.close()
        assert records.blobs(A, [ONE, TWO]) == {ONE: KnownBlob(here=True, home=C.path), TWO: KnownBlob(home=C.path)}
        records.forget_blobs(A, [ONE])
        records.forget_blobs(C, [TWO])
        assert records.blobs(A, [ONE, TWO]) == {ONE: KnownBlob(home=C.path)}


@pytest.mark.parametrize("written_between", [False, True], ids=["at-once", "one-by-one"])
def test_the_last_word_on_a_blob_counts(where: str, written_between: bool) -> None:
    def then(records: DatabaseRecords) -> None:
        if written_between:
            records._flush()

    with opened(where) as records:
        records.note_blobs(A, [ONE, TWO, THREE], referenced=True)
        then(records)
        records.forget_blobs(A, [ONE, TWO])
        then(records)
        records.note_blobs(A, [TWO])
        records.note_blobs(A, [THREE])
        then(records)
        expected = {TWO: KnownBlob(home=A.path), THREE: KnownBlob(home=A.path, referenced=A.path)}
        assert records.blobs(B, [ONE, TWO, THREE]) == expected
    with opened(where) as records:
        assert records.blobs(B, [ONE, TWO, THREE]) == expected


def test_a_blob_that_is_noted_again_is_written_only_after_a_while(where: str) -> None:
    with opened(where) as records:
        records.note_blobs(A, [ONE])
    query(where, "UPDATE imagesync_blobs SET seen_at = seen_at - 60")
    before = query(where, "SELECT seen_at FROM imagesync_blobs")
    with opened(where) as records:
        records.note_blobs(A, [ONE])
    assert query(where, "SELECT seen_at FROM imagesync_blobs") == before
    query(where, "UPDATE imagesync_blobs SET seen_at = seen_at - 4000")
    with opened(where) as records:
        records.note_blobs(A, [ONE])
    assert query(where, "SELECT seen_at FROM imagesync_blobs") >= before


def test_notes_are_written_soon_although_nobody_closes(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_database, "FLUSH_SECONDS", 0.05)
    with opened(where) as records, another(where) as other:
        records.note_blobs(A, [ONE])
        eventually(lambda: other.blobs(A, [ONE]))
        records.note_blobs(A, [TWO])
        eventually(lambda: other.blobs(A, [TWO]))


def test_many_notes_are_written_at_once(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_database, "FLUSH_SECONDS", 3600.0)
    with opened(where) as records, another(where) as other:
        records.note_blobs(A, DIGESTS[:499])
        assert other.blobs(A, [ONE]) == {}
        records.note_blobs(A, DIGESTS[499:500])
        eventually(lambda: len(other.blobs(A, DIGESTS[:500])) == 500)


def test_what_was_written_survives_the_process_being_killed(where: str) -> None:
    script = """
records = open_records(where, run="killed")
records.note_blobs(Repository("registry.example.com", "team/a"), DIGESTS[:1000])
records.note_images([ImageRecord("registry.example.com/team/a:v1", "quay.io/a:v1", "", "copied", "one", "one")])
while records._pending.count or records._writing.count:
    pass
print("written", flush=True)
sys.stdin.read()
"""
    for process in started(where, script):
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
        process.wait()
    with opened(where) as records:
        assert len(records.blobs(A, DIGESTS[:1000])) == 1000
        assert len(records.images(["registry.example.com/team/a:v1"])) == 1


def test_records_that_are_closed_keep_still(where: str) -> None:
    records = opened(where)
    records.close()
    records.close()
    records.note_blobs(A, [ONE])
    records.note_images([image("v1")])
    assert records.blobs(A, [ONE]) == {}
    assert records.images([destination("v1")]) == {}
    assert records.claim(A.registry, ONE)
    assert query(where, "SELECT * FROM imagesync_blobs") == []


# --- Images ----------------------------------------------------------------------------------------------


def destination(tag: str) -> str:
    return f"{A}:{tag}"


def image(tag: str, result: str = "copied", digest: str | None = ONE, **more: object) -> ImageRecord:
    values = {"source_digest": TWO, "platforms": "linux/amd64,linux/arm64", **more}
    return ImageRecord(destination(tag), f"quay.io/a:{tag}", result=result, digest=digest, **values)  # type: ignore[arg-type]


def known(tag: str, unchecked: int = 0, failed: bool = False, digest: str = ONE) -> KnownImage:
    return KnownImage(f"quay.io/a:{tag}", TWO, "linux/amd64,linux/arm64", digest, unchecked, failed)


def test_what_a_destination_was_made_of_is_known(where: str) -> None:
    with opened(where) as records:
        records.note_images([image("v1"), image("v2", "same"), image("v3", "failed", None, source_digest=None)])
        assert records.images([destination("v1")]) == {destination("v1"): known("v1")}
    with opened(where) as records:
        found = records.images([destination(tag) for tag in ("v1", "v2", "v3", "v4")])
        assert found == {destination(tag): known(tag) for tag in ("v1", "v2")}
        assert records.images([]) == {}


@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "one-by-one"])
def test_a_failure_is_noted_and_leaves_the_digests(where: str, at_once: bool) -> None:
    with opened(where) as records:
        records.note_images([image("v1")])
        if not at_once:
            records._flush()
        error = "no answer\0 from \udcff" + "x" * 5000
        records.note_images([image("v1", "failed", THREE, source_digest=THREE, error=error)])
        assert records.images([destination("v1")]) == {destination("v1"): known("v1", failed=True)}
        ((result, noted, run),) = query(where, "SELECT result, error, run FROM imagesync_images")
        assert (result, run) == ("failed", "a_dag/a_run")
        assert noted.startswith("no answer from ?xxx")
        assert len(noted) < 2001
        records.note_images([image("v1", "same", THREE)])
        assert records.images([destination("v1")]) == {destination("v1"): known("v1", digest=THREE)}
    assert query(where, "SELECT error FROM imagesync_images") == [(None,)]


def test_what_failed_and_then_went_well_did_not_fail(where: str) -> None:
    with opened(where) as records:
        records.note_images([image("v1", "failed"), image("v1"), image("v2", "failed"), image("v2", trusted=True)])
        assert records.images([destination("v1"), destination("v2")]) == {destination("v1"): known("v1")}


def test_how_often_a_record_was_trusted_is_counted_until_it_is_checked(where: str) -> None:
    with opened(where) as records:
        records.note_images([image("v1"), image("v2")])
    query(where, "UPDATE imagesync_images SET checked_at = 5")
    for count in (1, 2):
        with opened(where, f"run/{count}") as records:
            records.note_images([image("v1", "same", trusted=True), image("gone", "same", trusted=True)])
            assert records.images([destination("v1")]) == {destination("v1"): known("v1", unchecked=count)}
    assert query(where, "SELECT run, checked_at, result FROM imagesync_images WHERE unchecked = 2") == [
        ("run/2", 5, "same")
    ]
    with opened(where) as records:
        records.note_images([image("v1", "same", THREE)])
        records.note_images([image("v2", "same", trusted=True)])
        found = records.images([destination(tag) for tag in ("v1", "v2", "gone")])
        assert found == {destination("v1"): known("v1", digest=THREE), destination("v2"): known("v2", unchecked=1)}


def test_thousands_of_images_are_noted_and_asked_for_in_one_go(where: str) -> None:
    tags = [f"v{number}" for number in range(2500)]
    with opened(where) as records:
        records.note_images([image(tag) for tag in tags])
        records.note_images([image(tag, "same", trusted=True) for tag in tags[:1200]])
        found = records.images([destination(tag) for tag in [*tags, "unknown"]])
    assert found == {destination(tag): known(tag, int(number < 1200)) for number, tag in enumerate(tags)}


def test_an_image_that_is_asked_for_counts_as_seen(where: str) -> None:
    """What stays the same is not noted again, and must not be pruned for that."""
    with opened(where) as records:
        records.note_images([image("v1"), image("v2"), image("v3")])
    query(where, "UPDATE imagesync_images SET seen_at = 7, at = 7 WHERE destination <> :one", one=destination("v3"))
    query(where, "UPDATE imagesync_images SET seen_at = seen_at - 60")
    with opened(where) as records:
        records.images([destination("v1"), destination("v3")])
    seen = dict(query(where, "SELECT destination, seen_at FROM imagesync_images"))
    assert seen[destination("v2")] == 7 - 60
    assert seen[destination("v1")] > seen[destination("v3")]
    assert query(where, "SELECT count(*) FROM imagesync_images WHERE at = 7") == [(2,)]


def test_letters_of_either_case_are_different_tags(where: str) -> None:
    with opened(where) as records:
        records.note_images([image("v1"), image("V1", digest=THREE)])
        assert records.images([destination("V1"), destination("v1")]) == {
            destination("v1"): known("v1"),
            destination("V1"): known("V1", digest=THREE),
        }


# --- Claims ----------------------------------------------------------------------------------------------


def test_a_claim_is_one_processs_until_it_is_released(where: str) -> None:
    with opened(where) as records, another(where) as other:
        assert records.claim(A.registry, ONE)
        assert records.claim(A.registry, ONE)
        assert not other.claim(A.registry, ONE)
        assert other.claim(A.registry, TWO)
        assert other.claim(ELSEWHERE.registry, ONE)
        records.note_blobs(A, [ONE])
        records.release(A.registry, ONE)
        eventually(lambda: other.claim(A.registry, ONE))
        # What the claim was for is there before the claim is not.
        assert other.blobs(B, [ONE]) == {ONE: KnownBlob(home=A.path)}


def test_a_claim_that_is_taken_again_is_not_released_afterwards(where: str) -> None:
    with opened(where) as records, another(where) as other:
        for _ in range(20):
            assert records.claim(A.registry, ONE)
            records.release(A.registry, ONE)
        assert records.claim(A.registry, ONE)
        records._flush()
        assert not other.claim(A.registry, ONE)


def test_claims_end_with_the_records(where: str) -> None:
    with opened(where) as records:
        assert records.claim(A.registry, ONE)
    assert query(where, "SELECT * FROM imagesync_claims") == []


def test_the_claim_of_a_process_that_died_is_taken_over_in_time(where: str) -> None:
    script = 'print(open_records(where, run="killed").claim("registry.example.com", DIGESTS[0]), flush=True)\n'
    for process in started(where, script + "sys.stdin.read()"):
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        process.kill()
        process.wait()
    ((owner, until),) = query(where, "SELECT owner, until FROM imagesync_claims")
    with opened(where) as records:
        assert not records.claim(A.registry, ONE)
        assert owner.rsplit(":", 1)[0].endswith(f":{process.pid}")
        query(where, "UPDATE imagesync_claims SET until = until - 31")
        assert records.claim(A.registry, ONE)
        assert query(where, "SELECT until >= :until FROM imagesync_claims", until=until) in [[(1,)], [(True,)]]


def test_a_claim_is_kept_alive_while_it_is_held(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_database, "RENEW_SECONDS", 0.05)
    with opened(where) as records:
        assert records.claim(A.registry, ONE)
        query(where, "UPDATE imagesync_claims SET until = 1")
        eventually(lambda: query(where, "SELECT until FROM imagesync_claims") != [(1,)])
        records.release(A.registry, ONE)
        eventually(lambda: query(where, "SELECT * FROM imagesync_claims") == [])


def test_times_are_judged_by_the_databases_clock(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour fast must not take the others' claims."""
    where = postgres.url(postgres.new_database())
    with opened(where) as records:
        assert records.claim(A.registry, ONE)
        real = records_database.time.time
        monkeypatch.setattr("airflow_imagesync.engine.records_connection.time.time", lambda: real() + 3600)
        with another(where) as other:
            assert not other.claim(A.registry, ONE)


def test_one_of_many_processes_gets_a_claim(where: str) -> None:
    script = """
import json
with open_records(where, run=str(number)) as records:
    barrier()
    granted = [one for one in DIGESTS[:40] if records.claim("registry.example.com", one)]
    barrier()
print(json.dumps(granted))
"""
    granted = [one for output in together(where, script, 4, barriers=2) for one in json.loads(output)]
    assert sorted(granted) == DIGESTS[:40]


# --- The schema ------------------------------------------------------------------------------------------


def test_many_processes_may_begin_with_an_empty_database_at_once(where: str) -> None:
    script = """
barrier()
with open_records(where, run=f"run/{number}") as records:
    assert records.lasting
    for one in range(300):
        digests = DIGESTS[one : one + 5] if number % 2 else DIGESTS[300 - one : 305 - one]
        records.note_blobs(Repository("registry.example.com", f"team/{one}"), digests)
        records.note_images([ImageRecord(f"registry.example.com/team/{one}:v1", "quay.io/a:v1", "", "same", "a", "b")])
        if one % 50 == 0:
            records._flush()
"""
    together(where, script, 4)
    assert query(where, "SELECT version FROM imagesync_schema") == [(1,)]
    assert query(where, "SELECT count(*) FROM imagesync_repositories") == [(300,)]
    with opened(where) as records:
        assert len(records.blobs(A, DIGESTS[:305])) == 305
        assert len(records.images([f"registry.example.com/team/{one}:v1" for one in range(300)])) == 300


def _add_note(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE imagesync_images ADD COLUMN note TEXT"))


def _fill_note(connection: Connection) -> None:
    connection.execute(text("UPDATE imagesync_images SET note = 'made in step two'"))


def _fail(connection: Connection) -> None:
    _fill_note(connection)
    raise OSError("the disk is full")


def test_an_older_schema_is_brought_up_to_date(where: str) -> None:
    with opened(where) as records:
        records.note_images([image("v1")])
    for _ in range(2):
        with open_records(where, run="later", steps=(_add_note, _fill_note)) as later:
            assert later.images([destination("v1")]) == {destination("v1"): known("v1")}
    assert query(where, "SELECT version FROM imagesync_schema") == [(3,)]
    assert query(where, "SELECT note FROM imagesync_images") == [("made in step two",)]


def test_steps_are_done_all_or_none(where: str, warnings: Callable[[], list[str]]) -> None:
    opened(where).close()
    assert open_records(where, run="later", steps=(_add_note, _fail)) is NO_RECORDS
    assert len(warnings()) == 1
    assert query(where, "SELECT version FROM imagesync_schema") == [(1,)]
    with open_records(where, run="later", steps=(_add_note,)) as later:
        assert later.lasting


def test_one_of_many_processes_brings_the_schema_up_to_date(where: str) -> None:
    opened(where).close()
    script = """
from tests.engine.test_records_database import _add_note, _fill_note
barrier()
with open_records(where, run="later", steps=(_add_note, _fill_note)) as records:
    assert records.lasting
"""
    together(where, script, 4)
    assert query(where, "SELECT version FROM imagesync_schema") == [(3,)]


def test_a_database_of_a_later_release_is_left_alone(where: str, warnings: Callable[[], list[str]]) -> None:
    with open_records(where, run="later", steps=(_add_note,)) as records:
        records.note_blobs(A, [ONE])
    assert open_records(where, run="earlier") is NO_RECORDS
    (warning,) = warnings()
    assert "the run goes on without: a later release made it (version 2 of its tables, this one knows 1)" in warning
    assert query(where, "SELECT version FROM imagesync_schema") == [(2,)]


# --- What goes wrong -------------------------------------------------------------------------------------


def use(records: Records) -> None:
    """All that a run does with records."""
    with records:
        records.note_blobs(A, DIGESTS[:600])
        records.forget_blobs(B, [ONE])
        records.blobs(A, [ONE])
        assert records.claim(A.registry, ONE)
        records.note_images([image("v1"), image("v2", "failed")])
        records.images([destination("v1")])
        records.release(A.registry, ONE)


def test_a_server_that_is_not_there_is_one_warning(warnings: Callable[[], list[str]]) -> None:
    records = open_records("postgresql://me:s3cr3t-word@127.0.0.1:1/db?sslpassword=0th3r", run="x")
    assert records is NO_RECORDS
    use(records)
    (warning,) = warnings()
    assert warning.startswith(
        "Records in postgresql+psycopg2://me:***@127.0.0.1:1/db can't be used, and the run goes on "
    )
    assert "Connection refused" in warning
    assert "\n" not in warning
    assert "s3cr3t" not in warning
    assert "0th3r" not in warning


def test_a_wrong_password_is_one_warning_without_it(
    postgres: PostgresServer, warnings: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    assert open_records(postgres.url("postgres", password="wr0ng-w0rd"), run="x") is NO_RECORDS
    (warning,) = warnings()
    assert "password authentication failed" in warning
    assert "wr0ng" not in caplog.text


def test_a_drivers_message_is_not_trusted_with_secrets() -> None:
    url = as_url("postgresql://me:s3cr3t@host/db?sslpassword=0th3r&sslmode=require")
    reason = reason_of(ValueError("no such thing as s3cr3t, 0th3r\nor require"), url)
    assert reason == "no such thing as ***, *** or require"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("postgresql://me:s3cr3t@host:port/db", "expected the path of a file or an SQLAlchemy URL"),
        ("://", "expected the path of a file or an SQLAlchemy URL"),
        ("nosuchdialect://me:s3cr3t@host/db", "SQLAlchemy has no such dialect"),
        ("mysql+mysqldb://me:s3cr3t@host/db", "its driver is not installed (MySQLdb)"),
        ("sqlite://", "expected an SQLite URL that names a file"),
        ("sqlite:///:memory:", "expected an SQLite URL that names a file"),
        ("~nobody-of-that-name/records.db", "the home folder that '~nobody-of-that-name/records.db' is in"),
    ],
)
def test_what_is_no_database_is_one_warning(text: str, words: str, warnings: Callable[[], list[str]]) -> None:
    assert open_records(text, run="x") is NO_RECORDS
    (warning,) = warnings()
    assert words in warning
    assert "s3cr3t" not in warning


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    file = tmp_path / "records.db"
    file.write_text("rules: []\n" * 500)
    assert open_records(str(file), run="x") is NO_RECORDS
    (warning,) = warnings()
    assert warning.endswith("file is not a database")
    assert str(file) in warning
    assert file.read_text() == "rules: []\n" * 500


def test_a_folder_that_may_not_be_written_is_one_warning(warnings: Callable[[], list[str]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write everywhere
        try:
            assert open_records(str(folder / "below" / "records.db"), run="x") is NO_RECORDS
        finally:
            os.seteuid(user)
    finally:
        folder.rmdir()
    (warning,) = warnings()
    assert warning.endswith("Permission denied")


def test_a_folder_that_is_a_file_is_one_warning(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    (tmp_path / "file").touch()
    assert open_records(str(tmp_path / "file" / "records.db"), run="x") is NO_RECORDS
    assert len(warnings()) == 1


@pytest.mark.parametrize("when", ["claimed", "noted", "idle"])
def test_a_server_that_dies_in_the_middle_is_one_warning(
    when: str, warnings: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with PostgresServer() as server:
        records = opened(server.url(server.new_database()))
        if when == "claimed":
            assert records.claim(A.registry, TWO)
        if when != "idle":
            records.note_blobs(A, [TWO])
            assert records.blobs(A, [TWO]) == {TWO: KnownBlob(here=True)}
        server.stop(at_once=True)
        use(records)
        assert records.blobs(A, [TWO]) == {}
        assert records.claim(A.registry, THREE)
        assert len(warnings()) == 1
        assert server.password not in caplog.text


def test_tables_that_vanish_in_the_middle_are_one_warning(where: str, warnings: Callable[[], list[str]]) -> None:
    records = opened(where)
    records.note_blobs(A, [ONE])
    records._flush()
    for table in ("blobs", "images", "claims"):
        query(where, f"DROP TABLE imagesync_{table}")
    use(records)
    (warning,) = warnings()
    assert "imagesync_" in warning
    assert "SELECT" not in warning
    assert "INSERT" not in warning


# --- SQLite ----------------------------------------------------------------------------------------------


def test_the_file_is_for_its_user_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "state" / "airflow-imagesync" / "records.db"
    before = os.umask(0)
    try:
        with opened(str(file)) as records:
            records.note_blobs(A, [ONE])
            records._flush()
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("records.db", "records.db-wal", "records.db-shm"), 0o600)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_url_may_name_the_file(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/one.db") as records:
        records.note_blobs(A, [ONE])
    with opened(str(tmp_path / "one.db")) as records:
        assert records.blobs(A, [ONE]) == {ONE: KnownBlob(here=True)}
