from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.domain.unit import MAX_LABEL
from airflow_imagesync.errors import ImagesFailed
from airflow_imagesync.operators.image_sync import ImageSyncOperator
from devtools import images
from devtools.distribution import DistributionRegistry, LoggedRequest
from devtools.latency import LatencyProxy
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.skopeo import Skopeo
from tests.support.task import Run

Connections = Callable[..., None]
WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")


def writes(requests: list[LoggedRequest]) -> list[LoggedRequest]:
    return [one for one in requests if one.method not in ("GET", "HEAD")]


@pytest.fixture
def stopped_registry() -> Any:
    """A registry that does not answer until it is started."""
    with DistributionRegistry() as registry:
        registry.stop()
        yield registry


def test_copies_a_source_to_its_destinations_by_connections(
    source_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    connections: Connections,
    repository_prefix: str,
    skopeo: Skopeo,
) -> None:
    images.push(source_registry.url, f"{repository_prefix}/app", ONE, ["v1", "v2", "other"])
    connections(
        src={"host": source_registry.host, "extra": {"insecure": True}},
        dst={"host": htpasswd_registry.host, "login": USER, "password": PASSWORD, "extra": {"insecure": True}},
    )
    operator = ImageSyncOperator(
        task_id="sync",
        source="{{ params.registry }}/{{ params.name }}/app:/^v/",
        destination=[
            f"{htpasswd_registry.host}/{repository_prefix}/a",
            f"{htpasswd_registry.host}/{{{{ params.name }}}}/b",
        ],
        source_conn_id="{{ params.connection }}",
        destination_conn_id="dst",
    )
    run = Run()
    params = {"registry": source_registry.host, "name": repository_prefix, "connection": "src"}
    totals = run.execute(operator, params=params)

    assert (totals["copied"], totals["same"], totals["failed"]) == (4, 0, 0)
    for tag in ("v1", "v2"):
        for name in ("a", "b"):
            reference = f"{htpasswd_registry.host}/{repository_prefix}/{name}:{tag}"
            assert skopeo.digest(reference, f"--creds={USER}:{PASSWORD}") == ONE.digest
    result = run.xcom("sync", "result")
    assert (result["unit"], len(result["images"])) == (None, 4)
    assert {one["state"] for one in result["images"]} == {"copied"}


def test_tries_again_while_a_failure_may_pass_and_then_does_only_what_is_left(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    stopped_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"},
        {
            "source": f"{stopped_registry.host}/app:v2,missing",
            "destination": f"{destination_registry.host}/{repository_prefix}/app2",
        },
        registries={stopped_registry.host: {"insecure": True}},
        retries=0,
    )
    operator = ImageSyncOperator(task_id="sync", config=config)
    run = Run()
    with pytest.raises(ImagesFailed, match="3 images: 1 copied, 0 same, 2 failed"):
        run.execute(operator)
    assert [one["state"] for one in run.xcom("sync", "result")["images"]] == ["copied", "failed", "failed"]

    stopped_registry.start()
    images.push(stopped_registry.url, "app", TWO, ["v2"])
    before = len(source_registry.requests_log()), len(destination_registry.requests_log())
    # What is left by now will not pass by itself.
    with pytest.raises(AirflowFailException, match="missing does not exist at the source"):
        run.execute(operator)
    assert [one.method for one in source_registry.requests_log()[before[0] :]] == ["HEAD"]
    assert {one.path.split("/")[3] for one in writes(destination_registry.requests_log()[before[1] :])} == {"app2"}
    result = run.xcom("sync", "result")["images"]
    assert [one["state"] for one in result] == ["copied", "copied", "failed"]
    assert result[0]["bytes_copied"] == sum(blob.size for blob in ONE.all_blobs())

    images.push(stopped_registry.url, "app", TWO, ["missing"])
    assert run.execute(operator)["copied"] == 3
    # Cleared after its success it still tells what it did in this run; in another run there was nothing to do.
    assert run.execute(operator)["copied"] == 3
    assert Run().execute(operator)["same"] == 3


def test_without_a_task_state_store_a_retry_counts_what_is_there_as_the_same(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    """Airflow has one since 3.3."""
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1,v2", "destination": f"{destination_registry.host}/{name}"}
    )
    run = Run()
    for expected in (["copied", "failed"], ["same", "failed"]):
        with pytest.raises(AirflowFailException):
            run.execute(ImageSyncOperator(task_id="sync", config=config), store=False)
        assert [one["state"] for one in run.xcom("sync", "result")["images"]] == expected


def test_a_store_that_fails_or_holds_something_else_costs_no_image(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    class BrokenStore:
        def get(self, *arguments: Any, **more: Any) -> Any:
            raise RuntimeError("no store")

        set = get

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}", "destination": f"{destination_registry.host}/{name}"}
    )
    operator = ImageSyncOperator(task_id="sync", config=config)
    assert Run().execute(operator, store=False, task_state_store=BrokenStore())["copied"] == 1
    run = Run()
    run.stores["sync", -1] = {"copied": "something else"}
    assert run.execute(operator)["same"] == 1


def test_what_somebody_else_brought_between_two_tries_is_not_told_as_copied(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1,v2", "destination": f"{destination_registry.host}/{name}"}
    )
    run = Run()
    for expected in ("copied", "same"):
        with pytest.raises(AirflowFailException):
            run.execute(ImageSyncOperator(task_id="sync", config=config))
        assert run.xcom("sync", "result")["images"][0]["state"] == expected
        for registry in (source_registry, destination_registry):
            images.push(registry.url, name, TWO, ["v1"])


def test_a_retry_forces_nothing_that_an_earlier_try_copied(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    from airflow_imagesync.operators.plan import ImageSyncPlanOperator

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    images.push(destination_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1,v2", "destination": f"{destination_registry.host}/{name}"}
    )
    run = Run()
    (unit,) = run.execute(ImageSyncPlanOperator(task_id="plan", config=config, force="True"))
    sync = ImageSyncOperator(task_id="sync", config=config, unit=unit)

    def manifests_put(*, fails: bool) -> int:
        before = len(destination_registry.requests_log())
        if fails:
            with pytest.raises(AirflowFailException):
                run.execute(sync, map_index=0)
        else:
            run.execute(sync, map_index=0)
        return len(
            [
                one
                for one in destination_registry.requests_log()[before:]
                if "/manifests/v1" in one.path and one.method == "PUT"
            ]
        )

    assert manifests_put(fails=True) == 1
    assert manifests_put(fails=True) == 0
    images.push(source_registry.url, name, ONE, ["v2"])
    assert manifests_put(fails=False) == 0
    assert [one["state"] for one in run.xcom("sync", "result", 0)["images"]] == ["copied", "copied"]
    # Who clears a task that was done wants it done again.
    assert manifests_put(fails=False) == 1


def mistake(text: str, **arguments: Any) -> Any:
    return pytest.param(arguments, text, id=text.replace(" ", "-")[:50])


SIDES = {"source": "{source}/app:v1", "destination": "{destination}/app"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        mistake(
            "/gone.yaml: there is no such file; check the path, and that it is on this machine",
            config="{folder}/gone.yaml",
        ),
        mistake("/empty.yaml: found nothing, expected a configuration", config="{folder}/empty.yaml"),
        mistake("the environment variable 'NOT_SET' is not set", config="{folder}/unset.yaml"),
        mistake("registries.{source}: there is no connection 'nowhere'", config="{folder}/connection.yaml"),
        mistake(
            "there is no connection 'nowhere'; create it under Admin, Connections", source_conn_id="nowhere", **SIDES
        ),
        mistake("'linux' is not a platform", platforms="linux", **SIDES),
        mistake("force: 'maybe' is neither true nor false", force="maybe", **SIDES),
        mistake("concurrency: 'many' is not a whole number", concurrency="many", **SIDES),
        mistake("concurrency: found the number 0", concurrency="0", **SIDES),
        mistake("give source and destination, or config, images or rules", source="{source}/app"),
        mistake("a configuration file or rules as text, not both", rules="a: b", config="{folder}/empty.yaml"),
        mistake(
            "the entry {source} holds credentials, which would be stored in plain text",
            rules="registries: {{'{source}': {{username: me, password: hunter22}}}}\n"
            "rules: [{{source: '{source}/app', destination: '{destination}/app'}}]",
        ),
        mistake(
            "is not set; rules given as text don't see the worker's environment", rules="{source}/app: '$HOME/app'"
        ),
        mistake("is not set; rules given as text don't see", source="{source}/$HOME", destination="{destination}/app"),
        mistake(
            "source connection 'elsewhere' is for elsewhere.example.com, but the sources are at {source}",
            source_conn_id="elsewhere",
            **SIDES,
        ),
        mistake(
            "destination connection 'cloud' is for registries of Amazon, but the destinations are at {destination}",
            destination_conn_id="cloud",
            **SIDES,
        ),
        mistake(
            "names no registry, and the destinations are at",
            destination_conn_id="anywhere",
            source="{source}/app:v1",
            destination=["{source}/app2", "{destination}/app"],
        ),
        mistake(
            "'anywhere' names no registry, so that rules given as text could send",
            destination_conn_id="anywhere",
            rules="{source}/app:v1: {destination}/app",
        ),
        mistake(
            "could send its credentials anywhere; give its host, or limit the registries",
            rules="registries: {{'{destination}': {{conn_id: anywhere}}}}\n"
            "rules: [{{source: '{source}/app:v1', destination: '{destination}/app'}}]",
        ),
    ],
)
def test_what_somebody_must_mend_fails_for_good_with_one_sentence_and_without_a_request(
    arguments: dict[str, Any],
    message: str,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    connections: Connections,
    tmp_path: Path,
) -> None:
    names = {"source": source_registry.host, "destination": destination_registry.host, "folder": str(tmp_path)}

    def filled(value: Any) -> Any:
        return [filled(one) for one in value] if isinstance(value, list) else value.format(**names)

    (tmp_path / "empty.yaml").write_text("# nothing\n")
    rule = f"rules: [{{source: '{source_registry.host}/a:v1', destination: '{destination_registry.host}/$NOT_SET'}}]"
    (tmp_path / "unset.yaml").write_text(rule)
    (tmp_path / "connection.yaml").write_text(
        f"registries: {{'{source_registry.host}': {{conn_id: nowhere}}}}\n{rule.replace('$NOT_SET', 'a')}"
    )
    connections(
        elsewhere={"host": "elsewhere.example.com"},
        cloud={"conn_type": "aws", "login": "key", "password": "secret-of-the-cloud"},
        anywhere={"login": "me", "password": "hunter22"},
    )
    before = len(source_registry.requests_log()), len(destination_registry.requests_log())
    operator = ImageSyncOperator(task_id="sync", **{key: filled(value) for key, value in arguments.items()})
    with pytest.raises(AirflowFailException) as caught:
        Run().execute(operator)
    text = str(caught.value)
    assert message.format(**names) in text
    assert "\n" not in text
    assert "hunter22" not in text
    assert caught.value.__cause__ is None
    assert before == (len(source_registry.requests_log()), len(destination_registry.requests_log()))


@pytest.mark.parametrize("nothing", ["{{ params.nothing }}", "{{ params.empty }}", "", None])
def test_what_a_template_leaves_empty_was_not_given(
    nothing: str | None,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"}
    )
    names = ("auth", "images", "rules", "source_conn_id", "destination_conn_id", "platforms", "force", "concurrency")
    operator = ImageSyncOperator(
        task_id="sync",
        config="{{ params.config }}",
        **dict.fromkeys(names, nothing),  # type: ignore[arg-type]
    )
    assert Run().execute(operator, params={"config": str(config), "nothing": None, "empty": ""})["copied"] == 1


@pytest.mark.parametrize(
    "platforms", ["linux/arm64,windows/amd64", "['linux/arm64', 'windows/amd64']", ["linux/arm64"]]
)
def test_platforms_are_a_list_or_a_text_whatever_a_template_makes_of_it(
    platforms: Any,
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    arm = images.image([images.Blob(b"arm")], "linux/arm64")
    images.push(source_registry.url, name, images.index([ONE, arm]), ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}", "destination": f"{destination_registry.host}/{name}"}
    )
    operator = ImageSyncOperator(task_id="sync", config=config, platforms="{{ params.platforms }}")
    run = Run()
    assert run.execute(operator, params={"platforms": platforms})["copied"] == 1
    assert "changes the digest" in run.xcom("sync", "result")["images"][0]["note"]


def test_rules_of_a_parameter_are_not_taken_for_a_template(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    connections: Connections,
    repository_prefix: str,
) -> None:
    images.push(source_registry.url, f"{repository_prefix}/app", ONE, ["v1.11", "v1.2"])
    reached = {"extra": {"insecure": True}}
    connections(src={"host": source_registry.host, **reached}, dst={"host": destination_registry.host, **reached})
    operator = ImageSyncOperator(
        task_id="sync", rules="{{ params.rules }}", source_conn_id="src", destination_conn_id="dst"
    )
    pattern = "/^v1[.]1{2}$|{{1}}|{% raw %}/"
    rules = (
        f"'{source_registry.host}/{repository_prefix}/app:{pattern}': {destination_registry.host}/{repository_prefix}"
    )
    run = Run()
    run.execute(operator, params={"rules": rules})
    assert [one["source"].rpartition(":")[2] for one in run.xcom("sync", "result")["images"]] == ["v1.11"]


def test_within_one_registry_the_destinations_connection_writes(
    token_registry: DistributionRegistry,
    token_server: TokenServer,
    connections: Connections,
    repository_prefix: str,
) -> None:
    """Even into the repository that is read with the source's."""
    token = token_server.token(USER, f"repository:public/{repository_prefix}:pull,push")
    images.push(token_registry.url, f"public/{repository_prefix}", ONE, ["v1"], auth=images.BearerAuth(token))
    connections(
        anybody={"host": token_registry.host, "extra": {"insecure": True}},
        alice={"host": token_registry.host, "login": USER, "password": PASSWORD, "extra": {"insecure": True}},
    )
    where = f"{token_registry.host}/public/{repository_prefix}"
    arguments = {"task_id": "sync", "source": f"{where}:v1", "destination": f"{where}:v2"}
    assert Run().execute(ImageSyncOperator(**arguments, source_conn_id="anybody", destination_conn_id="alice"))[
        "copied"
    ]
    with pytest.raises(AirflowFailException, match=r"401|403"):
        Run().execute(
            ImageSyncOperator(
                **{**arguments, "destination": f"{where}:v3"}, source_conn_id="alice", destination_conn_id="anybody"
            )
        )


def test_a_connection_for_one_registry_leaves_the_units_of_others_alone(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    htpasswd_registry: DistributionRegistry,
    write_config: WriteConfig,
    connections: Connections,
    repository_prefix: str,
) -> None:
    from airflow_imagesync.operators.plan import ImageSyncPlanOperator

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"},
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{htpasswd_registry.host}/{name}"},
        # How it is reached, the configuration knows; who goes there, the connection.
        registries={htpasswd_registry.host: {"insecure": True, "username": "somebody", "password": "wrong"}},
    )
    connections(dst={"host": htpasswd_registry.host, "login": USER, "password": PASSWORD})
    run = Run()
    units = run.execute(ImageSyncPlanOperator(task_id="plan", config=config, destination_conn_id="dst"))
    assert len(units) == 2
    for index, unit in enumerate(units):
        sync = ImageSyncOperator(task_id="sync", config=config, destination_conn_id="dst", unit=unit)
        assert run.execute(sync, map_index=index)["copied"] == 1


def test_a_task_looks_up_only_the_connections_it_needs(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    """What a worker never had, it can't lose; and a connection that is missing stops only who needs it."""
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"},
        registries={"registry.invalid": {"conn_id": "nowhere"}},
    )
    assert Run().execute(ImageSyncOperator(task_id="sync", config=config))["copied"] == 1


def slow_image() -> images.BuiltManifest:
    return images.image([images.Blob(f"layer {number}".encode() * 100) for number in range(40)], "linux/amd64")


def test_on_kill_stops_within_seconds_and_leaves_no_tag(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, slow_image(), ["v1"])
    with LatencyProxy(destination_registry.host, delay=0.5) as proxy:
        config = write_config(
            {"source": f"{source_registry.host}/{name}:v1", "destination": f"{proxy.host}/{name}"},
            registries={proxy.host: {"insecure": True}},
            concurrency=1,
        )
        operator = ImageSyncOperator(task_id="sync", config=config)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                Run().execute(operator)
            except ImagesFailed as error:
                failures.append(error)

        task = threading.Thread(target=work)
        task.start()
        while not writes([one for one in destination_registry.requests_log() if name in one.path]):
            time.sleep(0.1)
        began = time.monotonic()
        operator.on_kill()
        assert time.monotonic() - began < 0.2  # it is a signal handler
        task.join(10)
        assert not task.is_alive()
        assert time.monotonic() - began < 4
    assert "the run was stopped" in str(failures[0])
    assert not [
        one
        for one in destination_registry.requests_log()
        if one.path.endswith(f"/{name}/manifests/v1") and one.method == "PUT"
    ]


def test_a_timeout_stops_within_seconds_and_leaves_no_tag(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout
    from airflow.sdk.execution_time.timeout import timeout

    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, slow_image(), ["v1"])
    with LatencyProxy(destination_registry.host, delay=0.5) as proxy:
        config = write_config(
            {"source": f"{source_registry.host}/{name}:v1", "destination": f"{proxy.host}/{name}"},
            registries={proxy.host: {"insecure": True}},
            concurrency=1,
        )
        began = time.monotonic()
        # As Airflow's task runner does it.
        with pytest.raises(AirflowTaskTimeout), timeout(4):
            Run().execute(ImageSyncOperator(task_id="sync", config=config))
        assert time.monotonic() - began < 8
    sent = [one for one in destination_registry.requests_log() if name in one.path]
    assert writes(sent)
    assert not [one for one in sent if one.path.endswith("/manifests/v1") and one.method == "PUT"]


def test_a_task_killed_before_it_began_copies_nothing(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    name = f"{repository_prefix}/app"
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source_registry.host}/{name}:v1", "destination": f"{destination_registry.host}/{name}"}
    )
    operator = ImageSyncOperator(task_id="sync", config=config)
    operator.on_kill()
    with pytest.raises(ImagesFailed):
        Run().execute(operator)
    assert not writes([one for one in destination_registry.requests_log() if name in one.path])


def test_the_label_tells_what_is_copied_and_fits() -> None:
    operator = ImageSyncOperator(task_id="sync", source="a.io/b", destination="c.io/d")
    assert operator.label == "a.io/b -> c.io/d"
    assert ImageSyncOperator(task_id="sync", unit={"label": "x -> y"}).label == "x -> y"
    assert len(ImageSyncOperator(task_id="sync", unit={"label": "x" * 1000}).label) <= MAX_LABEL


def test_a_unit_is_no_template() -> None:
    assert "unit" not in ImageSyncOperator.template_fields


def test_what_is_kept_for_a_later_try_stays_small(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    """Airflow warns above 64 KiB, and a unit has 50 images."""
    name = f"{repository_prefix}/app"
    images.push_many_tags(source_registry.url, name, ONE, 50)
    config = write_config(
        {"source": f"{source_registry.host}/{name}", "destination": f"{destination_registry.host}/{name}"}
    )
    run = Run()
    run.execute(ImageSyncOperator(task_id="sync", config=config))
    assert len(json.dumps(run.stores["sync", -1])) < 16 * 1024
    assert len(json.dumps(run.xcom("sync", "result"))) < 50 * 1024
