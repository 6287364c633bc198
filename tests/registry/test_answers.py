from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from airflow_imagesync.errors import (
    Denied,
    NotFound,
    ProtocolError,
    RateLimited,
    RegistryError,
    Unauthorized,
)
from airflow_imagesync.registry.answers import error_of, is_web_page, may_be_immutable, retry_after, storage_error
from airflow_imagesync.registry.transport import Transport
from tests.support.faults import answer
from tests.support.front import Front


@pytest.fixture
def front(scripted: Front) -> Front:
    return scripted


def errors(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"errors": entries}).encode()


def error(front: Front, status: int, body: bytes = b"", method: str = "GET", **options: Any) -> RegistryError:
    headers = options.pop("headers", None)
    front.on(method, "/", answer(status, headers, body))
    url = f"{front.url}/v2/a/b?secret=1"
    response = Transport().send(method, url, {})
    return error_of(response, method, url, logged_in=options.pop("logged_in", False))


@pytest.mark.parametrize(
    ("status", "code", "kind", "temporary"),
    [
        (400, "MANIFEST_INVALID", RegistryError, False),
        (400, "UNKNOWN", RegistryError, True),
        (400, "BLOB_UPLOAD_INVALID", RegistryError, True),
        (400, "TOOMANYREQUESTS", RateLimited, True),
        (400, "ThrottlingException", RateLimited, True),
        (401, "UNAUTHORIZED", Unauthorized, False),
        (403, "DENIED", Denied, False),
        (404, "NAME_UNKNOWN", NotFound, False),
        (404, "UNKNOWN", NotFound, False),
        (404, "BLOB_UPLOAD_UNKNOWN", RegistryError, True),
        (405, "UNSUPPORTED", RegistryError, False),
        (408, None, RegistryError, True),
        (412, "PRECONDITION", RegistryError, False),
        (413, None, RegistryError, False),
        (415, "MANIFEST_INVALID", RegistryError, False),
        (429, None, RateLimited, True),
        (503, "ThrottlingException", RateLimited, True),
        (507, None, RegistryError, False),
        (200, None, ProtocolError, False),
        (499, None, RegistryError, True),
        (500, "UNKNOWN", RegistryError, True),
        (501, None, RegistryError, False),
        (502, None, RegistryError, True),
        (503, "UNAVAILABLE", RegistryError, True),
        (503, "TOOMANYREQUESTS", RateLimited, True),
        (504, None, RegistryError, True),
        (505, None, RegistryError, False),
        (522, None, RegistryError, True),
        (307, None, ProtocolError, False),
    ],
)
def test_a_status_has_its_kind_of_error(
    front: Front, status: int, code: str | None, kind: type[RegistryError], temporary: bool
) -> None:
    found = error(front, status, errors({"code": code, "message": "words"}) if code else b"")
    assert type(found) is kind
    assert found.temporary is temporary
    assert found.status == status
    assert found.codes == ((code,) if code else ())


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (errors({"code": "DENIED", "message": "no pushing"}), "answered 400 DENIED: no pushing"),
        (
            errors({"code": "A", "message": "one"}, {"code": "B", "message": "two", "detail": "sha256:12"}),
            "answered 400 A B: one, two, sha256:12",
        ),
        (errors({"code": "A", "message": "one", "detail": {"x": 1}}), "answered 400 A: one"),
        (errors({"code": "A", "detail": {"description": "two"}}), "answered 400 A: two"),
        (errors({"code": "A", "detail": {"description": 7}}), "answered 400 A"),
        (errors(), 'answered 400: {"errors": []}'),
        (b'{"__type": "com.amazonaws.ecr#NoImage", "message": "none"}', "answered 400 NoImage: none"),
        (b'{"__type": "NoImage"}', "answered 400 NoImage"),
        (b'{"__type": 7}', 'answered 400: {"__type": 7}'),
        (b'{"details": "incorrect username or password"}', "answered 400: incorrect username or password"),
        (b'{"error": "invalid_grant", "error_description": "expired"}', "answered 400: expired"),
        (b"Your authorization token has expired.", "answered 400: Your authorization token has expired."),
        (b"<html><h1>Bad Gateway</h1></html>", "answered 400: a web page"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            "answered 400: AccessDenied: Request has expired",
        ),
        (b"", "answered 400"),
        (b"\x00\x1b[31mred\r\nline", "answered 400: [31mred line"),
        (b"[" * 50_000, "answered 400: [[["),
        (b'"text"', 'answered 400: "text"'),
        (b"x" * 5000, "x" * 300 + "..."),
        (b'{"errors": [{"code": 7, "message": null}, "no object"]}', "answered 400 7"),
        (
            errors({"code": "A", "message": "see https://s3.example/b?X-Amz-Signature=s3cr3t&x=1 for more"}),
            "see https://s3.example/b for more",
        ),
        (errors({"code": "A", "message": "GET /v2/x?_state=s3cr3t failed"}), "GET /v2/x failed"),
    ],
)
def test_the_registry_is_quoted_in_one_safe_line(front: Front, body: bytes, shown: str) -> None:
    message = str(error(front, 400, body))
    assert shown in message
    assert message.startswith(f"GET {front.url}/v2/a/b answered 400")
    assert "s3cr3t" not in message
    assert "secret" not in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("status", "method", "logged_in", "advice"),
    [
        (401, "GET", True, "check the username and password, and that they may use this repository"),
        (401, "GET", False, "it needs a login, or does not exist: check the credentials and the name"),
        (403, "GET", True, "check that this login may read the repository"),
        (403, "PUT", True, "check that this login may push to the repository"),
        (403, "POST", False, "check that somebody without a login may push to the repository"),
        (404, "GET", True, "check the name"),
        (404, "POST", True, "check that the repository exists there"),
        (413, "PUT", True, "check the size limits of the registry and of a proxy before it"),
        (429, "GET", True, "too many requests, try later"),
        (503, "GET", True, "the registry has a fault of its own"),
    ],
)
def test_the_message_says_what_to_check(front: Front, status: int, method: str, logged_in: bool, advice: str) -> None:
    assert f"; {advice}" in str(error(front, status, method=method, logged_in=logged_in))


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
    ],
    ids=["go", "nginx"],
)
def test_plain_http_to_an_https_port_is_told(front: Front, body: bytes) -> None:
    found = error(front, 400, body)
    assert isinstance(found, ProtocolError)
    assert "take out insecure: true" in str(found)
    assert "tls_verify: false" in str(found)


def test_a_demand_for_a_client_certificate_in_words_is_recognised(front: Front) -> None:
    found = error(front, 400, b"<html><head><title>400 No required SSL certificate was sent</title></head></html>")
    assert "demands a client certificate that it trusts: set client_cert and client_key" in str(found)


def test_an_error_whose_body_never_comes_keeps_its_status(front: Front) -> None:
    # distribution 2.8 announces the blob's size with a 416 and sends nothing
    front.on("GET", "/", lambda exchange: exchange.reply(416, length=1_000_000) or exchange.hang_up())
    url = f"{front.url}/v2/"
    assert error_of(Transport().send("GET", url, {}), "GET", url, logged_in=False).status == 416


def test_an_error_with_an_endless_body_keeps_its_status(front: Front) -> None:
    assert error(front, 400, bytes(1_000_000)).status == 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999999999", 999999999.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("\u00b2", None),
        ("1.5", None),
    ],
)
def test_retry_after_in_seconds(value: str, expected: float | None) -> None:
    assert retry_after({"Retry-After": value}) == expected


def test_retry_after_as_a_date() -> None:
    wait = retry_after({"Retry-After": formatdate(time.time() + 30, usegmt=True)})
    assert wait is not None
    assert 28 < wait <= 30


def test_retry_after_with_a_date_that_is_past_is_no_wait() -> None:
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_the_wait_that_is_asked_for_is_told(front: Front) -> None:
    found = error(front, 429, headers={"Retry-After": "3600"})
    assert found.retry_after == 3600
    assert "it asks to wait 3600 s" in str(found)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, errors({"code": "DENIED", "message": "You have exceeded a secondary rate limit."})),
        (400, errors({"code": "TOOMANYREQUESTS", "message": "Rate exceeded"})),
        (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'),
        (503, b'{"__type": "com.amazon.coral.availability#ThrottlingException"}'),
        (503, b"Too Many Requests"),
    ],
    ids=["github", "ecr", "aws", "aws-2", "proxy"],
)
def test_too_many_requests_are_known_without_a_429(front: Front, status: int, body: bytes) -> None:
    found = error(front, status, body)
    assert isinstance(found, RateLimited)
    assert found.temporary


def test_a_repository_that_is_named_like_a_limit_is_none(front: Front) -> None:
    body = errors({"code": "DENIED", "message": "no access to corporate limits in rate-limiter/too-many-requests"})
    assert type(error(front, 403, body)) is Denied


@pytest.mark.parametrize(
    "body",
    [
        errors({"code": "UNKNOWN", "message": "unknown error", "detail": "write /data: no space left on device"}),
        # distribution 2.8 at the start of an upload
        errors({"code": "UNKNOWN", "detail": {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}}}),
        errors({"code": "UNKNOWN", "message": "write /data: disk quota exceeded"}),
    ],
)
def test_storage_that_is_full_is_told(front: Front, body: bytes) -> None:
    found = error(front, 500, body, method="POST")
    assert "; the registry's storage is full" in str(found)
    assert found.temporary


@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (412, RegistryError)])
def test_a_quota_that_is_used_up_is_told(front: Front, status: int, kind: type[RegistryError]) -> None:
    message = "adding 1.2 MiB of storage resource, which when updated will exceed the configured upper limit of 10 MiB."
    found = error(front, status, errors({"code": "DENIED", "message": message}), method="PUT")
    assert type(found) is kind
    assert str(found).endswith("; a quota there is used up: raise it, or make room")
    assert not found.temporary
    assert not may_be_immutable(found)


def test_a_manifest_that_is_too_large_is_told_to_be(front: Front) -> None:
    body = errors({"code": "MANIFEST_INVALID", "message": "manifest invalid", "detail": "http: request body too large"})
    assert "; check the size limits of the registry" in str(error(front, 400, body, method="PUT"))


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"Content-Type": "text/html; charset=utf-8"}, True),
        (200, {"Content-Type": "application/json"}, False),
        (200, {"Content-Type": "text/html", "Docker-Content-Digest": "sha256:00"}, False),
        (200, {"Content-Type": "text/html", "Location": "/v2/"}, False),
        (201, {"Content-Type": "text/html"}, False),
        (200, {}, False),
    ],
)
def test_a_success_that_is_a_web_page_is_none(
    front: Front, status: int, headers: dict[str, str], expected: bool
) -> None:
    front.on("PUT", "/", answer(status, headers))
    assert is_web_page(Transport().send("PUT", f"{front.url}/v2/", {})) is expected


@pytest.mark.parametrize(
    ("status", "temporary"), [(403, True), (400, True), (401, True), (404, False), (410, False), (503, True)]
)
def test_a_refusal_of_the_storage_behind_a_registry_may_pass(front: Front, status: int, temporary: bool) -> None:
    front.on("GET", "/", answer(status, body=b"<Error><Code>AccessDenied</Code></Error>"))
    url = f"{front.url}/bucket/b?sig=secret"
    found = storage_error(Transport().send("GET", url, {}), "GET", url, "quay.io")
    assert found.temporary is temporary
    assert str(found) == (
        f"GET {front.url}/bucket/b answered {status}: AccessDenied; quay.io redirected there: check its storage"
    )


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (400, "TAG_INVALID", "The image tag 'v1' already exists in the 'r' repository and cannot be overwritten", True),
        (
            400,
            "ImageTagAlreadyExistsException",
            "tag invalid: already exists, because the repository is immutable",
            True,
        ),
        (412, "PRECONDITION", "Failed to process request due to 'a:v1' configured as immutable.", True),
        (403, "DENIED", "requested access to the resource is denied: tag is immutable", True),
        (405, None, "", True),
        (409, "CONFLICT", "", True),
        (400, "FAILED_PRECONDITION", "failed_precondition", True),
        (400, "BLOB_UPLOAD_INVALID", "cannot be updated", True),
        (403, "DENIED", "Not enough permissions to overwrite artifact 'v1/manifest.json'", True),
        (400, "MANIFEST_INVALID", "manifest invalid, Failed with: HTTP 403 Forbidden", True),
        (403, "DENIED", "requested access to the resource is denied", False),
        (400, "MANIFEST_INVALID", "manifest invalid", False),
        (500, "UNKNOWN", "already exists", False),
    ],
    ids=[
        *("ecr", "ecr-2", "harbor", "docker-hub", "zot", "google", "google-400", "nexus", "artifactory"),
        *("artifactory-400", "denied", "invalid", "500"),
    ],
)
def test_answers_that_an_immutable_tag_gets_are_known(
    front: Front, status: int, code: str | None, message: str, expected: bool
) -> None:
    body = errors({"code": code, "message": message}) if code else b""
    assert may_be_immutable(error(front, status, body, method="PUT")) is expected
