from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from airflow_imagesync.errors import ConfigError
from airflow_imagesync.kubernetes import images_of_manifests, inventory_of_manifests
from tests.kubernetes.conftest import Written

EXAMPLES = Path(__file__).parents[2] / "dags" / "examples"


def pod(*images: str) -> str:
    containers = ", ".join(f"{{name: c{number}, image: {one}}}" for number, one in enumerate(images))
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: pod}}\nspec: {{containers: [{containers}]}}\n"


def test_the_examples_have_images_of_all_kinds() -> None:
    assert images_of_manifests(EXAMPLES) == [
        "localhost:5001/shop/database:17",
        "localhost:5001/shop/log-shipper:0.9",
        "localhost:5001/shop/tools:2.1",
        "localhost:5001/shop/web:1.4",
    ]
    found = inventory_of_manifests(str(EXAMPLES))
    assert not found.skipped
    assert not found.unclear
    assert {one.kind for one in found.places} == {"Deployment", "StatefulSet", "CronJob", "DaemonSet"}
    assert json.loads(json.dumps(found.as_dict()))["places"][0] == {
        "image": "localhost:5001/shop/database:17",
        "file": "database.yaml",
        "line": 17,
        "kind": "StatefulSet",
        "name": "database",
        "field": "containers",
        "container": "database",
    }


def test_images_are_told_in_full_and_once(manifests: Written) -> None:
    folder = manifests(
        {
            "b/c/deep.yml": pod("nginx", "index.docker.io/library/nginx:latest"),
            "a.JSON": '{\t"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "quay.io\\/a/b:1"}]}}',
            "a.txt": pod("not.io/yaml:1"),
            ".git/config.yaml": pod("not.io/hidden:1"),
            ".hidden.yaml": pod("not.io/hidden:2"),
            "empty.yaml": "",
        }
    )
    assert images_of_manifests(folder) == ["docker.io/library/nginx:latest", "quay.io/a/b:1"]
    assert images_of_manifests(folder / "a.JSON") == ["quay.io/a/b:1"]
    assert [one.file for one in inventory_of_manifests(folder).places] == ["a.JSON", "b/c/deep.yml", "b/c/deep.yml"]


def test_what_can_not_be_read_in_a_folder_is_told_and_the_rest_is_read(
    manifests: Written, caplog: pytest.LogCaptureFixture
) -> None:
    folder = manifests(
        {
            "app.yaml": pod("a.io/a:1", '"${IMAGE}"'),
            "chart/templates/app.yaml": "{{- if .Values.on }}\nkind: Pod\n{{- end }}\n",
            "latin.yaml": "a: b\nc: é\n".encode("latin-1"),
            "broken.yaml": "a: b\nc: [\n",
        }
    )
    os.mkfifo(folder / "pipe.yaml")
    found = inventory_of_manifests(folder)
    assert found.images == ("a.io/a:1",)
    assert [str(one) for one in found.unclear] == ["app.yaml:4 (Pod/pod containers c1)"]
    skipped = {one.file: str(one) for one in found.skipped}
    assert list(skipped) == ["broken.yaml", "chart/templates/app.yaml", "latin.yaml", "pipe.yaml"]
    assert skipped["broken.yaml"].startswith("broken.yaml:3: not YAML: ")
    assert "chart/templates/app.yaml:" in skipped["chart/templates/app.yaml"]
    assert skipped["chart/templates/app.yaml"].endswith("; it looks like a template: render it first")
    assert skipped["latin.yaml"] == "latin.yaml:2: not UTF-8 text"
    assert skipped["pipe.yaml"] == "pipe.yaml: not a regular file"
    with caplog.at_level(logging.WARNING):
        assert images_of_manifests(folder) == ["a.io/a:1"]
    assert "Skipped broken.yaml:3: not YAML" in caplog.text
    assert "Not an image: '${IMAGE}' in app.yaml:4" in caplog.text


def test_one_file_that_can_not_be_read_is_an_error_with_its_line(manifests: Written) -> None:
    folder = manifests({"broken.yaml": "a: b\nc: [\n", "latin.yaml": b"a: b\n\xe9"})
    for name in ("broken.yaml", "latin.yaml"):
        with pytest.raises(ConfigError, match=f"{name}:[23]: not "):
            images_of_manifests(folder / name)
    with pytest.raises(ConfigError, match=r"there is no file or folder .*gone"):
        images_of_manifests(folder / "gone")


def test_links_are_followed_within_the_folder_only(manifests: Written, tmp_path: Path) -> None:
    """A ConfigMap that is mounted is a folder of links to a hidden folder in it."""
    folder = manifests({"..data/app.yaml": pod("a.io/a:1"), "own.yaml": pod("b.io/b:1")})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.yaml").write_text(pod("outside.io/a:1"))
    (folder / "app.yaml").symlink_to("..data/app.yaml")
    (folder / "again.yaml").symlink_to("own.yaml")
    (folder / "out.yaml").symlink_to(tmp_path / "outside" / "secret.yaml")
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "dangling.yaml").symlink_to("nothing.yaml")
    found = inventory_of_manifests(folder)
    assert [(one.file, one.image) for one in found.places] == [("app.yaml", "a.io/a:1"), ("own.yaml", "b.io/b:1")]
    assert [one.file for one in found.skipped] == ["dangling.yaml", "folder", "loop.yaml", "out.yaml"]
    (tmp_path / "link").symlink_to(folder)
    assert inventory_of_manifests(tmp_path / "link").images == found.images


def test_a_text_that_grows_without_end_does_not(manifests: Written) -> None:
    laughs = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    text = f"{pod('a.io/a:1')}laughs:\n  a0: &a0 {{containers: [{{image: b.io/b:1}}]}}\n{laughs}"
    assert images_of_manifests(manifests({"a.yaml": text})) == ["a.io/a:1", "b.io/b:1"]
