"""The small deployment of docker-compose.yml and Dockerfile, as far as it shows without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from packaging.specifiers import SpecifierSet

from airflow_imagesync.config import load_config
from airflow_imagesync.connections import login_from_environment
from airflow_imagesync.domain.rules import AllTags
from airflow_imagesync.get_provider_info import get_provider_info
from deploy import make_secrets
from devtools import install

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = {name: one for name, one in SERVICES.items() if one["image"].startswith("airflow-imagesync")}
ENVIRONMENT: dict[str, str] = SERVICES["scheduler"]["environment"]
CONNECTIONS: dict[str, dict[str, Any]] = json.loads((ROOT / "deploy" / "connections.json").read_text())
SECRETS = Path("/secrets")
#: What runs and stays, and what must have ended well before.
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")

each_service = pytest.mark.parametrize("name", SERVICES)


def options() -> list[tuple[str, str, str, str]]:
    """The Airflow options that are set: variable, section, option in lower case, value."""
    return [
        (name, *name.lower().removeprefix("airflow__").split("__"), value)
        for name, value in ENVIRONMENT.items()
        if name.startswith("AIRFLOW__")
    ]


class TestComposeFile:
    @pytest.mark.parametrize("profile", [(), ("--profile", "demo")], ids=["plain", "demo"])
    def test_compose_accepts_it_without_a_remark(self, profile: tuple[str, ...], tmp_path: Path) -> None:
        no_settings = tmp_path / "empty.env"
        no_settings.touch()
        done = subprocess.run(
            [install.ensure("docker-compose"), "--env-file", no_settings, *profile, "config"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        expected = {name for name, one in SERVICES.items() if profile or "profiles" not in one}
        assert set(yaml.safe_load(done.stdout)["services"]) >= expected

    def test_airflow_s_components_are_services_of_their_own(self) -> None:
        assert {SERVICES[name]["command"] for name in COMPONENTS} == set(COMPONENTS)

    def test_commands_are_airflow_s(self) -> None:
        from airflow.cli.cli_config import core_commands

        known = {command.name for command in core_commands}
        commands = [shlex.split(one["command"]) for one in AIRFLOW.values() if "entrypoint" not in one]
        chained = [words[2].split("airflow ")[1:] for words in commands if words[:2] == ["bash", "-c"]]
        plain = [words for words in commands if words[0] != "bash"]
        used = {words[0] for words in plain} | {part.split()[0] for parts in chained for part in parts}
        assert {"db", "connections", "scheduler"} <= used <= known

    def test_only_one_service_builds_the_image_and_no_other_image_floats(self) -> None:
        assert [name for name, one in SERVICES.items() if "build" in one] == ["secrets"]
        assert {one["image"] for one in SERVICES.values()} == {
            "airflow-imagesync:local",
            "postgres:17",
            "registry:3",
        }

    @each_service
    def test_ports_are_for_this_machine_only(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))

    @each_service
    def test_what_is_waited_for_can_be(self, name: str) -> None:
        for other, how in dict(SERVICES[name].get("depends_on", ())).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"

    @each_service
    def test_what_stays_is_watched_and_restarted(self, name: str) -> None:
        once = name in ("secrets", "init", "fill")
        assert SERVICES[name]["restart"] == ("no" if once else "unless-stopped")
        assert once or SERVICES[name]["healthcheck"]["test"]

    def test_components_start_after_the_migration_of_a_database_that_answers(self) -> None:
        done = {"condition": "service_completed_successfully"}
        assert all(SERVICES[name]["depends_on"]["init"] == done for name in COMPONENTS)
        assert SERVICES["init"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert SERVICES["postgres"]["depends_on"] == {"secrets": done}

    @each_service
    def test_volumes_exist(self, name: str) -> None:
        for volume in SERVICES[name].get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]

    def test_every_volume_is_used(self) -> None:
        used = {v.split(":")[0] for one in SERVICES.values() for v in one.get("volumes", ())}
        assert set(COMPOSE["volumes"]) == {name for name in used if not name.startswith(".")}

    @pytest.mark.parametrize("name", ["dag-processor", "triggerer"])
    def test_health_is_read_from_what_the_api_server_answers(self, name: str) -> None:
        from airflow.api_fastapi.core_api.datamodels.monitor import HealthInfoResponse

        key = name.replace("-", "_")
        looked_for = re.search(r"'(.*)'", SERVICES[name]["healthcheck"]["test"])
        assert looked_for
        for status, found in (("healthy", True), ("unhealthy", False)):
            parts = {
                part: {"status": status if part == key else None, f"latest_{part}_heartbeat": None}
                for part in ("metadatabase", "scheduler", "triggerer", "dag_processor")
            }
            answer = HealthInfoResponse.model_validate(parts)
            assert (looked_for[1] in answer.model_dump_json(exclude_unset=True)) is found


class TestSettings:
    @pytest.mark.parametrize("name", AIRFLOW)
    def test_all_parts_of_airflow_have_the_same(self, name: str) -> None:
        assert AIRFLOW[name]["environment"] == ENVIRONMENT

    @pytest.mark.parametrize(("name", "section", "option", "value"), options(), ids=str)
    def test_airflow_knows_the_option(self, name: str, section: str, option: str, value: str) -> None:
        from airflow.configuration import retrieve_configuration_description

        known = retrieve_configuration_description()[section]["options"]
        if name.endswith("_CMD"):
            assert known[option.removesuffix("_cmd")]["sensitive"]  # Airflow reads _CMD for these only
        else:
            assert option in known

    def test_connections_can_be_tested_and_nobody_is_let_in_without_password(self) -> None:
        assert ENVIRONMENT["AIRFLOW__CORE__TEST_CONNECTION"] == "Enabled"
        assert ENVIRONMENT["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"

    def test_addresses_are_those_of_the_services(self) -> None:
        assert ENVIRONMENT["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"
        port = re.fullmatch(r"127\.0\.0\.1:(.+):8080", SERVICES["api-server"]["ports"][0])
        assert port
        assert ENVIRONMENT["AIRFLOW__API__BASE_URL"] == f"http://localhost:{port[1]}"

    @pytest.mark.parametrize("conn_id", ["source_registry", "destination_registry"])
    def test_airflow_reads_the_registry_s_connection(self, conn_id: str) -> None:
        from airflow.sdk import Connection

        connection = Connection.from_json(json.dumps(CONNECTIONS[conn_id]), conn_id)
        assert connection.conn_type in {kind["connection-type"] for kind in get_provider_info()["connection-types"]}
        assert SERVICES[connection.host]["image"] == "registry:3"
        # A port of its own: the test button of Airflow 3.3 refuses a stored connection without one.
        assert SERVICES[connection.host]["ports"][0].endswith(f":{connection.port}")
        assert connection.extra_dejson == {"insecure": True}

    def test_the_nightly_sync_finds_its_registries(self) -> None:
        logins = load_config(ROOT / "dags" / "imagesync.yaml", environ={}).logins
        environment = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in CONNECTIONS.items()}
        found = [login_from_environment(login, environment) for login in logins if login.conn_id]
        assert {(login.registry, login.insecure) for login in found} == {
            ("source-registry:5000", True),
            ("destination-registry:5000", True),
        }

    def test_the_connections_are_stored_where_the_ui_lists_them(self) -> None:
        assert "airflow connections import /deploy/connections.json" in SERVICES["init"]["command"]
        assert "./deploy:/deploy:ro" in SERVICES["init"]["volumes"]

    def test_fill_gives_the_nightly_sync_something_to_do(self) -> None:
        filled = load_config(ROOT / "deploy" / "fill.yaml", environ={})
        assert SERVICES["fill"]["command"] == ["run", "/deploy/fill.yaml"]
        nightly = load_config(ROOT / "dags" / "imagesync.yaml", environ={})
        sources = {rule.source for rule in nightly.rules if isinstance(rule.select, AllTags)}
        assert {one.repository for rule in filled.rules for one in rule.destinations} <= sources


class TestSecrets:
    @each_service
    def test_none_is_in_the_file(self, name: str) -> None:
        for variable, value in SERVICES[name].get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|TOKEN|SQL_ALCHEMY", variable) and not variable.endswith("_FILE"):
                assert variable.endswith("_CMD")
                assert Path(value.removeprefix("cat ")).parent == SECRETS

    def test_none_is_in_the_connections(self) -> None:
        for connection in CONNECTIONS.values():
            assert not {"login", "password"} & set(connection)

    def test_variables_with_a_default_are_ports_and_allowed_hosts(self) -> None:
        variables = re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())
        assert {name.rpartition("_")[2] for name in variables} - {"HOSTS"} == {"PORT"}

    def test_airflow_reads_what_was_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.configuration import conf
        from sqlalchemy.engine import make_url

        make_secrets.main(tmp_path)
        read = {}
        for name, section, option, value in options():
            if name.endswith("_CMD"):
                monkeypatch.setenv(name, value.replace(str(SECRETS), str(tmp_path)))
                read[option] = conf.get(section, option.removesuffix("_cmd"))
        assert len(set(read.values())) == 4
        Fernet(read["fernet_key_cmd"])
        url = make_url(read["sql_alchemy_conn_cmd"])
        database = SERVICES["postgres"]["environment"]
        assert (url.host, url.username, url.database) == (
            "postgres",
            database["POSTGRES_USER"],
            database["POSTGRES_DB"],
        )
        assert url.password == (tmp_path / Path(database["POSTGRES_PASSWORD_FILE"]).name).read_text()

    def test_every_user_has_a_password_and_no_other_is_made(self, tmp_path: Path) -> None:
        make_secrets.main(tmp_path)
        users = [user.split(":")[0] for user in ENVIRONMENT["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")]
        file = Path(ENVIRONMENT["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        passwords = json.loads((tmp_path / file.name).read_text())
        assert file.parent == SECRETS
        assert list(passwords) == users
        assert all(len(password) >= 16 for password in passwords.values())

    def test_are_made_once_and_differ_from_one_installation_to_the_next(self, tmp_path: Path) -> None:
        def made(folder: Path) -> dict[str, str]:
            make_secrets.main(folder)
            return {path.name: path.read_text() for path in folder.iterdir()}

        first, again, other = (made(tmp_path / name) for name in ("one", "one", "other"))
        assert first == again
        assert set(first) == set(other)
        assert not set(first.values()) & set(other.values())

    def test_what_is_missing_is_made_and_the_rest_stays(self, tmp_path: Path) -> None:
        make_secrets.main(tmp_path)
        password = (tmp_path / "postgres_password").read_text()
        (tmp_path / "sql_alchemy_conn").unlink()
        (tmp_path / "sql_alchemy_conn.new").write_text("what an earlier start did not finish")
        make_secrets.main(tmp_path)
        assert password in (tmp_path / "sql_alchemy_conn").read_text()
        assert len(list(tmp_path.iterdir())) == 6

    def test_are_readable_by_their_group_and_nobody_else(self, tmp_path: Path) -> None:
        folder = tmp_path / "secrets"
        make_secrets.main(folder)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
        assert modes.pop("secrets") == 0o750
        assert modes.pop("passwords.json") == 0o660  # Airflow opens it for writing
        assert set(modes.values()) == {0o440}


def dockerfile() -> str:
    """The instructions of the Dockerfile, each on one line."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return re.sub(r"\\\n\s*", "", "\n".join(line for line in lines if not line.startswith("#")))


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last pattern that fits it or a parent decides."""
    inside = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip("/")
        if pattern and not line.startswith("#"):
            expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            expression = expression.replace(r"\[co\]", "[co]")
            if re.fullmatch(f"{expression}(/.*)?", path):
                inside = line.startswith("!")
    return inside


class TestImage:
    def test_is_airflow_s_own_in_the_pinned_version(self) -> None:
        base = re.search(r"^FROM apache/airflow:([\d.]+)-python([\d.]+)$", dockerfile(), re.MULTILINE)
        assert base
        assert f"apache-airflow=={base[1]}\n" in (ROOT / "constraints.txt").read_text()
        assert base[1] == version("apache-airflow")
        for package in ("apache-airflow", "airflow-imagesync"):
            assert SpecifierSet(metadata(package)["Requires-Python"]).contains(f"{base[2]}.0")

    def test_build_sees_what_it_installs_and_nothing_else(self) -> None:
        assert re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", dockerfile(), re.MULTILINE) == ["."]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        needed = {
            "pyproject.toml",
            "constraints.txt",
            project["project"]["readme"],
            *project["project"]["license-files"],
            *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        }
        assert {path.name for path in ROOT.iterdir() if in_context(path.name)} == needed
        package = [path.relative_to(ROOT) for path in (ROOT / "airflow_imagesync").rglob("*") if path.is_file()]
        compiled = {path for path in package if "__pycache__" in path.parts}
        assert {path for path in package if not in_context(path.as_posix())} == compiled
        assert not in_context(".env")

    def test_pins_leave_alone_what_the_image_has(self, tmp_path: Path) -> None:
        awk = re.search(r"awk .+? /tmp/pins\.txt", dockerfile())
        assert awk
        (tmp_path / "image.txt").write_text("PyYAML==6.0\nruamel.yaml.clib==0.2\nrich==13.0\n")
        (tmp_path / "constraints.txt").write_text(
            "# made by a tool\nnew-one==1.0\npyyaml==6.1 ; python_version < '4'\nrich-argparse==1.8\n"
            "ruamel-yaml-clib==0.3\n"
        )
        command = awk[0].replace("/tmp/", f"{tmp_path}/").replace("/usr/src/airflow-imagesync", str(tmp_path))
        subprocess.run(["sh", "-c", command], check=True)
        assert [line for line in (tmp_path / "pins.txt").read_text().splitlines() if line[0] != "#"] == [
            "PyYAML==6.0",
            "ruamel.yaml.clib==0.2",
            "rich==13.0",
            "new-one==1.0",
            "rich-argparse==1.8",
        ]

    def test_folders_under_volumes_are_made_in_the_image(self) -> None:
        # A new volume takes its owner from the folder it covers; without one it is root's, and Airflow can't write.
        mounted = {volume.split(":")[1] for volume in SERVICES["scheduler"]["volumes"] if volume[0] != "."}
        made = {f"/opt/airflow/{name}" for name in re.findall(r'mkdir "\${AIRFLOW_HOME}/(\w+)"', dockerfile())}
        assert mounted - {"/opt/airflow/logs", str(SECRETS)} == made == {ENVIRONMENT["IMAGESYNC_REPORTS"]}
