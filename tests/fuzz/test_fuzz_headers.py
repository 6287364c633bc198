from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st
from requests.utils import parse_header_links

from airflow_imagesync.errors import ImageSyncError, ProtocolError, RegistryError
from airflow_imagesync.registry import quota
from airflow_imagesync.registry.answers import error_of, retry_after, storage_error
from airflow_imagesync.registry.challenge import parse_challenges
from airflow_imagesync.registry.download import _CONTENT_RANGE
from airflow_imagesync.registry.origin import (
    at_registry,
    realm_may_see_credentials,
    realm_problem,
    redact,
    redirect_problem,
    resolve,
    same_origin,
    upload_problem,
)
from tests.fuzz.strategies import fuzz, header, json_bodies, objects, response, texts, values

CHALLENGES = header(
    *("Bearer ", "Basic ", "Negotiate ", "NTLM TlRM==", "realm=", "service=", "scope=", "error=", '"', "\\", ",", "="),
    *(" ", "\t", "https://auth.example.com/token", "repository:a/b:pull,push", "\\\\", '\\"', '""', "a=b"),
)


@fuzz(200)
@given(st.lists(CHALLENGES, max_size=4))
def test_any_challenge_is_read_or_passed_over(headers: list[str]) -> None:
    for one in parse_challenges(headers):
        assert one.scheme == one.scheme.lower()
        assert re.fullmatch(r"[!-~]+", one.scheme)
        assert all(name == name.lower() for name in one.parameters)


token = st.text("ABCabcxyz-09", min_size=1, max_size=8).filter(lambda text: text[0].isalpha())
quotable = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)


@fuzz(100)
@given(st.lists(st.tuples(token, st.dictionaries(token.map(str.lower), quotable, min_size=1, max_size=4)), max_size=3))
def test_challenges_are_read_as_they_are_written(wanted: list[tuple[str, dict[str, str]]]) -> None:
    def written(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={written(value)}" for name, value in pairs.items())
        for scheme, pairs in wanted
    )
    assert [(one.scheme, one.parameters) for one in parse_challenges([text])] == [
        (scheme.lower(), pairs) for scheme, pairs in wanted
    ]


@fuzz(400)
@given(header(*"0123456789", "Wed, 21 Oct 2026 07:28:00 GMT", " GMT", "-1", "1e9", "+9999", "\u00b2", "9" * 400))
@example("0 0 0 0 0")
@example("Mon, 01 Jan 99999 00:00:00 GMT")
def test_any_retry_after_is_a_wait_or_none(value: str) -> None:
    found = retry_after({"Retry-After": value})
    assert found is None or found >= 0


@fuzz(200)
@given(header("bytes ", "0-", "9/", "*", "9" * 5000, "-", "/", "bytes */10"))
@example("bytes 0-" + "9" * 5000 + "/*")
def test_any_content_range_is_read_or_passed_over(value: str) -> None:
    found = _CONTENT_RANGE.fullmatch(value)
    if found is not None:
        assert all(int(one) >= 0 for one in found.groups() if one != "*")


@fuzz(200)
@given(header("100", ";", "w=", "21600", "-1", "0", ",", " ", "9" * 5000, "w=0", "NaN"))
def test_any_quota_is_read_or_passed_over(value: str) -> None:
    quota.Quota("registry.example.com").read({"ratelimit-limit": value, "ratelimit-remaining": value})


ADDRESSES = header(
    *(
        "http://",
        "https://",
        "HTTPS://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "?",
        "#",
        "[",
        "]",
        "%",
        ";",
        "\t",
        " ",
        "..",
        "\x1b",
    ),
    *("registry.example.com", "evil.example", "127.0.0.1", "169.254.169.254", "2852039166", "[::1]", "localhost"),
    *(":443", ":0", ":99999", "v2/a/tags/list", "n=1000", "sig=s3cr3t", "user:s3cr3t"),
)
REGISTRY = "https://registry.example.com"


@fuzz(400)
@given(ADDRESSES, st.sampled_from([REGISTRY, "http://registry.example.com:5000", "http://127.0.0.1:5000"]))
@example("http://evil.example\\@registry.example.com/", REGISTRY)
@example("ht\ttps://evil.example/", REGISTRY)
@example("https:///evil.example", REGISTRY)
def test_any_address_means_the_same_to_every_parser_or_is_a_protocol_error(address: str, registry: str) -> None:
    base = f"{registry}/v2/a/tags/list"
    try:
        target = resolve(base, address)
    except ProtocolError as error:
        assert "s3cr3t" not in str(error)
        return
    assert redact(target).isprintable()
    assert "?" not in redact(target)
    assert resolve(base, target) == target
    for problem in (redirect_problem, realm_problem, upload_problem):
        assert isinstance(problem(registry, target), str | None)
    realm_may_see_credentials(registry, target, ())
    try:
        there = urllib3.util.parse_url(target)
    except urllib3.exceptions.LocationParseError:
        return  # nothing is sent anywhere
    here = urllib3.util.parse_url(registry)
    same = (there.scheme, there.host, there.port or {"http": 80, "https": 443}.get(there.scheme or "")) == (
        (here.scheme, here.host, here.port or {"http": 80, "https": 443}.get(here.scheme or ""))
    )
    assert same_origin(registry, target) == same
    found = at_registry(registry, target)
    if found is not None:
        assert urllib3.util.parse_url(found).host == here.host
        assert same_origin(found, registry)


error_documents = objects(
    {
        "errors": st.lists(
            objects(
                {"code": texts("DENIED", "UNKNOWN", "\x1b[31m"), "message": texts("no", "s3cr3t"), "detail": values}
            )
        ),
        "message": texts("no", "?sig=s3cr3t"),
        "details": texts("no"),
        "error": texts("invalid_grant"),
        "error_description": texts("expired"),
    }
)


@fuzz(120)
@given(
    status=st.integers(100, 599),
    body=json_bodies(error_documents),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["Retry-After", "Content-Encoding", "Content-Type", "WWW-Authenticate", "Location"]),
            header("60", "gzip", "text/html"),
        ),
        max_size=3,
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
    logged_in=st.booleans(),
)
def test_any_error_answer_is_one_of_our_errors(
    status: int, body: bytes, headers: list[tuple[str, str]], method: str, logged_in: bool
) -> None:
    sent = {"Authorization": "Bearer s3cr3t-token"}
    quoted = body + b" s3cr3t-token"
    url = f"{REGISTRY}/v2/a/b?sig=s3cr3t"
    for make in (
        lambda answer: error_of(answer, method, url, logged_in=logged_in),
        lambda answer: storage_error(answer, method, url, "registry.example.com"),
    ):
        error = make(response(status, headers, quoted, method=method, url=url, sent=sent))
        assert isinstance(error, RegistryError)
        assert str(error).isprintable()
        assert len(str(error)) < 1500
        assert "s3cr3t-token" not in str(error)
        assert "sig=s3cr3t" not in str(error)
        assert error.status == status


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["a", "a=", 'a="', '"', "\\", "Bearer ", ",", "a ", "=", "\t", "a==  ", "a/", 'x y="', "<", "; "]
)
def test_a_long_header_costs_no_time(unit: str) -> None:
    text = unit * (65_000 // len(unit))
    parse_challenges([text, f"Bearer {text}", f'Bearer realm="{text}', f"{text}!"] * 4)
    retry_after({"Retry-After": text})
    _CONTENT_RANGE.fullmatch(text)
    quota.Quota().read({"ratelimit-remaining": text})
    parse_header_links(text)
    body = text.encode()
    error_of(response(400, body=body), "GET", REGISTRY, logged_in=True)
    with_quotes: Any = response(400, body=b'{"errors": [{"code": "' + text.replace('"', "").encode() + b'"}]}')
    error_of(with_quotes, "GET", REGISTRY, logged_in=True)
    with contextlib.suppress(ImageSyncError):
        resolve(REGISTRY, text)
