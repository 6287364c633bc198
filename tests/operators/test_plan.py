from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.errors import SyncCancelled
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")


@pytest.fixture
def rule(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry, repository_prefix: str
) -> Callable[..., dict[str, Any]]:
    """A rule between the two open registries, its repositories below this test's prefix."""

    def make(source: str, destination: str, **more: Any) -> dict[str, Any]:
        return {
            "source": f"{source_registry.host}/{repository_prefix}/{source}",
            "destination": f"{destination_registry.host}/{repository_prefix}/{destination}",
            **more,
        }

    return make


Rule = Callable[..., dict[str, Any]]


def push(registry: DistributionRegistry, prefix: str, name: str, *tags: str, image: images.BuiltManifest = ONE) -> None:
    images.push(registry.url, f"{prefix}/{name}", image, tags)


def test_hands_out_what_needs_work_and_keeps_the_rest_for_the_report(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    push(source_registry, repository_prefix, "app", "v1", "v2", "v3", "v4")
    push(destination_registry, repository_prefix, "app", "v2")
    push(destination_registry, repository_prefix, "app", "v4", image=TWO)
    config = write_config(rule("app", "app"), rule("missing", "missing"))
    run = Run()
    units = run.execute(ImageSyncPlanOperator(task_id="plan", config=config, images_per_unit=2))

    assert [[image[2].rpartition(":")[2] for image in unit["images"]] for unit in units] == [["v1", "v3"], ["v4"], []]
    assert [unit["whole"] for unit in units] == [[], [], [1]]
    assert run.xcom("plan", "plan")["totals"] == {"new": 2, "changed": 1, "same": 1, "failed": 1}
    (unchanged,) = run.xcom("plan", "unchanged")
    assert unchanged[:2] == [1, 0]
    assert unchanged[4:] == [ONE.digest, None]


def test_nothing_to_do_is_an_empty_list_after_two_requests_a_tag(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    for registry in (source_registry, destination_registry):
        push(registry, repository_prefix, "app", *(f"v{number}" for number in range(20)))
    before = len(source_registry.requests_log()), len(destination_registry.requests_log())
    run = Run()
    assert run.execute(ImageSyncPlanOperator(task_id="plan", config=write_config(rule("app", "app")))) == []
    asked = source_registry.requests_log()[before[0] :], destination_registry.requests_log()[before[1] :]
    assert sorted(one.method for one in asked[0]) == ["GET"] + ["HEAD"] * 20
    assert [one.method for one in asked[1]] == ["HEAD"] * 20
    assert len(run.xcom("plan", "unchanged")) == 20


def test_sources_that_differ_for_one_tag_are_copied_by_no_task(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    """The clash shows only when the tags are listed, and each mapped task sees its own unit alone."""
    push(source_registry, repository_prefix, "one", "v1", "only-one")
    push(source_registry, repository_prefix, "two", "v1", "only-two", image=TWO)
    config = write_config(rule("one", "app"), rule("two", "app"))
    run = Run()
    units = run.execute(ImageSyncPlanOperator(task_id="plan", config=config, images_per_unit=1))
    states = {}
    for index, unit in enumerate(units):
        with pytest.raises(AirflowFailException, match="would be written from several sources"):
            run.execute(ImageSyncOperator(task_id="sync", config=config, unit=unit), map_index=index)
        for image in run.xcom("sync", "result", index)["images"]:
            states[image["source"].rpartition("/")[2]] = image["state"]
    assert states == {"one:v1": "failed", "one:only-one": "copied", "two:v1": "failed", "two:only-two": "copied"}
    puts = [
        one.path for one in destination_registry.requests_log() if one.method == "PUT" and "/manifests/" in one.path
    ]
    assert not [path for path in puts if path.endswith(f"{repository_prefix}/app/manifests/v1")]


def test_a_rule_that_can_be_planned_later_does_not_overwrite_what_another_wrote(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    push(source_registry, repository_prefix, "one", "v1")
    config = write_config(rule("one", "app"), rule("late", "app"))
    run = Run()
    (unit,) = run.execute(ImageSyncPlanOperator(task_id="plan", config=config))
    push(source_registry, repository_prefix, "late", "v1", "v2", image=TWO)
    with pytest.raises(AirflowFailException, match="would be written from several sources"):
        run.execute(ImageSyncOperator(task_id="sync", config=config, unit=unit), map_index=0)
    states = {one["source"].rpartition("/")[2]: one["state"] for one in run.xcom("sync", "result", 0)["images"]}
    assert states == {"one:v1": "failed", "late:v1": "failed", "late:v2": "copied"}


def test_a_mistake_is_told_to_the_report(write_config: WriteConfig, rule: Rule) -> None:
    run = Run()
    with pytest.raises(AirflowFailException):
        run.execute(ImageSyncPlanOperator(task_id="plan", config=write_config(rule("app", "$NOT_SET"))))
    assert run.xcom("plan", "plan")["error"].endswith("the environment variable 'NOT_SET' is not set")
    assert ("plan", "return_value") not in run.xcoms


@pytest.mark.parametrize("plan_only", [True, "true"])
def test_a_dry_run_returns_no_units_and_keeps_the_plan(
    plan_only: bool | str,
    source_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    push(source_registry, repository_prefix, "app", "v1")
    run = Run()
    config = write_config(rule("app", "app"), rule("missing", "missing"))
    assert run.execute(ImageSyncPlanOperator(task_id="plan", config=config, plan_only=plan_only)) == []
    assert run.xcom("plan", "plan")["dry_run"] is True
    assert [one["state"] for one in run.xcom("plan", "dry_run")] == ["new", "failed"]


def test_there_are_no_more_units_than_airflow_maps(
    source_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    push(source_registry, repository_prefix, "app", *(f"v{number}" for number in range(10)))
    config = write_config(rule("app", "app"))
    units = Run().execute(ImageSyncPlanOperator(task_id="plan", config=config, images_per_unit=1))
    assert [len(unit["images"]) for unit in units] == [4, 4, 2]


def test_units_hold_no_secret_and_at_most_a_kilobyte_an_image(
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    write_config: WriteConfig,
    rule: Rule,
    repository_prefix: str,
) -> None:
    push(source_registry, repository_prefix, "app", *(f"v{number}" for number in range(20)))
    config = write_config(
        rule("app", "app"),
        registries={htpasswd_registry.host: {"insecure": True, "username": "me", "password": "hunter22"}},
    )
    run = Run()
    run.execute(ImageSyncPlanOperator(task_id="plan", config=config))
    stored = json.dumps([list(by_index.values()) for by_index in run.xcoms.values()])
    assert "hunter22" not in stored
    assert len(stored) < 20 * 1024


def test_a_plan_that_was_stopped_hands_out_nothing(
    source_registry: DistributionRegistry, write_config: WriteConfig, repository_prefix: str, rule: Rule
) -> None:
    push(source_registry, repository_prefix, "app", *(f"v{number}" for number in range(40)))
    with LatencyProxy(source_registry.host, delay=0.5) as proxy:
        config = write_config(
            {**rule("app", "app"), "source": f"{proxy.host}/{repository_prefix}/app"},
            registries={proxy.host: {"insecure": True}},
            concurrency=1,
        )
        operator = ImageSyncPlanOperator(task_id="plan", config=config)
        threading.Timer(1.5, operator.on_kill).start()
        began = time.monotonic()
        run = Run()
        with pytest.raises(SyncCancelled):
            run.execute(operator)
        assert time.monotonic() - began < 6
    assert not run.xcoms


def test_a_wrong_size_of_units_shows_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="images_per_unit: found 0"):
        ImageSyncPlanOperator(task_id="plan", config="x", images_per_unit=0)


def test_airflows_own_dry_run_of_a_task_is_not_hidden() -> None:
    """``airflow tasks test --dry-run`` calls the method."""
    operator = ImageSyncPlanOperator(task_id="plan", config="x", plan_only=True)
    assert inspect.ismethod(operator.dry_run)
    operator.dry_run()
