"""Airflow for the demo: its own home, the embedded database, and the two registries as connections."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_START_SECONDS = 180
_STOP_SECONDS = 30


class DemoAirflow:
    """Runs Airflow in `folder`, with the DAGs of `dags`, the configuration `config` and the cluster's `manifests`."""

    def __init__(self, folder: Path, dags: Path, config: Path, manifests: Path, registries: dict[str, str]) -> None:
        self._registries = registries
        self.log = folder / "airflow.log"
        # Nothing of the user's own Airflow may come in, and nothing of ours may go there.
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
            # `airflow standalone` starts its parts as "airflow", which is not on PATH when make runs this Python.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "IMAGESYNC_CONFIG": str(config),
            "IMAGESYNC_MANIFESTS": str(manifests),
            "IMAGESYNC_DESTINATION": f"{registries['destination_registry']}/migrated",
            "IMAGESYNC_REPORTS": str(folder / "reports"),
        }

    def set_up(self) -> None:
        """Make the database, with the two registries as connections in it, where the UI shows them."""
        self._must("db", "migrate")
        for conn_id, host in self._registries.items():
            # Host and port apart: the test button of Airflow 3.3 refuses a stored connection without a port.
            name, _, port = host.rpartition(":")
            connection = {"conn_type": "oci_registry", "host": name, "port": int(port), "extra": {"insecure": True}}
            self._must("connections", "add", conn_id, "--conn-json", json.dumps(connection))

    def run(self, dag_id: str) -> int:
        """Run a DAG to its end in one process, without a server; return the exit code."""
        return self._airflow("dags", "test", dag_id, IMAGESYNC_NO_DEADLINE="yes")  # see dags/nightly_sync.py

    def _must(self, *arguments: str) -> None:
        if self._airflow(*arguments) != 0:
            raise SystemExit(f"airflow {' '.join(arguments[:2])} failed; see {self.log}")

    def _airflow(self, *arguments: str, **environment: str) -> int:
        with self.log.open("ab") as log:
            return subprocess.run(
                [sys.executable, "-m", "airflow", *arguments],
                env={**self._environment, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode

    def serve(self) -> None:
        """Start Airflow with its UI, print the address, and stop it when the user presses Ctrl-C."""
        port = _free_port()
        environment = {
            **self._environment,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port()),
        }
        print("\n==> Airflow starts; this takes up to a minute", flush=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            if not _answers(f"http://localhost:{port}/api/v2/monitor/health", process):
                raise SystemExit(f"Airflow did not start; see {self.log}")
            # Not before: the scheduler would start last night's run while no server takes its results.
            for dag_id in ("nightly_sync", "migrate_images", "cluster_migration"):
                self._must("dags", "unpause", "--yes", dag_id)
            print(
                f"\n    http://localhost:{port}   (no login)\n\n"
                "    Dags: nightly_sync, and to start with a form migrate_images and cluster_migration.\n"
                "    Connections: source_registry and destination_registry, with the test button.\n"
                "    Ctrl-C stops Airflow and the registries.",
                flush=True,
            )
            process.wait()
        except KeyboardInterrupt:
            print()
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until `url` answers; return whether it does before the process ends or time is up."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End Airflow and all its processes: they are a session of their own."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS if number != signal.SIGKILL else 5)
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
