"""The command as a process: what it imports, its streams, its exit code, and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_imagesync.cli.commands import _Interrupts
from devtools import images
from devtools.distribution import DistributionRegistry

COMMAND = [sys.executable, "-m", "airflow_imagesync"]
# As if Airflow were not installed: importing it, from anywhere, is an error.
WITHOUT_AIRFLOW = (
    "import sys; sys.modules['airflow'] = None; from airflow_imagesync.__main__ import main; sys.exit(main())"
)


class SilentRegistry:
    """Accepts connections, counts them, and never answers."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.called = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.called.set()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def silent_registry() -> Iterator[SilentRegistry]:
    registry = SilentRegistry()
    yield registry
    registry.close()


@pytest.fixture
def silent_config(silent_registry: SilentRegistry, tmp_path: Path) -> Path:
    path = tmp_path / "sync.json"
    rule = {"source": f"{silent_registry.host}/a/b:v1", "destination": f"{silent_registry.host}/c/d"}
    path.write_text(json.dumps({"registries": {silent_registry.host: {"insecure": True}}, "rules": [rule]}))
    return path


@pytest.fixture
def config(
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> Path:
    """A configuration with one image to copy."""
    images.push(source_registry.url, repository_prefix, images.image(), ["v1"])
    hosts = (source_registry.host, destination_registry.host)
    rule = {"source": f"{hosts[0]}/{repository_prefix}:v1", "destination": f"{hosts[1]}/{repository_prefix}"}
    path = tmp_path / "sync.json"
    path.write_text(json.dumps({"registries": {host: {"insecure": True} for host in hosts}, "rules": [rule]}))
    return path


def run(*arguments: str | Path, program: list[str] | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(program or COMMAND), *map(str, arguments)],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_no_command_needs_airflow(command: str, config: Path) -> None:
    done = run(command, config, "-o", "json", program=[sys.executable, "-c", WITHOUT_AIRFLOW])
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_help_imports_neither_the_engine_nor_the_configuration() -> None:
    done = run("run", "--help", program=[sys.executable, "-X", "importtime", "-m", "airflow_imagesync"])
    assert done.returncode == 0
    for module in ("airflow ", "requests", "pydantic", "rich", "yaml", "airflow_imagesync.config"):
        assert f" {module}" not in done.stderr


def test_check_needs_no_http() -> None:
    script = (
        "import sys; from airflow_imagesync.__main__ import main; main(['check', 'none.yaml', '-o', 'json']);"
        "sys.exit(bool({'requests', 'urllib3', 'rich'} & set(sys.modules)))"
    )
    assert run(program=[sys.executable, "-c", script]).returncode == 0


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("airflow_imagesync ")
    assert "--output-success-images" in run("run", "--help").stdout


def test_a_usage_error_exits_2() -> None:
    done = run("run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give CONFIG" in done.stderr


def test_json_is_all_that_standard_output_gets(config: Path) -> None:
    done = run("run", config, "-o", "json", "-vv")
    assert done.returncode == 0
    assert json.loads(done.stdout)["totals"]["copied"] == 1
    assert done.stderr


def test_an_unwritable_report_is_found_before_any_request(
    silent_registry: SilentRegistry, silent_config: Path, tmp_path: Path
) -> None:
    done = run("run", silent_config, "--report", tmp_path / "missing" / "report.json", "-o", "json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing/report.json: No such file or directory" in done.stderr
    assert silent_registry.connections == []


@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_interrupt_stops_within_seconds_and_is_reported(
    command: str, silent_registry: SilentRegistry, silent_config: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    process = start(command, silent_config, "-o", "json", "--report", report)
    assert silent_registry.called.wait(30)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert [row["state"] for row in json.loads(out)["images"]] == ["failed"]
    assert "Traceback" not in err
    assert "stopping" in err
    document = json.loads(report.read_text())
    assert document["totals"]["failed"] == 1
    assert document["metadata"]["interrupted"] is True


def test_a_request_to_terminate_is_reported_too(silent_registry: SilentRegistry, silent_config: Path) -> None:
    process = start("run", silent_config, "-o", "json")
    assert silent_registry.called.wait(30)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert json.loads(out)["totals"]["failed"] == 1


def test_a_second_interrupt_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    with _Interrupts() as interrupts:
        assert interrupts.exit_code == 0
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.exit_code, ends) == (130, [])
        signal.raise_signal(signal.SIGINT)
        assert ends == [130]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.number is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_goes_away_is_no_error(config: Path) -> None:
    process = start("run", config)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stream:
        err = stream.read()
    assert process.wait(timeout=30) == 0
    assert err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_told(config: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "run", config, "-o", "json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert "can't write standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_standard_output_is_told(config: Path) -> None:
    done = run("-c", f"exec {' '.join(COMMAND)} run {config} >&-", program=["sh"])
    assert done.returncode == 2
    assert "can't write standard output: it is closed" in done.stderr


def test_an_ascii_terminal_gets_something_readable(tmp_path: Path) -> None:
    config = tmp_path / "sync.yaml"
    config.write_text("rules:\n- {source: 'a.io/é:1', destination: b.io/c}\n", encoding="utf-8")
    done = run("check", config, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
