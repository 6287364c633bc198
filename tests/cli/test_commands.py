"""The commands in this process, on real registries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_imagesync.__main__ import main
from airflow_imagesync.config import Overrides, read_config
from airflow_imagesync.config.loader import ReadResult
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.skopeo import Skopeo

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, source_registry: DistributionRegistry, destination_registry: DistributionRegistry) -> Write:
    """Writes a configuration of rules, each a source and a destination without their registries."""

    def write(*rules: tuple[str, str], **more: Any) -> Path:
        path = tmp_path / "sync.yaml"
        document = {
            "registries": {
                source_registry.host: {"insecure": True},
                destination_registry.host: {"insecure": True},
            },
            "rules": [
                {
                    "source": f"{source_registry.host}/{source}",
                    "destination": f"{destination_registry.host}/{destination}",
                }
                for source, destination in rules
            ],
            **more,
        }
        path.write_text(yaml.safe_dump(document))
        return path

    return write


@pytest.fixture
def image(source_registry: DistributionRegistry, repository_prefix: str) -> str:
    """A repository at the source with the tags v1 and v2."""
    images.push(source_registry.url, f"{repository_prefix}/app", images.index(), ["v1", "v2"])
    return f"{repository_prefix}/app"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    code, out, err = run(capsys, *arguments, "-o", "json")
    return code, json.loads(out), err


def test_an_image_is_planned_copied_and_then_the_same(
    capsys: pytest.CaptureFixture[str],
    write: Write,
    image: str,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    skopeo: Skopeo,
) -> None:
    config = write((image, f"mirror/{image}"))
    source, destination = f"{source_registry.host}/{image}", f"{destination_registry.host}/mirror/{image}"
    digest = skopeo.digest(f"{source}:v1")

    code, plan, _ = run_json(capsys, "plan", config)
    assert code == 0
    assert plan["totals"] == {"new": 2, "changed": 0, "same": 0, "failed": 0}
    assert plan["images"][0] == {
        "rule": 0,
        "source": f"{source}:v1",
        "destination": f"{destination}:v1",
        "state": "new",
        "source_digest": digest,
        "destination_digest": None,
        "error": None,
    }

    code, report, err = run_json(capsys, "run", config)
    assert code == 0
    assert [row["state"] for row in report["images"]] == ["copied", "copied"]
    assert report["images"][0]["digest"] == digest == skopeo.digest(f"{destination}:v1")
    assert report["totals"]["bytes_copied"] > 0
    assert "2 images: 2 copied, 0 same, 0 failed" in err

    code, report, _ = run_json(capsys, "run", config)
    assert code == 0
    assert report["totals"]["same"] == 2
    assert report["totals"]["bytes_copied"] == 0

    code, plan, _ = run_json(capsys, "plan", config, "--force")
    assert plan["totals"]["changed"] == 2


def test_tables_name_the_failed_first_and_count_the_same(
    capsys: pytest.CaptureFixture[str], write: Write, image: str
) -> None:
    run(capsys, "run", write((f"{image}:v1", image)))
    config = write((image, image), (f"{image}:missing", image))

    code, out, err = run(capsys, "plan", config)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["State", "failed", "new", "3"]
    assert out.splitlines()[-1] == "3 images: 1 new, 0 changed, 1 same, 1 failed"

    code, out, err = run(capsys, "run", config)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["State", "failed", "copied", "3"]
    assert f"{image}:missing" in out.splitlines()[1]
    assert "\x1b" not in out + err
    assert err == ""

    code, out, err = run(capsys, "run", config, "-v")
    assert [line.split()[0] for line in out.splitlines()] == ["State", "failed", "same", "same", "3"]


def test_a_rule_that_cannot_be_planned_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], write: Write, image: str
) -> None:
    code, report, err = run_json(capsys, "run", write((f"{image}-gone", image), (f"{image}:v1", image)))
    assert code == 1
    assert [row["state"] for row in report["images"]] == ["failed", "copied"]
    assert report["images"][0]["error"]
    assert err.startswith("failed: ")
    assert "Traceback" not in err


def test_check_shows_rules_and_logins(
    capsys: pytest.CaptureFixture[str],
    write: Write,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
) -> None:
    config = write(("a/b:v1,v2", "c/d"), ("a/e:/^v/", "c/e"))
    code, document, err = run_json(capsys, "check", config)
    assert (code, err) == (0, "")
    assert document["errors"] == []
    assert document["rules"][0]["select"] == {"tags": ["v1", "v2"]}
    assert document["rules"][0]["source_auth"] == source_registry.host

    code, out, err = run(capsys, "check", config)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split("  ")[0] == "0"
    assert f"{source_registry.host}/a/b" in lines[1]
    assert "v1, v2" in lines[1]
    assert lines[1].endswith(destination_registry.host)
    assert "/^v/" in lines[2]
    assert lines[-1] == "2 rules, no errors"


@pytest.mark.parametrize("command", ["check", "plan", "run", "verify"])
def test_a_config_error_is_one_line_and_checks_object_whatever_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    config = tmp_path / "sync.yaml"
    config.write_text("rules:\n- {source: 'Bad/Name:x', destination: b.io/c}\n- {source: a.io/b, typo: 1}\n")
    code, document, err = run_json(capsys, command, config)
    assert code == 2
    assert set(document) == {"rules", "warnings", "errors"}
    assert {error["rule"] for error in document["errors"]} == {0, 1}
    assert {error["file"] for error in document["errors"]} == {str(config)}
    assert len(err.splitlines()) == len(document["errors"])
    assert all(line.startswith(f"{config}, rule ") for line in err.splitlines())

    code, out, err = run(capsys, command, config)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == len(document["errors"])


def test_a_missing_file_is_a_config_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, document, err = run_json(capsys, "run", tmp_path / "none.yaml")
    assert code == 2
    assert document["errors"][0]["file"] == str(tmp_path / "none.yaml")
    assert len(err.splitlines()) == 1


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    path = write(("a/b:v1", "c/d"))
    document = yaml.safe_load(path.read_text())
    document["registries"]["unused.example.com"] = {"insecure": True}
    path.write_text(yaml.safe_dump(document))
    code, document, err = run_json(capsys, "check", path)
    assert code == 0
    assert err.splitlines() == [f"warning: {one}" for one in document["warnings"]]
    assert "unused.example.com" in err


def test_image_syncers_pair_of_files(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    image: str,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
) -> None:
    auth, rules, done = tmp_path / "auth.json", tmp_path / "images.yaml", tmp_path / "done.yaml"
    hosts = (source_registry.host, destination_registry.host)
    auth.write_text(json.dumps({host: {"insecure": True} for host in hosts}))
    rules.write_text(f"{hosts[0]}/{image}:v1: {hosts[1]}/{image}\n")
    options = (
        "--proc=6",
        "--auth",
        auth,
        "--images",
        rules,
        "--retries=3",
        "--os",
        "linux",
        "--arch",
        "amd64",
    )

    code, report, _ = run_json(capsys, "run", *options, "--output-success-images", done)
    assert code == 0
    assert report["images"][0]["digest"] != report["images"][0]["source_digest"]
    assert yaml.safe_load(done.read_text()) == {f"{hosts[0]}/{image}:v1": [f"{hosts[1]}/{image}:v1"]}

    code, _, _ = run(capsys, "run", *options, "--output-success-images", tmp_path / "done.json")
    assert code == 0
    assert json.loads((tmp_path / "done.json").read_text()) == {}


def test_a_report_counts_since_when_a_rule_fails(
    capsys: pytest.CaptureFixture[str], write: Write, image: str, tmp_path: Path
) -> None:
    config, report = write((f"{image}:missing", image)), tmp_path / "report.json"
    for count in (1, 2):
        code, out, _ = run(capsys, "run", config, "--report", report)
        assert code == 1
        document = json.loads(report.read_text())
        assert list(document["failing"].values()) == [count]
        assert document["metadata"]["configuration"] == str(config)
    assert "failing for 2 runs in a row" in out
    assert sorted(tmp_path.iterdir()) == [report, config]


def test_reports_as_markdown(capsys: pytest.CaptureFixture[str], write: Write, image: str, tmp_path: Path) -> None:
    config = write((f"{image}:v1", image))
    code, _, _ = run(capsys, "plan", config, "--report", tmp_path / "plan.md")
    assert code == 0
    assert "## New (1)" in (tmp_path / "plan.md").read_text()
    code, _, _ = run(capsys, "run", config, "--report", tmp_path / "run.md")
    assert code == 0
    assert "## Copied (1)" in (tmp_path / "run.md").read_text()


def test_a_connection_from_the_environment_is_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "sync.yaml"
    config.write_text(
        "registries:\n  quay.io: {conn_id: quay}\nrules:\n- {source: 'quay.io/a/b:1', destination: localhost/a/b}\n"
    )
    for command in ("check", "plan", "run", "verify"):
        code, document, err = run_json(capsys, command, config)
        assert code == 2
        assert "set AIRFLOW_CONN_QUAY, or use 'airflow imagesync'" in document["errors"][0]["message"]
        assert document["errors"][0]["file"] == str(config)
        assert err.startswith(f"{config}, registries.quay.io: connection 'quay' is not known here")
        assert len(err.splitlines()) == 1
    monkeypatch.setenv("AIRFLOW_CONN_QUAY", "oci-registry://robot:hunter2@quay.io")
    code, document, err = run_json(capsys, "check", config)
    assert (code, err) == (0, "")
    assert document["rules"][0]["source_auth"] == "quay.io"
    monkeypatch.setenv("AIRFLOW_CONN_QUAY", "oci-registry://robot:hunter2@elsewhere.example.com")
    code, document, err = run_json(capsys, "check", config)
    assert code == 2
    assert "hunter2" not in err + json.dumps(document)


@pytest.mark.parametrize("command", ["check", "plan", "run", "verify"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (False, False)),
        (["--docker-config"], (True, False)),
        (["--docker-config", "--credential-helpers"], (True, True)),
    ],
)
def test_dockers_logins_are_used_where_that_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: Write,
    command: str,
    flags: list[str],
    expected: tuple[bool, bool],
) -> None:
    seen: list[Overrides] = []

    def noted(*arguments: Any, overrides: Overrides, **more: Any) -> ReadResult:
        seen.append(overrides)
        return read_config(*arguments, overrides=overrides, **more)

    monkeypatch.setattr("airflow_imagesync.cli.commands.read_config", noted)
    run(capsys, command, write(), *flags)
    assert [(one.docker_config, one.credential_helpers) for one in seen] == [expected]


def test_outputs_that_cannot_be_written_are_usage_errors(
    capsys: pytest.CaptureFixture[str], write: Write, tmp_path: Path
) -> None:
    config = write(("a/b:v1", "a/b"))
    for options, message in (
        (["--report", tmp_path / "no" / "r.json"], "No such file or directory"),
        (["--output-success-images", tmp_path], "it is a directory"),
        (["--report", tmp_path / "x.json", "--output-success-images", tmp_path / "x.json"], "both name"),
    ):
        code, out, err = run(capsys, "run", config, *options)
        assert (code, out) == (2, "")
        assert message in err
    document = tmp_path / "config.json"
    document.write_text(json.dumps(yaml.safe_load(config.read_text())))
    code, out, err = run(capsys, "run", document, "--report", document)
    assert (code, out) == (2, "")
    assert "it is the configuration" in err
    assert sorted(tmp_path.iterdir()) == [document, config]
