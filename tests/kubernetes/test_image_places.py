from __future__ import annotations

import pytest

from airflow_imagesync.kubernetes.image_places import find_images
from airflow_imagesync.kubernetes.yaml_nodes import read_nodes


def places(text: str) -> list[str]:
    return [str(one.place) for one in find_images(text, read_nodes(text), "f.yaml")]


def images(text: str) -> list[str]:
    return [one.place.image for one in find_images(text, read_nodes(text), "f.yaml")]


POD = "{containers: [{name: c, image: c:1}]}"


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Pod", POD),
        *[
            (kind, f"{{template: {{spec: {POD}}}}}")
            for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job")
        ],
        ("CronJob", f"{{jobTemplate: {{spec: {{template: {{spec: {POD}}}}}}}}}"),
        ("Rollout", f"{{strategy: {{canary: {{}}}}, template: {{spec: {POD}}}}}"),
        ("Service", f"{{template: {{spec: {POD}}}}}"),  # Knative's
        ("InferenceService", f"{{predictor: {POD}}}"),
        ("Task", "{steps: [{name: c, image: c:1}]}"),
        ("Workflow", "{templates: [{name: t, container: {name: c, image: c:1}}]}"),
    ],
)
def test_all_kinds_that_hold_pods_are_known(kind: str, spec: str) -> None:
    text = f"apiVersion: any/v1\nkind: {kind}\nmetadata: {{name: it}}\nspec: {spec}\n"
    (place,) = places(text)
    assert place.startswith(f"f.yaml:4 ({kind}/it ")
    assert place.endswith(" c)")
    assert images(text) == ["c:1"]


def test_a_pod_template_is_known() -> None:
    text = f"apiVersion: v1\nkind: PodTemplate\nmetadata: {{name: it}}\ntemplate: {{spec: {POD}}}\n"
    assert places(text) == ["f.yaml:4 (PodTemplate/it containers c)"]


def test_every_image_of_a_pod_is_found_with_its_line() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata:
  generateName: web-
spec:
  initContainers:
    - name: i
      image: init:1
  containers:
    - image: "first:1"
      name: first
    - image: >-

        second:1
      name: second
    - image: third:1
    - name: none
    - name: nothing
      image:
  ephemeralContainers:
    - {name: e, image: 'debug:1'}
  volumes:
    - name: model
      image:
        reference: model:1
        pullPolicy: Always
    - name: config
      configMap: {name: image}
"""
    assert places(text) == [
        "f.yaml:8 (Pod/web- initContainers i)",
        "f.yaml:10 (Pod/web- containers first)",
        "f.yaml:14 (Pod/web- containers second)",
        "f.yaml:16 (Pod/web- containers)",
        "f.yaml:21 (Pod/web- ephemeralContainers e)",
        "f.yaml:25 (Pod/web- volumes model)",
    ]
    assert images(text) == ["init:1", "first:1", "second:1", "third:1", "debug:1", "model:1"]


def test_objects_in_lists_are_told_apart() -> None:
    text = f"""\
apiVersion: v1
kind: List
items:
- {{apiVersion: v1, kind: Pod, metadata: {{name: one}}, spec: {POD}}}
- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: no}}, data: {POD}}}
- {{apiVersion: v1, kind: PodList, items: [{{apiVersion: v1, kind: Pod, metadata: {{name: two}}, spec: {POD}}}]}}
"""
    assert places(text) == ["f.yaml:4 (Pod/one containers c)", "f.yaml:6 (Pod/two containers c)"]


@pytest.mark.parametrize(
    "text",
    [
        f"apiVersion: v1\nkind: ConfigMap\ndata: {POD}\n",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  pod: |\n    kind: Pod\n    spec: {containers: [{image: a:1}]}\n",
        f"apiVersion: v1\nkind: Secret\nstringData: {POD}\n",
        f"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {POD}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {image: a:1}}\nspec: {containers: []}\n",
        "apiVersion: v1\nkind: Pod\nspec: {containers: {image: a:1}, volumes: {image: {reference: b:1}}}\n",
        f"# values of a chart\nimage: a:1\nworker: {POD}\n",
        "apiVersion: example.com/v1\nkind: Server\nspec: {steps: [{image: {repository: a}}], image: {reference: b}}\n",
        "- just\n- a list\n",
        "text",
        "",
    ],
)
def test_what_runs_nothing_has_no_images(text: str) -> None:
    assert images(text) == []


def test_an_image_that_aliases_repeat_is_one_place() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {image: &image app:1}}
spec:
  initContainers:
    - &base {name: i, image: *image}
  containers:
    - {<<: *base, name: c}
    - {name: d, image: other:1}
"""
    assert places(text) == ["f.yaml:3 (Pod/p initContainers i)", "f.yaml:9 (Pod/p containers d)"]


def test_what_is_no_text_is_told_as_written() -> None:
    text = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: {{ .Values.image }} }, {image: 5}]}\n"
    found = find_images(text, read_nodes(text), "f.yaml")
    assert [(one.place.image, one.node) for one in found] == [("{{ .Values.image }}", None), ("5", None)]
