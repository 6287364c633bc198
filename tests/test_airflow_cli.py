from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_imagesync.airflow_cli import get_imagesync_cli_commands, login_from_airflow
from airflow_imagesync.cli.options import COMMANDS, RECORDS_COMMANDS, build_parser
from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.errors import ConfigError
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support import PASSWORD, USER
from tests.support.records import opened

QUAY = Login(key="quay.io", registry="quay.io", conn_id="quay")

# Airflow's own parser with our commands added, as its provider discovery does it.
PROGRAM = """
import sys
import airflow.cli.cli_parser as cli_parser
from airflow.__main__ import main
from airflow_imagesync.airflow_cli import get_imagesync_cli_commands
for command in get_imagesync_cli_commands():
    cli_parser.ALL_COMMANDS_DICT[command.name] = command
sys.argv[0] = "airflow"
main()
"""


def airflow(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def options_of(parser: argparse.ArgumentParser) -> dict[str, dict[str, object]]:
    """The options of every command by its name in full."""
    subparsers = next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)), None)
    if subparsers is None:
        own = {
            "/".join(one.option_strings) or one.dest: (one.dest, one.help, one.default, one.metavar, one.required)
            for one in parser._actions
        }
        return {"": own}
    return {
        f"{name} {below}".strip(): options
        for name, sub in subparsers.choices.items()
        for below, options in options_of(sub).items()
    }


def test_airflows_commands_have_the_same_options() -> None:
    from airflow.cli.cli_parser import _add_command

    root = argparse.ArgumentParser()
    groups = root.add_subparsers(dest="subcommand")
    for command in get_imagesync_cli_commands():
        _add_command(groups, command)
    assert list(groups.choices) == ["imagesync"]
    found = options_of(groups.choices["imagesync"])
    assert found == options_of(build_parser())
    assert set(found) == {*COMMANDS, *RECORDS_COMMANDS}


def test_defining_the_commands_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from airflow_imagesync.airflow_cli import get_imagesync_cli_commands\n"
        "get_imagesync_cli_commands()\n"
        "print([name for name in sys.modules if name.startswith('airflow_imagesync')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for module in ("config", "engine", "registry", "connections", "cli.commands"):
        assert f"'airflow_imagesync.{module}'" not in loaded


def test_a_connection_from_airflow_fills_in_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_QUAY", "oci-registry://robot:pa%2Fss@quay.io?insecure=true")
    login = login_from_airflow(QUAY)
    assert (login.username, login.password, login.insecure) == ("robot", "pa/ss", True)


def test_a_login_without_connection_stays_as_it_is() -> None:
    entry = Login(key="quay.io", registry="quay.io")
    assert login_from_airflow(entry) is entry


def test_a_connection_that_airflow_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no connection 'quay'"):
        login_from_airflow(QUAY)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sync.yaml"
    path.write_text(
        "registries:\n  quay.io: {conn_id: stored_quay}\n"
        "rules:\n- {source: 'quay.io/a/b:1', destination: 'localhost:5000/a/b'}\n"
    )
    return path


@pytest.mark.slow
def test_connections_stored_by_airflow_are_found(airflow_database: Path, config: Path) -> None:
    unknown = airflow("imagesync", "check", config, "-o", "json")
    assert unknown.returncode == 2, unknown.stderr
    assert "stored_quay" in json.loads(unknown.stdout)["errors"][0]["message"]
    assert "Traceback" not in unknown.stderr

    added = subprocess.run(
        [
            *(sys.executable, "-m", "airflow", "connections", "add", "stored_quay"),
            *("--conn-uri", "oci-registry://robot:secret@quay.io"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert added.returncode == 0, added.stderr
    found = airflow("imagesync", "check", config, "-o", "json")
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["errors"] == []
    assert document["rules"][0]["source_auth"] == "quay.io"
    assert "secret" not in found.stdout + found.stderr


@pytest.mark.slow
def test_a_usage_error_exits_2(config: Path) -> None:
    done = airflow("imagesync", "run", config, "--concurrency", "0")
    assert done.returncode == 2
    assert "'0' is not a whole number from 1" in done.stderr


@pytest.mark.slow
def test_a_verification_logs_in_by_connections_and_leaves_standard_output_to_its_json(
    airflow_database: Path,
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    tmp_path: Path,
) -> None:
    image = images.image()
    images.push(source_registry.url, repository_prefix, image, ["v1", "v2"])
    images.push(htpasswd_registry.url, repository_prefix, image, ["v1"], auth=(USER, PASSWORD))
    hosts = (source_registry.host, htpasswd_registry.host)
    rule = {"source": f"{hosts[0]}/{repository_prefix}", "destination": f"{hosts[1]}/{repository_prefix}"}
    config = tmp_path / "sync.json"
    config.write_text(
        json.dumps({"registries": {hosts[0]: {"insecure": True}, hosts[1]: {"conn_id": "dst"}}, "rules": [rule]})
    )
    connection = {
        "conn_type": "oci_registry",
        "host": hosts[1],
        "login": USER,
        "password": PASSWORD,
        "extra": {"insecure": True},
    }
    done = airflow("imagesync", "verify", config, "-o", "json", AIRFLOW_CONN_DST=json.dumps(connection))
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["totals"] == {"same": 1, "missing": 1, "different": 0, "failed": 0}
    assert "1 of 2 images is not the same" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.slow
def test_records_are_where_airflows_configuration_has_them(airflow_database: Path, tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    with opened(str(file)) as records:
        records.note_blobs(Repository("quay.io", "a/b"), ["sha256:one"])
    shown = airflow("imagesync", "records", "show", "-o", "json", AIRFLOW__IMAGESYNC__RECORDS=str(file))
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["records"], document["registries"][0]["blobs"]) == (str(file), 1)

    missing = airflow("imagesync", "records", "show", AIRFLOW__IMAGESYNC__RECORDS_CONN_ID="nowhere")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "there is no connection 'nowhere', which the records should be in" in missing.stderr
    assert "Traceback" not in missing.stderr

    none = airflow("imagesync", "records", "show", AIRFLOW__IMAGESYNC__RECORDS="")
    assert (none.returncode, none.stdout) == (0, "")
    assert "no records are kept" in none.stderr
