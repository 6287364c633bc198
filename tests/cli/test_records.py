"""Records from a terminal: kept by runs, and shown, exported and pruned."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_imagesync.__main__ import main
from airflow_imagesync.cli.records import user_records
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine.records import ImageRecord
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.postgres import PostgresServer
from tests.support.records import DIGESTS, opened, query

A = Repository("registry.example.com", "team/a")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def file() -> Path:
    """Where records are where nothing says anything else."""
    return Path(os.environ["XDG_STATE_HOME"]) / "airflow-imagesync" / "records.db"


@pytest.fixture
def kept(file: Path) -> Path:
    with opened(str(file), "cli/one") as records:
        records.note_blobs(A, DIGESTS[:3])
        records.note_blobs(Repository("quay.io", "a"), DIGESTS[:1])
        records.note_images(
            [
                ImageRecord(f"{A}:v1", "docker.io/library/a:v1", "", "copied", DIGESTS[0], DIGESTS[0]),
                ImageRecord(f"{A}:v2", "docker.io/library/a:v2", "", "failed", error="no answer"),
            ]
        )
    return file


@pytest.fixture
def config(
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> Path:
    """A configuration with one image to copy."""
    images.push(source_registry.url, f"{repository_prefix}/app", images.index(), ["v1"])
    registries = {one.host: {"insecure": True} for one in (source_registry, destination_registry)}
    rule = {
        "source": f"{source_registry.host}/{repository_prefix}/app:v1",
        "destination": f"{destination_registry.host}/{repository_prefix}/app",
    }
    path = tmp_path / "sync.yaml"
    path.write_text(yaml.safe_dump({"registries": registries, "rules": [rule]}))
    return path


def test_a_plan_and_a_run_use_the_users_records(capsys: pytest.CaptureFixture[str], config: Path, file: Path) -> None:
    code, _, err = run(capsys, "plan", config)
    assert (code, err) == (0, "")
    assert file.exists()
    code, _, err = run(capsys, "run", config)
    assert (code, err) == (0, "")
    assert query(str(file), "SELECT version FROM imagesync_schema") == [(1,)]


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_no_records_and_check_leave_no_file(
    capsys: pytest.CaptureFixture[str], config: Path, file: Path, command: str
) -> None:
    more = [] if command == "check" else ["--no-records"]
    code, _, err = run(capsys, command, config, *more)
    assert (code, err) == (0, "")
    assert not file.parent.exists()


def test_records_may_be_anywhere(
    capsys: pytest.CaptureFixture[str], config: Path, file: Path, tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.url(postgres.new_database())
    for where in (str(tmp_path / "here.db"), url):
        code, _, err = run(capsys, "run", config, "--records", where)
        assert (code, err) == (0, "")
        assert query(where, "SELECT version FROM imagesync_schema") == [(1,)]
    assert not file.exists()


def test_a_run_goes_on_without_records_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_text("no database\n" * 100)
    code, out, err = run(capsys, "run", config, "--records", broken, "-o", "json")
    assert code == 0
    assert json.loads(out)["totals"]["copied"] == 1
    first, *rest = err.splitlines()
    assert re.fullmatch(rf"\S+ WARNING Records in {broken} can't be used, .*: file is not a database", first)
    assert len(rest) == 1


def test_a_url_with_a_wrong_password_is_not_repeated(
    capsys: pytest.CaptureFixture[str], config: Path, postgres: PostgresServer
) -> None:
    code, out, err = run(capsys, "run", config, "--records", postgres.url("postgres", password="wr0ng-w0rd"), "-v")
    assert code == 0
    assert "password authentication failed" in err
    assert "wr0ng" not in out + err


def test_records_are_used_or_not_but_not_both(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    code, out, err = run(capsys, "run", config, "--records", "a.db", "--no-records")
    assert (code, out) == (2, "")
    assert err == "error: give either --records or --no-records, not both\n"


def test_show_counts_and_names_what_failed(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    code, out, err = run(capsys, "records", "show")
    assert (code, err) == (0, "")
    registries, runs, shown = out.split("\n\n")
    assert [line.split() for line in registries.splitlines()[1:]] == [
        ["quay.io", "1", "1", "0"],
        ["registry.example.com", "1", "3", "2"],
    ]
    assert runs.splitlines()[1].split()[0] == "cli/one"
    assert runs.splitlines()[1].split()[-3:] == ["1", "0", "1"]
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["State", "failed"]
    assert lines[1].endswith(f"docker.io/library/a:v2  {A}:v2  no answer")
    assert re.fullmatch(rf"2 images remembered in {kept}, [\d.]+ KiB", lines[-1])

    code, out, _ = run(capsys, "records", "show", "-v", "--registry", "quay.io")
    assert "registry.example.com" not in out
    code, out, _ = run(capsys, "records", "show", "-v")
    assert f"docker.io/library/a:v1  {A}:v1" in out


def test_show_gives_an_object_to_programs(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    code, out, err = run(capsys, "records", "show", "-o", "json", "--registry", "registry.example.com")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert set(document) == {"records", "size", "registries", "runs", "images"}
    assert document["registries"] == [{"registry": "registry.example.com", "repositories": 1, "blobs": 3, "images": 2}]
    assert [one["result"] for one in document["images"]] == ["copied", "failed"]


def test_show_takes_the_names_that_a_configuration_takes(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    with opened(str(file)) as records:
        records.note_blobs(Repository("docker.io", "library/a"), DIGESTS[:1])
    _, out, _ = run(capsys, "records", "show", "--registry", "index.docker.io", "-o", "json")
    assert [one["registry"] for one in json.loads(out)["registries"]] == ["docker.io"]
    with pytest.raises(SystemExit) as caught:
        run(capsys, "records", "show", "--registry", "no/registry")
    assert caught.value.code == 2


@pytest.mark.parametrize("to_a_file", [True, False], ids=["file", "stdout"])
def test_export_writes_an_object_a_line(
    capsys: pytest.CaptureFixture[str], kept: Path, tmp_path: Path, to_a_file: bool
) -> None:
    target = tmp_path / "records.jsonl"
    code, out, err = run(capsys, "records", "export", *([target] if to_a_file else []))
    assert (code, err) == (0, "")
    text = target.read_text() if to_a_file else out
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["blob"] * 4 + ["image"] * 2
    assert out == ("" if to_a_file else text)


def test_an_export_that_cannot_be_written_exits_2(
    capsys: pytest.CaptureFixture[str], kept: Path, tmp_path: Path
) -> None:
    code, out, err = run(capsys, "records", "export", tmp_path / "missing" / "records.jsonl")
    assert (code, out) == (2, "")
    assert "No such file or directory" in err


def test_prune_says_how_much_it_forgot(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    query(str(kept), "UPDATE imagesync_blobs SET seen_at = seen_at - 91 * 86400")
    query(str(kept), "UPDATE imagesync_images SET seen_at = seen_at - 91 * 86400 WHERE result = 'failed'")
    code, out, err = run(capsys, "records", "prune", "--older-than", "90d", "--registry", "quay.io")
    assert (code, err) == (0, "")
    assert out.startswith("forgot 1 blob and 0 images that no run has seen since 20")
    assert run(capsys, "records", "prune", "--older-than", "90d")[1].startswith("forgot 3 blobs and 1 image that")
    assert query(str(kept), "SELECT destination FROM imagesync_images") == [(f"{A}:v1",)]


def test_prune_wants_to_know_how_old(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["records", "prune"])
    assert caught.value.code == 2
    assert "--older-than" in capsys.readouterr().err
    assert run(capsys, "records", "prune", "--older-than", "999999999d")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show"], ""),
        (["show", "-o", "json"], {"size": 0, "registries": [], "runs": [], "images": []}),
        (["export"], ""),
        (["prune", "--older-than", "1d"], None),
    ],
    ids=["show", "json", "export", "prune"],
)
def test_where_there_are_none_yet_that_is_said_and_none_are_made(
    capsys: pytest.CaptureFixture[str], file: Path, arguments: list[str], expected: Any
) -> None:
    code, out, err = run(capsys, "records", *arguments)
    assert (code, err) == (0, f"there are no records in {file} yet\n")
    if isinstance(expected, dict):
        assert json.loads(out) == {"records": str(file), **expected}
    elif expected is not None:
        assert out == expected
    assert not file.parent.exists()


@pytest.mark.parametrize("action", [["show"], ["export"], ["prune", "--older-than", "1d"]], ids=lambda one: one[0])
def test_records_that_cannot_be_read_exit_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, action: list[str]
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_text("no database\n" * 100)
    code, out, err = run(capsys, "records", *action, "--records", broken)
    assert (code, out) == (1, "")
    assert err == f"error: records in {broken} can't be used: file is not a database\n"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("/state", "/state/airflow-imagesync/records.db"),
        ("", "~/.local/state/airflow-imagesync/records.db"),
        ("relative", "~/.local/state/airflow-imagesync/records.db"),
    ],
)
def test_the_users_records_are_where_state_belongs(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", variable)
    assert user_records() == expected


@pytest.mark.parametrize(
    "arguments", [["check", "c.yaml"], ["run", "c.yaml", "--no-records"], ["--help"]], ids=lambda one: one[0]
)
def test_who_needs_no_records_does_not_import_sqlalchemy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "c.yaml").write_text("rules:\n- {source: '127.0.0.1:1/a:v1', destination: '127.0.0.1:1/b'}\n")
    script = (
        "import sys\n"
        "from airflow_imagesync.__main__ import main\n"
        "import airflow_imagesync.cli.commands, airflow_imagesync.engine.sync\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "finally:\n"
        "    print('sqlalchemy' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "False"
