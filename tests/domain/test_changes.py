from __future__ import annotations

import json
from typing import Any

from airflow_imagesync.domain.changes import MOST_NAMED, changes, repositories
from airflow_imagesync.domain.report import ImageResult, ResultState

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def result(
    source: str, destination: str, digest: str | None = ONE, state: str = "copied", size: int = 10
) -> ImageResult:
    return ImageResult(0, source, destination, ResultState(state), digest=digest, bytes_copied=size)


def details(*results: ImageResult, already: Any = ()) -> list[tuple[str, dict[str, Any]]]:
    return [(str(one.destination), one.details("a_run")) for one in changes(results, already)]


def test_a_change_names_the_tags_and_digests_of_one_repository() -> None:
    found = details(
        result("src.io/app:v2", "dst.io/app:v2", TWO),
        result("src.io/app:v1", "dst.io/app:v1"),
        result("src.io/app:v3", "dst.io/app:v3", state="same"),
        result("src.io/app:v4", "dst.io/app:v4", None, state="failed"),
        result("src.io/app:v1", "dst.io/other:v1"),
    )
    told = {"tags": ["v1", "v2"], "digests": {"v1": ONE, "v2": TWO}, "source": "src.io/app", "bytes": 20}
    other = {"tags": ["v1"], "digests": {"v1": ONE}, "source": "src.io/app", "bytes": 10}
    assert found == [("dst.io/app", {**told, "run": "a_run"}), ("dst.io/other", {**other, "run": "a_run"})]


def test_nothing_changed_where_nothing_was_copied() -> None:
    # The rows of a rule that could not be planned name no image.
    assert changes([result("src.io/app:/^v/", "dst.io/app", None, state="failed")]) == []
    assert changes([result("src.io/app:v1", "dst.io/app:v1", state="same")]) == []


def test_what_was_pushed_by_digest_has_no_tag() -> None:
    ((_, told),) = details(
        result(f"src.io/app@{ONE}", f"dst.io/app@{ONE}"),
        result(f"src.io/app:v1@{TWO}", "dst.io/app:v1", TWO),
    )
    assert (told["tags"], told["digests"]) == (["v1"], {ONE: ONE, "v1": TWO})


def test_each_source_of_a_repository_is_a_change_of_its_own() -> None:
    found = details(result("b.io/app:v2", "dst.io/app:v2"), result("a.io/app:v1", "dst.io/app:v1", size=3))
    assert [(to, one["source"], one["tags"], one["bytes"]) for to, one in found] == [
        ("dst.io/app", "a.io/app", ["v1"], 3),
        ("dst.io/app", "b.io/app", ["v2"], 10),
    ]


def test_an_image_that_was_done_twice_is_named_once() -> None:
    ((_, told),) = details(result("src.io/app:v1", "dst.io/app:v1"), result("src.io/app:v1", "dst.io/app:v1", size=0))
    assert (told["tags"], told["bytes"]) == (["v1"], 10)


def test_what_was_announced_is_left_out_until_it_changes() -> None:
    first = [result("src.io/app:v1", "dst.io/app:v1"), result("src.io/app:v2", "dst.io/app:v2")]
    (told,) = changes(first[:1])
    already = json.loads(json.dumps(told.announced))
    assert already == [["dst.io/app:v1", ONE]]
    ((_, later),) = details(*first, already=already)
    assert later["tags"] == ["v2"]
    assert changes(first[:1], already) == []
    ((_, moved),) = details(result("src.io/app:v1", "dst.io/app:v1", TWO), already=already)
    assert moved["digests"] == {"v1": TWO}


def test_of_many_images_the_first_are_named_and_all_are_counted() -> None:
    tags = [f"{number:0128}" for number in range(MOST_NAMED + 7)]
    by_digest = f"sha256:{'0' * 64}"
    results = [result(f"src.io/app@{by_digest}", f"dst.io/app@{by_digest}")]
    results += [result(f"src.io/app:{tag}", f"dst.io/app:{tag}") for tag in reversed(tags)]
    ((_, told),) = details(*results)
    assert told["tags"] == list(told["digests"]) == tags[:MOST_NAMED]
    assert (told["more"], told["bytes"]) == (8, 10 * (MOST_NAMED + 8))
    # Bounded, even with the longest tags there are.
    assert len(json.dumps(told)) < 80_000
    (change,) = changes(results)
    assert len(change.announced) == MOST_NAMED + 8


def test_repositories_are_those_of_images() -> None:
    found = repositories(
        [
            result("src.io/app:v1", "dst.io/app:v1"),
            result("src.io/same:v1", "dst.io/same:v1", state="same"),
            result("src.io/bad:v1", "dst.io/bad:v1", None, state="failed"),
            result("src.io/rule:/^v/", "dst.io/rule", None, state="failed"),
            result("src.io/all", "dst.io/all", None, state="failed"),
        ]
    )
    assert [[str(one) for one in side] for side in found] == [
        ["src.io/app", "src.io/bad", "src.io/same"],
        ["dst.io/app", "dst.io/same"],
    ]
