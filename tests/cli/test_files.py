from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_imagesync.cli.files import earlier_report, same_file, write_file, writing_problem


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert writing_problem(tmp_path / "report.json") is None
    assert list(tmp_path.iterdir()) == []


def test_asking_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")
    assert writing_problem(path) is None
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing = tmp_path / "missing" / "report.json"
    assert writing_problem(missing) == f"can't write {missing}: No such file or directory"
    assert writing_problem(tmp_path) == f"can't write {tmp_path}: it is a directory"
    below = tmp_path / "file" / "report.json"
    assert writing_problem(below) == f"can't write {below}: Not a directory"
    long = tmp_path / ("x" * 300 + ".json")
    assert writing_problem(long) is not None
    assert write_file(missing, "text") == f"can't write {missing}: No such file or directory"


def test_a_read_only_file_system_is_noticed_by_root_too() -> None:
    path = Path("/proc/report.json")
    problem = writing_problem(path)
    assert problem is not None
    assert problem.startswith(f"can't write {path}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permissions_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.touch(mode=0o444)
    assert writing_problem(path) == f"can't write {path}: no permission"


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    path, other = tmp_path / "report.json", tmp_path / "other"
    other.touch()
    assert write_file(path, "text é\n") is None
    assert path.read_bytes() == "text é\n".encode()
    assert path.stat().st_mode == other.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_a_file_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")
    path.chmod(0o640)
    assert write_file(path, "after") is None
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(target)
    assert writing_problem(link) is None
    assert write_file(link, "text") is None
    assert link.is_symlink()
    assert target.read_text() == "text"


def test_a_device_is_written_to_and_not_replaced() -> None:
    path = Path(os.devnull)
    assert writing_problem(path) is None
    assert write_file(path, "text") is None
    assert path.is_char_device()


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_an_earlier_report_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    assert earlier_report(path) is None


def test_an_earlier_report_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"failing": {"a": 1}}')
    assert earlier_report(path) == {"failing": {"a": 1}}


def test_the_same_file_by_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("file")
    assert same_file(tmp_path / "file", Path("file"))
    assert same_file(Path("link"), Path("file"))
    assert not same_file(Path("other"), Path("file"))
