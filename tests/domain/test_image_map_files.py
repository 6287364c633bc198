from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.domain.image_map_files import image_map_files

A, B, C, D = (f"sha256:{one * 64}" for one in "abcd")

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize in it")


def files(mapping: dict[str, str], **more: Any) -> dict[str, str]:
    return image_map_files(ImageMap.load(mapping), **more)


def document(text: str) -> Any:
    assert text.startswith("# Made by airflow_imagesync")
    return yaml.safe_load(text)


def comment(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def hosts(mapping: dict[str, str], registry: str, **more: Any) -> tuple[dict[str, Any], str]:
    text = files(mapping, **more)[f"certs.d/{registry}/hosts.toml"]
    assert text.startswith("# Made by airflow_imagesync")
    return tomllib.loads(text), comment(text)


def test_every_tool_has_its_file() -> None:
    found = files({"nginx": f"r.io/nginx@{A}", "quay.io/a/b:1": f"r.io/b@{B}"})
    assert list(found) == [
        "image-map.json",
        "kustomization.yaml",
        "values.yaml",
        "certs.d/docker.io/hosts.toml",
        "certs.d/quay.io/hosts.toml",
        "image-digest-mirror-set.yaml",
    ]
    assert all(text.endswith("\n") for text in found.values())
    assert ImageMap.load(json.loads(found["image-map.json"])).get("nginx") == f"r.io/nginx@{A}"


def test_an_empty_map_gives_files_that_change_nothing() -> None:
    found = files({})
    assert json.loads(found["image-map.json"]) == {}
    assert document(found["kustomization.yaml"])["images"] == []
    assert document(found["values.yaml"]) == {"global": {"images": {}}}
    assert document(found["image-digest-mirror-set.yaml"])["spec"] == {"imageDigestMirrors": []}


# --- kustomize -------------------------------------------------------------------------------------------


def kustomized(folder: Path, mapping: dict[str, str], *images: str) -> list[str]:
    """Return what kustomize makes of the images of a pod."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"},
        "spec": {"containers": [{"name": f"c{number}", "image": one} for number, one in enumerate(images)]},
    }
    (folder / "images").mkdir()
    (folder / "images" / "kustomization.yaml").write_text(files(mapping)["kustomization.yaml"])
    (folder / "pod.yaml").write_text(yaml.safe_dump(pod))
    (folder / "kustomization.yaml").write_text("resources: [pod.yaml]\ncomponents: [images]\n")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [one["image"] for one in yaml.safe_load(done.stdout)["spec"]["containers"]]


def test_kustomize_gets_a_component() -> None:
    found = document(files({"quay.io/a/b:1": f"r.io/m/b@{A}"})["kustomization.yaml"])
    assert found == {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [{"name": "quay.io/a/b", "newName": "r.io/m/b", "digest": A}],
    }


@needs_kubectl
def test_kustomize_replaces_an_image_however_it_is_written(tmp_path: Path) -> None:
    mapping = {"nginx:1": f"r.io/nginx@{A}", "foo/bar:1": f"r.io/bar@{B}", "[::1]:5000/z:1": f"r.io/z@{C}"}
    written = ["nginx:1", "library/nginx", "docker.io/nginx:1", "docker.io/library/nginx:1", "index.docker.io/nginx"]
    others = ["foo/bar:1", "docker.io/foo/bar:1", "[::1]:5000/z:1", "quay.io/nginx:1", "foo/bar2:1"]
    assert kustomized(tmp_path, mapping, *written, *others) == [
        *[f"r.io/nginx@{A}"] * 5,
        *[f"r.io/bar@{B}"] * 2,
        f"r.io/z@{C}",
        "quay.io/nginx:1",
        "foo/bar2:1",
    ]


@needs_kubectl
def test_kustomize_does_not_replace_what_it_has_replaced(tmp_path: Path) -> None:
    mapping = {"a.io/x:1": f"b.io/x@{A}", "b.io/x:1": f"c.io/x@{B}", "d.io/own:1": f"d.io/own@{C}"}
    assert kustomized(tmp_path, mapping, "a.io/x:1", "b.io/x:1", "d.io/own:1") == [
        f"b.io/x@{A}",
        f"c.io/x@{B}",
        f"d.io/own@{C}",
    ]


def test_what_kustomize_can_not_say_is_named() -> None:
    text = files(
        {
            "a.io/x:1": f"r.io/x@{A}",
            "a.io/x:2": f"r.io/x@{B}",
            "a.io/same:1": f"r.io/same@{C}",
            "a.io/same:2": f"r.io/same@{C}",
            "c.io/one:1": f"c.io/two@{A}",
            "c.io/two:1": f"c.io/one@{B}",
        }
    )["kustomization.yaml"]
    assert [one["name"] for one in document(text)["images"]] == ["a.io/same"]
    for row in (f"a.io/x:1 -> r.io/x@{A}", f"a.io/x:2 -> r.io/x@{B}", f"c.io/two -> c.io/one@{B}"):
        assert f"#   {row}" in comment(text)


# --- Helm ------------------------------------------------------------------------------------------------


def test_helm_gets_every_image_by_its_name() -> None:
    found = document(files({"nginx": f"r.io/m/nginx@{A}", "a.io/x:1": f"r.io/x@{B}"})["values.yaml"])
    assert found["global"]["images"]["docker.io/library/nginx:latest"] == {
        "reference": f"r.io/m/nginx@{A}",
        "registry": "r.io",
        "repository": "m/nginx",
        "digest": A,
    }
    assert list(found["global"]["images"]) == ["a.io/x:1", "docker.io/library/nginx:latest"]


def test_long_names_stay_on_one_line() -> None:
    name = f"a.io/{'x' * 200}:1"
    found = files({name: f"r.io/x@{A}"})
    assert list(document(found["values.yaml"])["global"]["images"]) == [name]
    assert "? " not in found["values.yaml"]


# --- containerd ------------------------------------------------------------------------------------------


def test_containerd_asks_the_mirror_with_the_common_prefix() -> None:
    mapping = {"nginx": f"r.io:5000/m/hub/library/nginx@{A}", "foo/bar:1": f"r.io:5000/m/hub/foo/bar@{B}"}
    found, said = hosts(mapping, "docker.io")
    assert found == {
        "server": "https://registry-1.docker.io",
        "host": {
            "https://r.io:5000/v2/m/hub": {"capabilities": ["pull", "resolve"], "override_path": True},
        },
    }
    assert "Not from a mirror" not in said


def test_containerd_needs_no_prefix_where_names_are_equal() -> None:
    found, _ = hosts(
        {"localhost:5001/a/b:1": f"localhost:5002/a/b@{A}"}, "localhost:5001", plain_http=["localhost:5002"]
    )
    assert found["server"] == "https://localhost:5001"
    assert list(found["host"]) == ["http://localhost:5002/v2"]


def test_repositories_that_containerd_would_have_to_rename_are_named() -> None:
    mapping = {
        "a.io/x:1": f"r.io/m/x@{A}",
        "a.io/y:1": f"r.io/m/y@{A}",
        "a.io/z:1": f"r.io/m/renamed@{A}",
        "a.io/ab:1": f"r.io/m/cab@{B}",
    }
    found, said = hosts(mapping, "a.io")
    assert list(found["host"]) == ["https://r.io/v2/m"]
    assert "a.io/z -> r.io/m/renamed" in said
    assert "a.io/ab -> r.io/m/cab" in said
    assert "a.io/x" not in said


def test_a_mirror_that_would_give_something_else_is_left_out() -> None:
    """The one who asks for a.io/z would get what was a.io/w."""
    mapping = {"a.io/x:1": f"r.io/m/x@{A}", "a.io/w:1": f"r.io/m/z@{B}", "a.io/z:1": f"r.io/m/y@{C}"}
    found, said = hosts(mapping, "a.io")
    assert found == {"server": "https://a.io"}
    assert all(f"a.io/{one} -> " in said for one in "xwz")


def test_where_nothing_has_a_prefix_there_is_no_mirror() -> None:
    found, said = hosts({"a.io/x:1": f"r.io/y@{A}"}, "a.io")
    assert found == {"server": "https://a.io"}
    assert "a.io/x -> r.io/y" in said


# --- OpenShift -------------------------------------------------------------------------------------------


def test_openshift_gets_one_entry_a_repository() -> None:
    mapping = {"nginx:1": f"r.io/nginx@{A}", "nginx:2": f"r.io/nginx@{B}", "a.io/x:1": f"r.io/x@{C}"}
    found = document(files(mapping)["image-digest-mirror-set.yaml"])
    assert (found["apiVersion"], found["kind"]) == ("config.openshift.io/v1", "ImageDigestMirrorSet")
    assert found["spec"]["imageDigestMirrors"] == [
        {"source": "a.io/x", "mirrors": ["r.io/x"]},
        {"source": "docker.io/library/nginx", "mirrors": ["r.io/nginx"]},
    ]


def test_what_a_platform_filter_changed_is_no_mirror_by_digest() -> None:
    mapping = {
        "a.io/x:1": f"r.io/x@{A}",
        f"a.io/x@{B}": f"r.io/x@{A}",  # that digest of the source is another one at the destination
        "a.io/y:1": f"r.io/y@{C}",
        f"a.io/y@{D}": f"r.io/y@{D}",
    }
    text = files(mapping)["image-digest-mirror-set.yaml"]
    assert document(text)["spec"]["imageDigestMirrors"] == [{"source": "a.io/y", "mirrors": ["r.io/y"]}]
    assert f"a.io/x:1 -> r.io/x@{A}" in comment(text)
