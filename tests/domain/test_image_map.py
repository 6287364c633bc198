from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.errors import ConfigError

ONE, TWO, THREE = (f"sha256:{one * 64}" for one in "123")


def result(source: str, destination: str, digest: str | None = ONE, **values: Any) -> ImageResult:
    values = {"state": ResultState.COPIED, "source_digest": digest, **values}
    return ImageResult(0, source, destination, digest=digest, **values)


def again(image_map: ImageMap) -> ImageMap:
    """Return the map after a way through XCom."""
    return ImageMap.load(json.loads(json.dumps(image_map.dump())))


def test_the_images_that_are_there_are_mapped_to_their_digests() -> None:
    found = ImageMap.of(
        [
            result("quay.io/coreos/etcd:v3.5.0", "registry.example.com/mirror/etcd:v3.5.0"),
            result("docker.io/library/nginx:1", "r.io/nginx:1", TWO, state=ResultState.SAME),
            result("a.io/failed:1", "r.io/failed:1", state=ResultState.FAILED),
            result("a.io/unknown:1", "r.io/unknown:1", None),
            result("a.io/later", "r.io/later", None, state=ResultState.FAILED),
        ]
    )
    assert list(found.dump().items()) == [
        ("docker.io/library/nginx:1", f"r.io/nginx@{TWO}"),
        ("quay.io/coreos/etcd:v3.5.0", f"registry.example.com/mirror/etcd@{ONE}"),
    ]
    assert again(found) == found
    assert len(found) == 2
    assert len(ImageMap.of([])) == 0


def test_of_several_destinations_the_first_that_is_there_is_taken() -> None:
    found = ImageMap.of(
        [
            result("a.io/a:1", "r.io/lost:1", state=ResultState.FAILED),
            result("a.io/a:1", "r.io/first:1"),
            result("a.io/a:1", "r.io/second:1"),
        ]
    )
    assert found.dump() == {"a.io/a:1": f"r.io/first@{ONE}"}


@pytest.mark.parametrize(
    "written",
    [
        "nginx",
        "nginx:latest",
        "library/nginx",
        "docker.io/nginx",
        "docker.io/library/nginx:latest",
        "index.docker.io/library/nginx",
        "registry-1.docker.io/library/nginx:latest",
        f"nginx@{ONE}",
        f"nginx:latest@{ONE}",
        f"docker.io/library/nginx:another@{ONE}",
    ],
)
def test_an_image_is_found_however_it_is_written(written: str) -> None:
    found = ImageMap.of([result("docker.io/library/nginx:latest", "r.io/nginx:latest")])
    assert found.get(written) == again(found).get(written) == f"r.io/nginx@{ONE}"


@pytest.mark.parametrize(
    "written",
    ["nginx:1", "quay.io/nginx", f"nginx@{TWO}", f"nginx:latest@{TWO}", "", "Not An Image", "{{ .Values.image }}"],
)
def test_what_is_not_in_the_map_is_not_found(written: str) -> None:
    """Also the right tag with the digest of other content."""
    assert ImageMap.of([result("docker.io/library/nginx:latest", "r.io/nginx:latest")]).get(written) is None


def test_a_filtered_image_is_found_by_the_digest_it_had() -> None:
    found = ImageMap.of([result("a.io/a:1", "r.io/a:1", TWO, source_digest=ONE)])
    for one in (found, again(found)):
        assert one.get(f"a.io/a@{ONE}") == one.get("a.io/a:1") == one.get(f"a.io/a@{TWO}") == f"r.io/a@{TWO}"
    assert found.dump() == {"a.io/a:1": f"r.io/a@{TWO}", f"a.io/a@{ONE}": f"r.io/a@{TWO}"}


def test_a_second_destination_that_is_filtered_changes_nothing() -> None:
    found = ImageMap.of([result("a.io/a:1", "r.io/a:1"), result("a.io/a:1", "s.io/a:1", TWO, source_digest=ONE)])
    assert found.dump() == {"a.io/a:1": f"r.io/a@{ONE}"}


def test_sources_by_digest_are_found_by_that() -> None:
    found = ImageMap.of(
        [result(f"a.io/a@{ONE}", f"r.io/a@{ONE}"), result(f"a.io/b:1@{TWO}", "r.io/b:1", TWO, source_digest=TWO)]
    )
    for one in (found, again(found)):
        assert one.get(f"a.io/a:any@{ONE}") == f"r.io/a@{ONE}"
        assert one.get(f"a.io/b@{TWO}") == f"r.io/b@{TWO}"
        assert one.get("a.io/b:1") is None, "that tag may name something else by now"


def test_two_tags_of_one_content_give_the_same_answer_before_and_after_xcom() -> None:
    found = ImageMap.of([result("a.io/a:2", "r.io/two:2"), result("a.io/a:1", "r.io/one:1")])
    assert found.get(f"a.io/a@{ONE}") == again(found).get(f"a.io/a@{ONE}") == f"r.io/one@{ONE}"


def test_destinations_are_known() -> None:
    found = ImageMap.of([result("a.io/a:1", "r.io/a:1")])
    assert found.has_destination(ImageReference.parse(f"r.io/a@{ONE}"))
    assert found.has_destination(ImageReference.parse(f"r.io/a:2@{ONE}"))
    assert not found.has_destination(ImageReference.parse("r.io/a:1"))
    assert found.has_destination_repository(Repository.parse("r.io/a"))
    assert not found.has_destination_repository(Repository.parse("a.io/a"))


def test_a_map_written_by_hand_is_taken() -> None:
    assert ImageMap.load({"nginx": f"localhost:5002/nginx:1@{ONE}"}).dump() == {
        "docker.io/library/nginx:latest": f"localhost:5002/nginx@{ONE}"
    }


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        (["a"], "an image map is a mapping of images to destination@digest, not list"),
        (None, "not NoneType"),
        ({"a.io/A": f"r.io/a@{ONE}"}, "repository names are in lower case"),
        ({"a.io/a:1": "r.io/a:1"}, "image map: 'a.io/a:1': the destination 'r.io/a:1' has no digest"),
        ({"a.io/a:1": "r.io/a@sha256:12"}, "is not a digest"),
        ({"a.io/a:1": {"image": "x"}}, "expected destination@digest as text, not dict"),
        ({1: f"r.io/a@{ONE}"}, "expected an image as text, not int"),
        ({"nginx": f"r.io/a@{ONE}", "library/nginx:latest": f"r.io/b@{ONE}"}, "is there twice"),
    ],
)
def test_a_map_that_is_none_says_what_is_wrong(mapping: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        ImageMap.load(mapping)


def test_every_mistake_of_a_map_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        ImageMap.load({"a.io/a:1": "r.io/a:1", "b.io/b:1": "r.io/b:1", "c.io/c:1": f"r.io/c@{ONE}"})
    assert len(caught.value.problems) == 2
