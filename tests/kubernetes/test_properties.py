"""Whatever a manifest looks like, only its images change."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.kubernetes import inventory_of_manifests, rewrite_manifests

IMAGES = ["a.io/app:1", "nginx", "localhost:5001/x/y:2", f"a.io/pinned@sha256:{'c' * 64}", "unknown.io/z:1"]
MAP = ImageMap.load(
    {image: f"localhost:5002/moved/app{number}@sha256:{number:064}" for number, image in enumerate(IMAGES[:-1])}
)


def moved(image: str) -> str:
    return MAP.get(image) or image


def rewritten(content: bytes, suffix: str = ".yaml") -> bytes:
    """Rewrite a file, then again, which must change nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(content)
        rewrite_manifests(path, MAP)
        once = path.read_bytes()
        assert rewrite_manifests(path, MAP).written == ()
        assert path.read_bytes() == once
        return once


def inventory(content: bytes) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_bytes(content)
        return [one.image for one in inventory_of_manifests(path).places]


# --- Built from pieces, of which it is known which are images ---------------------------------------------

COMMENTS = st.sampled_from(["", "  # plain", " # é😀 image: nginx", "\t# 'quoted' \"twice\" {[", " #"])
STYLES = st.sampled_from(
    [
        "{}",
        "'{}'",
        '"{}"',
        "&anchor {}",
        "!!str {}",
        "!!str &anchor '{}'",
        '&anchor !<tag:yaml.org,2002:str> "{}"',
        "\n            {}",
        "&anchor # {{}} &x\n            {}",
    ]
)
BLOCKS = st.sampled_from(
    [
        ">-\n            {}\n\n",
        "|-  # nginx\n             {}\n",
        ">2-\n            {}\n",
        "&anchor |-\n\n           {}\n",
    ]
)
FILLING = st.sampled_from(
    [
        "          env: [{name: IMAGE, value: nginx}]\n",
        "          command: [run, 'a.io/app:1', \"x\\\n            y\"]\n",
        "          # image: nginx\n\n",
        "          args:\n          - >\n            image: nginx\n\n          - é😀 \u2028 \x85\n",
        '          tabs:\t"\t"\t# \t\n',
        "",
    ]
)
HEADS = st.sampled_from(
    [
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  image: nginx\n  pod: |\n    containers:\n    - image: nginx\n",
        "# only a comment: nginx\n",
        "just: {image: nginx, containers: [{image: nginx}]}\n",
    ]
)


@st.composite
def containers(draw: st.DrawFn) -> list[tuple[str, bool]]:
    """Draw the text of a container, as pieces with whether each is an image."""
    name = draw(st.sampled_from(["        - name: é\n", "        - name: 'x'   # nginx\n", "        - ports: []\n"]))
    image = draw(st.sampled_from(IMAGES))
    block = draw(st.booleans())
    before, after = draw(BLOCKS if block else STYLES).split("{}", 1) if block else _split(draw(STYLES))
    end = "" if block else draw(COMMENTS) + "\n"
    return [
        (name + draw(FILLING) + f"          image: {before}", False),
        (image, True),
        (after + end + draw(FILLING), False),
    ]


def _split(style: str) -> tuple[str, str]:
    before, after = re.split(r"(?<!\{)\{\}(?!\})", style)
    return before.replace("{{}}", "{}"), after


@st.composite
def manifest_texts(draw: st.DrawFn) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for _ in range(draw(st.integers(1, 3))):
        head = draw(HEADS)
        if draw(st.booleans()):
            pieces.append((f"---\n{head}", False))
        pieces.append(("---  # next\napiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n", False))
        for field in draw(st.permutations(["containers", "initContainers"])):
            pieces.append((f"      {field}:{draw(COMMENTS)}\n", False))
            for container in draw(st.lists(containers(), min_size=1, max_size=2)):
                pieces += container
    return pieces


@settings(max_examples=80, deadline=None)
@given(manifest_texts(), st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]))
def test_only_the_characters_of_images_change(pieces: list[tuple[str, bool]], mark: str, line_end: str) -> None:
    def text(replace: bool) -> bytes:
        joined = "".join(moved(piece) if is_image and replace else piece for piece, is_image in pieces)
        return (mark + joined.replace("\n", line_end)).encode()

    assert inventory(text(False)) == [piece for piece, is_image in pieces if is_image]
    assert rewritten(text(False)) == text(True)


# --- Written by PyYAML and json from data -----------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from([*IMAGES, "image: nginx", "# x", "", " ", "~", "- a", "{{ x }}"]), st.text(max_size=12)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    container = st.fixed_dictionaries({"image": st.sampled_from(IMAGES)}, optional={"env": VALUES, "name": TEXTS})
    spec: dict[str, Any] = {}
    for field in draw(st.permutations(["containers", "initContainers", "other", "volumes"])):
        if field == "other":
            spec[field] = draw(TEXTS)
        elif field == "volumes":
            reference = st.fixed_dictionaries({"reference": st.sampled_from(IMAGES)})
            spec[field] = draw(st.lists(st.fixed_dictionaries({"image": reference}), max_size=2))
        else:
            spec[field] = draw(st.lists(container, max_size=3))
    kind = draw(st.sampled_from(["Pod", "ConfigMap"]))
    return {"metadata": {"annotations": draw(VALUES)}, "apiVersion": "v1", "kind": kind, "spec": spec}


def expected(document: Any) -> Any:
    """Return a drawn document with its images replaced."""
    if document["kind"] == "ConfigMap":
        return document
    spec = dict(document["spec"])
    for field in ("containers", "initContainers"):
        spec[field] = [{**one, "image": moved(one["image"])} for one in spec[field]]
    spec["volumes"] = [{"image": {"reference": moved(one["image"]["reference"])}} for one in spec["volumes"]]
    return {**document, "spec": spec}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(pods(), min_size=1, max_size=3),
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.sampled_from([None, True, False]),
    st.integers(2, 6),
    st.sampled_from([20, 80, 1000]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_documents_are_the_same_but_for_their_images(
    documents: list[dict[str, Any]],
    style: str | None,
    flow: bool | None,
    indent: int,
    width: int,
    unicode: bool,
    line_end: str,
) -> None:
    text = yaml.safe_dump_all(
        documents,
        default_style=style,
        default_flow_style=flow,
        indent=indent,
        width=width,
        allow_unicode=unicode,
        line_break=line_end,
        sort_keys=False,
    )
    before = list(yaml.safe_load_all(text))
    found = list(yaml.safe_load_all(rewritten(text.encode()).decode()))
    assert found == [expected(one) for one in before]


@settings(max_examples=100, deadline=None)
@given(st.lists(pods(), max_size=3), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_is_the_same_but_for_its_images(items: list[dict[str, Any]], indent: Any, ascii_only: bool) -> None:
    document = {"apiVersion": "v1", "kind": "List", "items": items}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    found = rewritten(text.encode(), ".json").decode()
    assert json.loads(found) == {**document, "items": [expected(one) for one in items]}
    assert found.count("\n") == text.count("\n")
