"""Whole runs with a hostile source: no secret is told, and nothing wrong arrives."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from airflow_imagesync.domain.manifest import OCI_INDEX, OCI_MANIFEST
from devtools import images
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.faults import answer, cut_answer, redirect
from tests.support.front import Exchange, Front
from tests.support.world import World

SIGNATURE = "X-Amz-Signature=s1gnature&X-Amz-Credential=AKIAEXAMPLE"
PAIR = base64.b64encode(b"mover:hunter22").decode()
DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
IMAGE: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in (None, "urllib3", "requests", "airflow_imagesync"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def tells_no_secret(text: str) -> bool:
    return not any(secret in text for secret in ("hunter22", "s1gnature", "AKIAEXAMPLE", PAIR, PASSWORD))


def test_a_run_logs_no_secret(world: World, token_server: TokenServer, log: pytest.LogCaptureFixture) -> None:
    world.push(images.index(), "v1")
    # The source wants a token and keeps its blobs elsewhere, at signed addresses, the first of which breaks off.
    challenge = f'Bearer realm="{token_server.realm}",service="{token_server.service}"'
    wants = answer(401, {"WWW-Authenticate": challenge})
    world.source.on(None, "", wants, when=lambda one: "Authorization" not in one.headers)
    with Front(world.source.upstream) as kept:
        kept.on("GET", "", cut_answer(100), times=1)
        kept.on("GET", "", answer(403, body=f"<Error><Message>{SIGNATURE}</Message></Error>".encode()), times=1)

        def signed(exchange: Exchange) -> None:
            exchange.reply(307, [("Location", f"{kept.url}{exchange.request.target}?{SIGNATURE}")])

        world.source.on("GET", "/blobs/", signed)
        world.logins["source"] = {"username": USER, "password": PASSWORD}
        report = world.run(world.rule("v1"))
    assert report.totals["copied"] == 1, report.images[0].error
    assert len(kept.requests) > 2
    assert "starting new http connection" in log.text.lower()
    assert tells_no_secret(log.text)
    tokens = {one.headers["Authorization"] for one in world.source.requests if "Authorization" in one.headers}
    assert tokens
    assert not any(token.partition(" ")[2] in log.text for token in tokens)


def test_a_run_that_fails_tells_no_secret(world: World, log: pytest.LogCaptureFixture) -> None:
    world.push(images.image(), "v1")
    for name, front in (("source", world.source), ("destination", world.destination)):
        challenge = answer(401, {"WWW-Authenticate": "Basic"})
        front.on(None, "", challenge, when=lambda one: "Authorization" not in one.headers)
        world.logins[name] = {"username": "mover", "password": "hunter22"}
    with Front() as storage:
        storage.on("GET", "", answer(403, body=f'{{"message": "{storage.url}/b?{SIGNATURE} expired"}}'.encode()))
        world.source.on("GET", "/blobs/", redirect(f"{storage.url}/b?{SIGNATURE}"))
        report = world.run(world.rule("v1"))
    assert report.totals["failed"] == 1
    assert "redirected there" in str(report.images[0].error)
    assert tells_no_secret(log.text)
    assert tells_no_secret(json.dumps([one.dump() for one in report.images]))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**IMAGE, "layers": [{**CONFIG, "digest": "sha256:../../../other/blobs/x"}]}, "is not a digest"),
        ({**IMAGE, "config": {**CONFIG, "digest": "sha256:" + "a" * 62 + "/."}}, "is not a digest"),
        ({**INDEX, "manifests": [{**CONFIG, "mediaType": OCI_MANIFEST, "digest": "v1/../x"}]}, "is not a digest"),
        ({**IMAGE, "manifests": []}, "an index and an image at once"),
        ({**IMAGE, "mediaType": OCI_INDEX, "manifests": []}, "an index and an image at once"),
        ({**INDEX, "manifests": [{**CONFIG, "mediaType": OCI_MANIFEST}] * 1001}, "at most 1000"),
        ({**IMAGE, "mediaType": {"a": []}}, "not text"),
        ({**IMAGE, "schemaVersion": 1}, "schema 1"),
        ([], "is not a JSON object"),
    ],
)
def test_a_hostile_manifest_fails_its_image_and_leaves_nothing(world: World, document: Any, words: str) -> None:
    good = world.push(images.image(), "v1", name="good")
    world.push(images.image(), "v1")
    body = json.dumps(document).encode()
    world.source.on("HEAD", "/app/manifests/", answer(200, {"Docker-Content-Digest": images.Blob(body).digest}))
    world.source.on("GET", "/app/manifests/", answer(200, body=body))
    report = world.run(world.rule("v1"), world.rule("v1", name="good", index=1))
    assert [one.state.value for one in report.images] == ["failed", "copied"]
    assert words in str(report.images[0].error)
    assert not report.images[0].temporary
    assert report.images[1].digest == good.digest
    assert not [one for one in world.destination.requests if "/app/" in one.path and one.method not in ("GET", "HEAD")]
    assert not [one for one in (*world.source.requests, *world.destination.requests) if ".." in one.target]
