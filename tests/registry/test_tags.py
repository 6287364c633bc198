from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_imagesync.errors import NotFound, ProtocolError, RegistryError
from airflow_imagesync.registry import tags as tags_module
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.clients import client_for
from tests.support.faults import answer, redirect
from tests.support.front import Action, Exchange, Front


@pytest.fixture
def front(scripted: Front) -> Front:
    return scripted


def page(tags: Any, *links: str) -> Action:
    def act(exchange: Exchange) -> None:
        exchange.reply(200, [("Link", link) for link in links], json.dumps({"name": "a", "tags": tags}).encode())

    return act


def test_all_tags_of_a_real_registry_are_listed(source_registry: DistributionRegistry, repository_prefix: str) -> None:
    names = images.push_many_tags(source_registry.url, repository_prefix, images.image(), 120)
    assert sorted(client_for(source_registry).list_tags(repository_prefix)) == names


def test_a_repository_that_is_not_there_is_told(source_registry: DistributionRegistry) -> None:
    with pytest.raises(NotFound, match="404 NAME_UNKNOWN: repository name not known to registry"):
        client_for(source_registry).list_tags("not/there")


@pytest.mark.parametrize(
    "link",
    [
        '<{root}/v2/a/tags/list?n=1000&last=v1>; rel="next"',
        '</v2/a/tags/list?n=1000&last=v1>; rel="next"',
        '</v2/a/tags/list?next_page=gAAAA%3D%3D&n=50>; rel="next"',
        "<list?last=v1>; rel=next",
        '</v2/a/tags/list?last=v1>; rel="NEXT"; title="x"',
        '</v2/a/tags/list?last=v1>; rel="last next"',
    ],
    ids=["absolute", "relative", "opaque", "bare", "upper-case", "several-relations"],
)
def test_the_link_to_the_next_page_is_followed_as_it_is(front: Front, link: str) -> None:
    front.on("GET", "n=1000$", page(["v1"], link.replace("{root}", front.url)))
    front.on("GET", "/tags/list", page(["v2"]))
    assert client_for(front).list_tags("a") == ["v1", "v2"]
    query = link.partition("?")[2].partition(">")[0]
    assert front.requests[1].target == f"/v2/a/tags/list?{query}"


def test_the_next_page_is_found_among_several_links(front: Front) -> None:
    first = page(["v1"], '</v2/a/tags/list?first>; rel="first", </v2/a/tags/list?two>; rel="next"', '<x>; rel="help"')
    front.on("GET", "n=1000$", first)
    front.on("GET", r"\?two$", page(["v2"]))
    assert client_for(front).list_tags("a") == ["v1", "v2"]


def test_a_link_that_lost_its_port_behind_a_proxy_stays_at_the_registry(front: Front) -> None:
    front.on("GET", "n=1000$", page(["v1"], '<http://127.0.0.1/v2/a/tags/list?last=v1>; rel="next"'))
    front.on("GET", "last=v1$", page(["v2"]))
    assert client_for(front).list_tags("a") == ["v1", "v2"]


@pytest.mark.parametrize("link", ["http://127.0.0.2:1/x", "//evil.example/x", "https://127.0.0.1/x"])
def test_a_link_to_another_origin_is_not_followed(front: Front, link: str) -> None:
    front.on("GET", "/", page(["v1"], f'<{link}>; rel="next"'))
    with pytest.raises(ProtocolError, match="the next page is said to be on another host"):
        client_for(front, username="u", password="p").list_tags("a")


def test_a_link_that_is_no_address_is_an_error(front: Front) -> None:
    front.on("GET", "/", page(["v1"], '<http://[::1>; rel="next"'))
    with pytest.raises(ProtocolError, match="no HTTP address"):
        client_for(front).list_tags("a")


@pytest.mark.parametrize("target", ["/v2/a/tags/list?n=1000", "/v2/a/tags/list?x"], ids=["to-itself", "in-a-circle"])
def test_links_that_go_round_end(front: Front, target: str) -> None:
    front.on("GET", "/", page(["v1"], f'<{target}>; rel="next"'))
    assert client_for(front).list_tags("a") == ["v1"]
    assert len(front.requests) <= 2


def test_a_short_page_without_a_link_is_the_last(front: Front) -> None:
    front.on("GET", "/", page(["v1"]))
    assert client_for(front).list_tags("a") == ["v1"]
    assert len(front.requests) == 1


def test_more_pages_than_any_repository_has_is_an_error_and_no_short_list(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(10_000))

    def endless(exchange: Exchange) -> None:
        number = next(numbers)
        page([f"v{number}"], f'</v2/a/tags/list?last={number}>; rel="next"')(exchange)

    monkeypatch.setattr(tags_module, "MAX_PAGES", 5)
    front.on("GET", "/", endless)
    with pytest.raises(ProtocolError, match="lists more than 100000 tags or 5 pages"):
        client_for(front).list_tags("a")


def test_more_tags_than_any_repository_has_is_an_error(front: Front) -> None:
    front.on("GET", "/", page([f"v{number}" for number in range(100_001)]))
    with pytest.raises(ProtocolError, match="lists more than 100000 tags"):
        client_for(front).list_tags("a")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (None, []),
        ([], []),
        (["v2", None, "v1"], ["v2", "v1"]),
        (["v1", "sha256:" + "a" * 64], ["v1"]),
        (["v1", "../../etc", "a/b", "", "-x", 7, {"x": 1}, "a?b=c", "x" * 129], ["v1"]),
        (["v1", "v1"], ["v1"]),
    ],
    ids=["null", "empty", "nexus", "artifactory", "no-tags", "twice"],
)
def test_odd_lists_are_read(front: Front, tags: Any, expected: list[str]) -> None:
    front.on("GET", "/", page(tags))
    assert client_for(front).list_tags("a") == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Sign in</html>", "is not JSON.*; check that this is a registry"),
        (b'["v1"]', "is not a JSON object"),
        (b'{"tags": {"v1": 1}}', "its tags are not a list"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * (8 * 1024 * 1024 + 1), "sent more than 8388608 bytes"),
    ],
    ids=["web-page", "list", "object", "deep", "too-large"],
)
def test_what_is_no_list_is_an_error_that_says_so(front: Front, body: bytes, words: str) -> None:
    front.on("GET", "/", answer(200, body=body))
    with pytest.raises(ProtocolError, match=words):
        client_for(front).list_tags("a")


def test_a_page_size_that_is_refused_is_left_out(front: Front) -> None:
    front.on("GET", "n=1000", answer(400, body=b'{"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}'))
    front.on("GET", "/tags/list$", page(["v1"]))
    assert client_for(front).list_tags("a") == ["v1"]


def test_a_name_that_is_refused_is_an_error(front: Front) -> None:
    front.on("GET", "/", answer(400, body=b'{"errors": [{"code": "NAME_INVALID", "message": "invalid name"}]}'))
    with pytest.raises(RegistryError, match="400 NAME_INVALID: invalid name"):
        client_for(front).list_tags("a")


def test_no_manifest_type_is_asked_for(front: Front) -> None:
    front.on("GET", "/", page(["v1"]))
    client_for(front).list_tags("a")
    assert front.requests[0].headers["Accept"] == "application/json"


def test_a_page_that_fails_for_a_while_is_asked_for_again(front: Front) -> None:
    front.on("GET", "/", answer(502), times=2)
    front.on("GET", "/", page(["v1"]))
    assert client_for(front).list_tags("a") == ["v1"]


def test_a_list_that_the_registry_has_elsewhere_is_fetched_there(front: Front) -> None:
    front.on("GET", "/v2/a/", redirect("/v2/b/tags/list?n=1000"))
    front.on("GET", "/v2/b/", page(["v1"]))
    assert client_for(front).list_tags("a") == ["v1"]


def telling(tags: Any, manifests: Any) -> Action:
    return answer(200, body=json.dumps({"name": "a", "tags": tags, "manifest": manifests}).encode())


A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
TYPE = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("manifests", "expected"),
    [
        pytest.param({A: {"tag": ["v1"], "mediaType": TYPE}}, {"v1": (A, TYPE)}, id="one"),
        pytest.param({A: {"tag": ["v1", "v2"]}, B: {"tag": []}}, {"v1": (A, ""), "v2": (A, "")}, id="without-type"),
        pytest.param({A: {"tag": ["v1"]}, B: {"tag": ["v1", "v2"]}}, {"v2": (B, "")}, id="two-digests"),
        pytest.param({A: {"tag": ["v1"], "mediaType": 7}}, {"v1": (A, "")}, id="type-of-another-type"),
        pytest.param({A: {"tag": ["v3"]}}, {}, id="tag-that-is-not-in-the-list"),
        pytest.param({"sha256:a": {"tag": ["v1"]}, "../x": {"tag": ["v1"]}}, {}, id="no-digest"),
        pytest.param({A: {"tag": ["v1", None, 7, "../x"]}}, {"v1": (A, "")}, id="no-tag"),
        pytest.param({A: {"tag": "v1"}, B: {}}, {}, id="tags-are-no-list"),
        pytest.param({A: ["v1"], B: None}, {}, id="no-objects"),
        pytest.param([A], {}, id="list"),
        pytest.param(None, {}, id="null"),
    ],
)
def test_what_googles_lists_tell_of_manifests_is_taken_where_it_makes_sense(
    front: Front, manifests: Any, expected: dict[str, tuple[str, str]]
) -> None:
    front.on("GET", "/", telling(["v1", "v2"], manifests))
    client = client_for(front)
    client.registry = "europe-docker.pkg.dev"
    listed = client.tag_list("a")
    assert (listed.tags, listed.complete) == (["v1", "v2"], True)
    assert {tag: (head.digest, head.media_type) for tag, head in listed.heads.items()} == expected


def test_pages_are_put_together_and_a_tag_with_two_digests_is_found_across_them(front: Front) -> None:
    first = {"tags": ["v1", "v2"], "manifest": {A: {"tag": ["v1", "v2"]}}}
    link = ("Link", '</v2/a/tags/list?last=v2>; rel="next"')
    front.on("GET", "n=1000$", lambda exchange: exchange.reply(200, [link], json.dumps(first).encode()))
    front.on("GET", "last=v2$", telling(["v3"], {B: {"tag": ["v2", "v3"]}}))
    client = client_for(front)
    client.registry = "gcr.io"
    listed = client.tag_list("a")
    assert listed.tags == ["v1", "v2", "v3"]
    assert {tag: head.digest for tag, head in listed.heads.items()} == {"v1": A, "v3": B}


def test_other_registries_are_not_believed_about_digests(front: Front) -> None:
    front.on("GET", "/", telling(["v1"], {A: {"tag": ["v1"]}}))
    client = client_for(front)
    assert not client.lists_digests
    assert client.tag_list("a").heads == {}


@pytest.mark.parametrize(
    ("registry", "count", "told"),
    [
        ("gcr.io", 10_000, True),
        ("eu.gcr.io", 12_000, True),
        ("europe-docker.pkg.dev", 10_000, True),
        ("gcr.io", 9_999, False),
        ("notgcr.io", 10_000, False),
        ("gcr.io.example.com", 10_000, False),
        ("quay.io", 50_000, False),
    ],
)
def test_a_list_that_google_cuts_off_is_told(
    front: Front, registry: str, count: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    front.on("GET", "/", page([f"v{number}" for number in range(count)]))
    client = client_for(front)
    client.registry = registry
    with caplog.at_level(logging.WARNING):
        listed = client.tag_list("a")
    assert (len(listed.tags), listed.complete) == (count, not told)
    words = "the list of tags may lack some, because Google's registries list at most 10000; name the tags wanted"
    assert [one.getMessage() for one in caplog.records] == [f"{registry}/a: {words}"] * told
