"""A real Airflow on loopback: scheduler, DAG processor and API server, each a process of its own, on SQLite."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from cryptography.fernet import Fernet

_START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_COMPONENTS = ("api-server", "scheduler", "dag-processor")


class AirflowServer:
    """An Airflow installation in `home` with the DAGs in ``home/dags``; a context manager.

    It begins with a copy of `database`, which holds Airflow's tables. Everything it does is asked for over REST, as the
    UI does it. Ends only the processes that it started.
    """

    def __init__(self, home: Path, database: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self.dags = home / "dags"
        self.dags.mkdir(parents=True, exist_ok=True)
        shutil.copy(database, self.database)
        self._environ = environ
        self._port = _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def database(self) -> Path:
        return self.home / "airflow.db"

    @property
    def environ(self) -> dict[str, str]:
        """The settings that all of its processes share."""
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "3",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            # Files that change are read again all the same; reading all of them takes most of a core.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "900",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            **self._environ,
        }

    def __enter__(self) -> Self:
        # The same for all of its processes, and not written to a file.
        self._environ = {
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            **self._environ,
        }
        try:
            for component in _COMPONENTS:
                self._start(component)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process that was started here, with its children."""
        processes, self._processes = list(self._processes.values()), {}
        _end(processes)

    @contextlib.contextmanager
    def also(self, component: str) -> Iterator[None]:
        """Run a component that most tests can do without."""
        self._start(component)
        try:
            yield
        finally:
            _end([self._processes.pop(component)])

    # REST

    def request(self, method: str, path: str, body: object = None, **parameters: object) -> Any:
        """Return the JSON that the API answers; fail on an error."""
        response = self._session.request(method, f"{self.url}{path}", json=body, params=parameters, timeout=60)  # type: ignore[arg-type]
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        return response.json() if response.content else None

    def trigger(self, dag_id: str, **conf: object) -> str:
        """Start a run as the UI does, and return its id."""
        answer = self.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(answer["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def finish(self, dag_id: str, run_id: str, *, seconds: float = 90) -> str:
        """Wait for the end of a run and return its state."""
        self.wait_for(lambda: self.run_state(dag_id, run_id) in ("success", "failed"), f"the end of {run_id}", seconds)
        return self.run_state(dag_id, run_id)

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run, mapped ones as ``task[index]``."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        rows = self.request("GET", path, limit=100)["task_instances"]
        return {
            row["task_id"] if row["map_index"] < 0 else f"{row['task_id']}[{row['map_index']}]": row for row in rows
        }

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        return {name: row["state"] for name, row in self.tasks(dag_id, run_id).items()}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str, map_index: int = -1) -> Any:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", path, map_index=map_index, deserialize=True)["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, attempt: int = 1) -> str:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self.request("GET", path, map_index=map_index)["content"]
        lines = []
        for one in content:
            lines.append(str(one["event"]))
            lines += [str(error["exc_value"]) for error in one.get("error_detail") or ()]
        return "\n".join(lines)

    def clear(self, dag_id: str, run_id: str, *tasks: str | list[object], **options: object) -> None:
        """Clear tasks, and what comes after them, so that the scheduler runs them again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(tasks),
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
            **options,
        }
        self.request("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def question(self, dag_id: str, run_id: str, task_id: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until a task asks a person, and return what it asks."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"

        def asked() -> bool:
            states = self.states(dag_id, run_id)
            assert self.run_state(dag_id, run_id) in ("queued", "running"), f"nothing was asked: {states}"
            return states.get(task_id) in ("awaiting_input", "deferred")

        self.wait_for(asked, f"{task_id} to ask", seconds)
        # Airflow 3.3 fails a task that is answered before its scheduler knows that the process that asked has ended.
        ended = f"Received executor event with state success for task instance TaskInstanceKey(dag_id='{dag_id}', "
        ended += f"task_id='{task_id}', run_id='{run_id}'"
        self.wait_for(lambda: ended in (self.home / "scheduler.log").read_text(errors="replace"), "the scheduler")
        answer: dict[str, Any] = self.request("GET", path)
        return answer

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer a task that asks, as a person does in the UI."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self.request("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def mark_failed(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/{map_index}"
        self.request("PATCH", path, {"new_state": "failed"})

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self._tail(name)}"
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}\n{self._tail('scheduler')}"
            time.sleep(0.2)

    def _start(self, component: str) -> None:
        with (self.home / f"{component}.log").open("ab") as log:
            self._processes[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", component],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # a process group of its own, which is ended as a whole
            )

    def _wait_until_ready(self) -> None:
        def healthy() -> bool:
            try:
                health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            except requests.RequestException:
                return False
            return all(health[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))

        self.wait_for(healthy, "Airflow's components", _START_SECONDS)
        self._session.headers["Authorization"] = (
            f"Bearer {self._session.get(f'{self.url}/auth/token').json()['access_token']}"
        )

    def _tail(self, component: str) -> str:
        return (self.home / f"{component}.log").read_text(errors="replace")[-3000:]


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
