from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseNotifier
from airflow.sdk.exceptions import AirflowException

from airflow_imagesync.dag_factory import image_sync_dag
from airflow_imagesync.errors import ImagesFailed
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.faults import answer
from tests.support.front import Front
from tests.support.task import Run, TaskInstance

IMAGE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
#: What a registry that means ill may answer: a template of Jinja, markup, and a call to everybody in a channel.
HOSTILE = "no {{ 7 * 7 }} {% raw %} <img src=x> <!channel> @everyone"


class Recorder(BaseNotifier):
    """A backend that keeps what it is told to send."""

    template_fields = ("text", "channel")
    sent: list[dict[str, Any]] = []

    def __init__(self, *, text: str, channel: str = "#all", plain: str = "", subject: str = "none") -> None:
        super().__init__()
        self.text, self.channel, self.plain, self.subject = text, channel, plain, subject

    def notify(self, context: Any) -> None:
        self.sent.append({"text": self.text, "channel": self.channel, "plain": self.plain, "subject": self.subject})


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """What Recorder has sent."""
    Recorder.sent.clear()
    yield Recorder.sent
    Recorder.sent.clear()


class Night:
    """A run of the four tasks of a DAG, with what its tasks left, and the contexts that Airflow calls back with."""

    def __init__(self, dag: DAG) -> None:
        self.dag = dag
        self.run = Run(dag.dag_id, "manual__2026-01-01T02:00:00+00:00")
        self.error: BaseException | None = None

    def sync(self) -> None:
        plan: Any = self.dag.get_task("plan")
        units, config = self.run.execute(plan), plan.config
        for index, unit in enumerate(units):
            with contextlib.suppress(AirflowException, ImagesFailed):
                self.run.execute(ImageSyncOperator(task_id="sync", config=config, unit=unit), map_index=index)
        self.run.execute(self.dag.get_task("report"))
        try:
            self.run.execute(self.dag.get_task("outcome"))
        except AirflowException as error:
            self.error = error

    def context(self, task_id: str = "outcome", map_index: int = -1) -> dict[str, Any]:
        ti: Any = TaskInstance(self.run, task_id, map_index)
        ti.state = "success" if self.error is None else "failed"
        return {
            "dag": self.dag,
            "task": self.dag.get_task(task_id),
            "ti": ti,
            "run_id": self.run.run_id,
            "exception": self.error,
        }


@pytest.fixture
def night(
    tmp_path: Path,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> Iterator[Callable[..., Night]]:
    """Makes a run that copies the tags named, and fails to get those named last: with what a registry answered."""
    with Front(source_registry.host) as front:

        def run(*tags: str, failing: tuple[str, ...] = (), **arguments: Any) -> Night:
            images.push(source_registry.url, repository_prefix, IMAGE, [*tags, *failing])
            body = json.dumps({"errors": [{"code": "DENIED", "message": HOSTILE}]}).encode()
            for tag in failing:
                front.on(None, f"/manifests/{tag}$", answer(403, {"Content-Type": "application/json"}, body))
            config = tmp_path / "night.yaml"
            hosts = (front.host, destination_registry.host)
            rules = [
                {
                    "source": f"{front.host}/{repository_prefix}:{','.join([*tags, *failing])}",
                    "destination": f"{destination_registry.host}/{repository_prefix}/copy",
                }
            ]
            config.write_text(json.dumps({"registries": {one: {"insecure": True} for one in hosts}, "rules": rules}))
            night = Night(image_sync_dag(config, dag_id="nightly", **arguments))
            night.sync()
            return night

        yield run
