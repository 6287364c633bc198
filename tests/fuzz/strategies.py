"""What the fuzz tests share: their settings, texts from the parts of a grammar, JSON, and answers without a network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import requests
import urllib3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3._collections import HTTPHeaderDict

T = TypeVar("T")

DIGEST = "sha256:" + "a" * 64


def fuzz(examples: int = 150) -> Callable[[T], T]:
    """Return the settings of a test: the same examples each time, and no more than a few seconds of them."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # type: ignore[return-value]


def texts(*parts: str, longest: int = 12) -> st.SearchStrategy[str]:
    """Texts made of the parts of a grammar, with anything else in between."""
    part = st.one_of(st.sampled_from(parts), st.sampled_from(parts), st.text(max_size=4))
    return st.lists(part, max_size=longest).map("".join)


#: What comes in a header: bytes read as latin-1, without line ends.
header_text = st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40)


def header(*parts: str, longest: int = 14) -> st.SearchStrategy[str]:
    """Header values made of the parts of a grammar, with anything that a header may hold in between."""
    part = st.one_of(st.sampled_from(parts), st.sampled_from(parts), header_text)
    return st.lists(part, max_size=longest).map("".join)


numbers = st.one_of(st.integers(), st.just(10**400), st.just(2**63), st.floats(), st.booleans())
scalars = st.one_of(st.none(), numbers, st.text(max_size=20), st.sampled_from([DIGEST, "../..", "\ud800", "a" * 5000]))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def objects(known: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some known keys, each with what it should hold or with anything, and some unknown ones."""
    fields = {key: st.one_of(value, value, values) for key, value in known.items()}
    more = st.dictionaries(st.text(max_size=6), values, max_size=2)
    return st.builds(lambda ours, theirs: {**theirs, **ours}, st.fixed_dictionaries({}, optional=fields), more)


def json_bodies(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Documents as bytes; sometimes cut off, sometimes no JSON at all."""
    whole = documents.map(lambda one: json.dumps(one).encode())
    return st.one_of(
        whole,
        whole,
        st.builds(lambda body, end: body[:end], whole, st.integers(0, 200)),
        st.binary(max_size=60),
        st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"<html></html>", b"\xff\xfe{}", b""]),
    )


def response(
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    method: str = "GET",
    url: str = "https://registry.example.com/v2/",
    sent: Mapping[str, str] | None = None,
    sent_body: Any = None,
) -> requests.Response:
    """Return an answer as requests' adapter gives it, to a request with these headers."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, sent_body
    request.headers = requests.structures.CaseInsensitiveDict(sent or {})
    raw = urllib3.HTTPResponse(
        io.BytesIO(body if method != "HEAD" else b""),
        headers=HTTPHeaderDict(list(headers)),
        status=status,
        preload_content=False,
    )
    return HTTPAdapter().build_response(request, raw)  # type: ignore[no-untyped-call]
