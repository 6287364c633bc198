"""What a real scheduler tries again, when, and what that costs the registries."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import pytest

from devtools import images
from devtools.distribution import DistributionRegistry
from tests.e2e.conftest import Site
from tests.support.faults import answer
from tests.support.skopeo import Skopeo

pytestmark = pytest.mark.more_airflow

ONE, TWO, THREE, FOUR = (
    images.image([images.Blob(text * 1000)], "linux/amd64") for text in (b"one", b"two", b"three", b"four")
)
#: How long the registry asks to wait, in seconds, and after how many it says so: when the others are through.
ASKED, REFUSED_AFTER = 10, 5.0


def asked(registry: DistributionRegistry, since: int, repository: str) -> Counter[str]:
    """Count what a registry was asked for in a repository: the method and the rest of the path."""
    start = f"/v2/{repository}/"
    return Counter(
        f"{one.method} {one.path.removeprefix(start).partition('?')[0]}"
        for one in registry.requests_log()[since:]
        if one.path.startswith(start)
    )


def fetched(image: images.BuiltManifest) -> dict[str, int]:
    """The requests for all of an image's blobs, once each."""
    return {f"GET blobs/{blob.digest}": 1 for blob in image.all_blobs()}


class Tried(NamedTuple):
    run_id: str
    seconds: float
    source: Counter[str]
    destination: Counter[str]


@pytest.fixture(scope="module")
def tried(site: Site) -> Tried:
    """A run whose first task is held up by a registry, with the requests of its second try; the other one fails."""
    for tag, image in {"v1": ONE, "v2": TWO, "v3": THREE}.items():
        images.push(site.source.url, "retrying/app", image, [tag])
    images.push(site.source.url, "retrying/partly", ONE, ["v1"])
    site.front.on(
        "GET", "/retrying/app/manifests/v3", answer(429, {"Retry-After": f"{ASKED}"}, after=REFUSED_AFTER), times=1
    )
    airflow = site.airflow
    run_id = airflow.trigger("retrying")
    airflow.wait_for(lambda: airflow.states("retrying", run_id).get("sync[0]") == "up_for_retry", "the first try")
    began = time.monotonic()
    states = [one["state"] for one in airflow.xcom("retrying", run_id, "sync", "result", 0)["images"]]
    assert states == ["copied", "copied", "failed"]
    before = len(site.source.requests_log()), len(site.destination.requests_log())
    airflow.finish("retrying", run_id, seconds=150)
    return Tried(
        run_id,
        time.monotonic() - began,
        asked(site.source, before[0], "retrying/app"),
        asked(site.destination, before[1], "retrying/app"),
    )


def test_a_retry_waits_as_long_as_the_registry_asks_and_not_for_the_retry_delay(
    tried: Tried, site: Site, skopeo: Skopeo
) -> None:
    task = site.airflow.tasks("retrying", tried.run_id)["sync[0]"]
    assert (task["state"], task["try_number"]) == ("success", 2)
    assert ASKED - 3 < tried.seconds < 150
    assert skopeo.digest(f"{site.destination.host}/retrying/app:v3") == THREE.digest
    assert "Retry policy decision" in site.airflow.log("retrying", tried.run_id, "sync", map_index=0)


def test_a_retry_asks_for_finished_images_once_on_each_side_and_sends_nothing_of_them(tried: Tried) -> None:
    assert tried.source == {
        "HEAD manifests/v1": 1,
        "HEAD manifests/v2": 1,
        "GET manifests/v3": 1,
        **fetched(THREE),
    }
    again = {key: count for key, count in tried.destination.items() if key.endswith(("/v1", "/v2"))}
    assert again == {"HEAD manifests/v1": 1, "HEAD manifests/v2": 1}
    assert tried.destination["PUT manifests/v3"] == 1
    assert sum(count for key, count in tried.destination.items() if key.startswith("POST ")) == 2


def test_what_will_not_pass_is_tried_once(tried: Tried, site: Site) -> None:
    task = site.airflow.tasks("retrying", tried.run_id)["sync[1]"]
    assert (task["state"], task["try_number"]) == ("failed", 1)


def test_a_long_task_tells_in_its_log_how_far_it_is(tried: Tried, site: Site) -> None:
    log = site.airflow.log("retrying", tried.run_id, "sync", map_index=0)
    assert "of 3 images done" in log


def test_a_clear_of_what_failed_sends_only_what_was_left(tried: Tried, site: Site, skopeo: Skopeo) -> None:
    images.push(site.source.url, "retrying/partly", FOUR, ["v2"])
    before = len(site.source.requests_log()), len(site.destination.requests_log())
    airflow = site.airflow
    airflow.clear("retrying", tried.run_id, "sync", only_failed=True)
    airflow.wait_for(lambda: airflow.run_state("retrying", tried.run_id) != "failed", "the clear")
    assert airflow.finish("retrying", tried.run_id) == "success"
    tasks = airflow.tasks("retrying", tried.run_id)
    assert [tasks[f"sync[{index}]"]["try_number"] for index in (0, 1)] == [2, 2]
    assert asked(site.source, before[0], "retrying/app") == {}
    assert asked(site.destination, before[1], "retrying/app") == {}
    assert asked(site.source, before[0], "retrying/partly") == {
        "HEAD manifests/v1": 1,
        "GET manifests/v2": 1,
        **fetched(FOUR),
    }
    sent = asked(site.destination, before[1], "retrying/partly")
    assert {key: count for key, count in sent.items() if key.endswith("/v1")} == {"HEAD manifests/v1": 1}
    assert skopeo.digest(f"{site.destination.host}/retrying/partly:v2") == FOUR.digest
    assert site.report("retrying", "latest.json")["totals"]["copied"] == 5
