from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_imagesync.errors import ImagesFailed, SyncCancelled
from airflow_imagesync.operators import verify
from airflow_imagesync.operators.plan import ImageSyncPlanOperator
from airflow_imagesync.operators.verify import ImageSyncVerifyOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy
from tests.support import PASSWORD, USER
from tests.support.faults import answer
from tests.support.front import Front
from tests.support.task import Run

WriteConfig = Callable[..., Path]
Rule = Callable[..., dict[str, Any]]
Push = Callable[..., None]

OLD, NEW = images.image([images.layer(2000, "old")]), images.image([images.layer(2000, "new")])


@pytest.fixture
def rule(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry, repository_prefix: str
) -> Rule:
    """A rule between the two open registries."""

    def make(tags: str = "", **more: Any) -> dict[str, Any]:
        return {
            "source": f"{source_registry.host}/{repository_prefix}/app{tags}",
            "destination": f"{destination_registry.host}/{repository_prefix}/app",
            **more,
        }

    return make


@pytest.fixture
def push(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry, repository_prefix: str
) -> Push:
    """Puts an image into the repository of this test, at the source and the destination, or at one of them."""

    def put(image: images.BuiltManifest, *tags: str, at: str = "both") -> None:
        for name, registry in (("source", source_registry), ("destination", destination_registry)):
            if at in (name, "both"):
                images.push(registry.url, f"{repository_prefix}/app", image, tags)

    return put


def test_succeeds_when_all_is_the_same_whatever_is_forced(
    push: Push, write_config: WriteConfig, rule: Rule, capsys: pytest.CaptureFixture[str]
) -> None:
    push(NEW, "v1", "v2")
    run = Run()
    config = write_config(rule(force=True))
    totals = run.execute(ImageSyncVerifyOperator(task_id="verify", config=config, force=True))
    assert totals == {"same": 2, "missing": 0, "different": 0, "failed": 0}
    assert run.xcom("verify", "verification") == {
        "summary": "all 2 images are the same",
        "totals": totals,
        "images": [],
        "more": 0,
    }
    assert "all 2 images are the same" in capsys.readouterr().out


def test_fails_for_good_when_something_differs_and_says_what(
    push: Push, write_config: WriteConfig, rule: Rule, capsys: pytest.CaptureFixture[str]
) -> None:
    push(NEW, "same")
    push(NEW, "missing", "moved", at="source")
    push(OLD, "moved", at="destination")
    config = write_config(rule(":same,missing,moved,gone"))
    run = Run()
    with pytest.raises(AirflowFailException) as caught:
        run.execute(ImageSyncVerifyOperator(task_id="verify", config=config))
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 images are not the same: 1 failed, 1 different, 1 missing, 1 same"
    assert [line.split()[0].rpartition(":")[2] for line in lines[1:]] == ["gone", "moved", "missing"]
    assert f"the destination has {OLD.digest} in place of {NEW.digest}" in lines[2]
    found = run.xcom("verify", "verification")
    assert found["totals"] == {"same": 1, "missing": 1, "different": 1, "failed": 1}
    assert [row["state"] for row in found["images"]] == ["failed", "different", "missing"]
    assert found["images"][1]["destination_digest"] == OLD.digest
    assert ("verify", "return_value") not in run.xcoms
    assert "DIFFERENT" in capsys.readouterr().out


def test_the_xcom_and_the_message_stay_small(
    push: Push, write_config: WriteConfig, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_KEPT_ROWS", 4)
    monkeypatch.setattr(verify, "_KEPT_CHARACTERS", 30)
    push(NEW, *(f"v{number}" for number in range(10)), at="source")
    run = Run()
    with pytest.raises(AirflowFailException) as caught:
        run.execute(ImageSyncVerifyOperator(task_id="verify", config=write_config(rule())))
    found = run.xcom("verify", "verification")
    assert (len(found["images"]), found["more"], found["totals"]["missing"]) == (4, 6, 10)
    assert {len(row["error"]) for row in found["images"]} == {30}
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (5, "and 7 more, see the log")


def test_what_may_pass_by_itself_is_tried_again_when_the_registry_allows_it(
    push: Push,
    write_config: WriteConfig,
    rule: Rule,
    destination_registry: DistributionRegistry,
    repository_prefix: str,
) -> None:
    push(NEW, "v1", "v2")
    with Front(destination_registry.host) as front:
        front.on(None, "/manifests/v2", answer(429, {"Retry-After": "3000"}))
        limited = {**rule(), "destination": f"{front.host}/{repository_prefix}/app"}
        # One after the other: what comes behind a limit is not asked for.
        config = write_config(limited, registries={front.host: {"insecure": True}}, concurrency=1)
        run = Run()
        operator = ImageSyncVerifyOperator(task_id="verify", config=config)
        with pytest.raises(ImagesFailed, match="1 of 2 images is not the same: 1 failed") as caught:
            run.execute(operator)
        assert caught.value.retry_at == pytest.approx(time.time() + 3000, abs=60)
        assert caught.value.only_time
        assert type(getattr(operator, "retry_policy", None)).__name__ in ("RegistryRetryPolicy", "NoneType")
        front.forget()
        assert run.execute(ImageSyncVerifyOperator(task_id="verify", config=config))["same"] == 2

        # Another try does not help against what is missing.
        front.on(None, "/manifests/v2", answer(429, {"Retry-After": "3000"}))
        push(NEW, "v0", at="source")
        with pytest.raises(AirflowFailException, match="1 failed, 0 different, 1 missing"):
            run.execute(ImageSyncVerifyOperator(task_id="verify", config=config))


def test_records_of_earlier_tasks_are_neither_believed_nor_touched(
    push: Push, write_config: WriteConfig, rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "records.db"
    monkeypatch.setenv("AIRFLOW__IMAGESYNC__RECORDS", str(file))
    push(NEW, "v1")
    config = write_config(rule(trust_records=True), full_check_every=100)
    plan = ImageSyncPlanOperator(task_id="plan", config=config)
    Run().execute(plan)
    push(OLD, "v1", at="destination")
    assert Run().execute(plan) == []  # so much are they trusted
    before = file.read_bytes()
    with pytest.raises(AirflowFailException, match="1 different"):
        Run().execute(ImageSyncVerifyOperator(task_id="verify", config=config))
    assert file.read_bytes() == before


def test_rules_as_text_and_connections_do_as_for_the_others(
    push: Push,
    rule: Rule,
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    repository_prefix: str,
    connections: Callable[..., None],
) -> None:
    push(NEW, "v1")
    images.push(htpasswd_registry.url, f"{repository_prefix}/app", NEW, ["v1"], auth=(USER, PASSWORD))
    connections(
        src={"host": source_registry.host, "extra": {"insecure": True}},
        dst={
            "host": htpasswd_registry.host,
            "login": USER,
            "password": PASSWORD,
            "extra": {"insecure": True},
        },
    )
    run = Run()
    operator = ImageSyncVerifyOperator(
        task_id="verify",
        rules=f"{rule()['source']} {htpasswd_registry.host}/{repository_prefix}/app",
        source_conn_id="src",
        destination_conn_id="dst",
    )
    assert run.execute(operator)["same"] == 1
    assert PASSWORD not in json.dumps([list(by_index.values()) for by_index in run.xcoms.values()])


def test_a_mistake_fails_for_good_before_anything_is_asked(
    write_config: WriteConfig, rule: Rule, source_registry: DistributionRegistry
) -> None:
    before = len(source_registry.requests_log())
    config = write_config(rule(), {"source": "$NOT_SET/a", "destination": "b.io/a"})
    for arguments, message in (
        ({"config": config}, "'NOT_SET' is not set"),
        ({"config": "/nowhere/sync.yaml"}, "/nowhere/sync.yaml"),
        ({}, "nothing says what to sync"),
        ({"config": config, "verify": "perhaps"}, "verify: 'perhaps' is neither true nor false"),
    ):
        with pytest.raises(AirflowFailException, match=message):
            Run().execute(ImageSyncVerifyOperator(task_id="verify", **arguments))
    assert len(source_registry.requests_log()) == before


@pytest.mark.parametrize("value", [False, "false", "{{ params.verify }}"])
def test_it_is_skipped_where_it_is_not_asked_for(value: bool | str) -> None:
    operator = ImageSyncVerifyOperator(task_id="verify", config="/nowhere", verify=value)
    with pytest.raises(AirflowSkipException, match="not asked for"):
        Run().execute(operator, params={"verify": False})


def test_it_is_skipped_after_a_dry_run_and_what_was_rejected(push: Push, write_config: WriteConfig, rule: Rule) -> None:
    push(NEW, "v1", at="source")
    config = write_config(rule())
    operator = ImageSyncVerifyOperator(task_id="verify", config=config, plan_task_id="plan", approval_task_ids=["gate"])
    run = Run()
    run.execute(ImageSyncPlanOperator(task_id="plan", config=config, plan_only=True))
    with pytest.raises(AirflowSkipException, match="this was a dry run"):
        run.execute(operator)

    run = Run()
    run.execute(ImageSyncPlanOperator(task_id="plan", config=config))
    run.xcoms["gate", "decision"] = {-1: {"approved": False, "by": "jo"}}
    with pytest.raises(AirflowSkipException, match="gate was rejected by jo"):
        run.execute(operator)
    run.xcoms["gate", "decision"] = {-1: {"approved": True, "by": "jo"}}
    with pytest.raises(AirflowFailException, match="1 missing"):
        run.execute(operator)


def test_a_verification_that_was_stopped_says_nothing(
    push: Push,
    source_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
    rule: Rule,
) -> None:
    push(NEW, *(f"v{number}" for number in range(40)))
    with LatencyProxy(source_registry.host, delay=0.5) as proxy:
        config = write_config(
            {**rule(), "source": f"{proxy.host}/{repository_prefix}/app"},
            registries={proxy.host: {"insecure": True}},
            concurrency=1,
        )
        operator = ImageSyncVerifyOperator(task_id="verify", config=config)
        threading.Timer(1.5, operator.on_kill).start()
        began = time.monotonic()
        run = Run()
        with pytest.raises(SyncCancelled):
            run.execute(operator)
        assert time.monotonic() - began < 6
    assert not run.xcoms
