"""Where in a manifest images are named.

In every Kubernetes object, which has ``apiVersion`` and ``kind``, wherever in it a pod specification stands:
``containers``, ``initContainers`` and ``ephemeralContainers`` with their ``image``, and ``volumes`` with
``image.reference``. So all workload kinds, lists, templates and custom resources that hold pods (Argo Rollouts, Knative
Services) are covered, and also the containers of Tekton (``steps``, ``sidecars``) and Argo Workflows (``container``,
``script``). ConfigMaps, Secrets and CustomResourceDefinitions are passed over, as are custom resources that
name an image in a field of their own, and texts within texts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_imagesync.kubernetes.yaml_nodes import Mapping, Node, Scalar, Sequence, content_span

_POD_LISTS = frozenset({"containers", "initContainers", "ephemeralContainers"})
_OTHER_LISTS = frozenset({"sidecars", "steps"})
_OTHERS = frozenset({"container", "script"})
_PASSED_OVER = frozenset({"ConfigMap", "Secret", "CustomResourceDefinition"})


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """An image in a manifest: the text as written, and where.

    ``file`` is relative to the folder that was looked at, ``line`` counts from one; ``kind`` and ``name`` are the
    object's, ``field`` is the list that it is in, such as ``initContainers``, and ``container`` the container's or
    volume's name. What cannot be known is empty.
    """

    image: str
    file: str
    line: int
    kind: str
    name: str
    field: str
    container: str

    def __str__(self) -> str:
        owner = "/".join(part for part in (self.kind, self.name) if part)
        return f"{self.file}:{self.line} ({owner} {self.field} {self.container})".replace(" )", ")")

    def as_dict(self) -> dict[str, str | int]:
        """Return the place as plain JSON."""
        return {
            "image": self.image,
            "file": self.file,
            "line": self.line,
            "kind": self.kind,
            "name": self.name,
            "field": self.field,
            "container": self.container,
        }


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image with its node; ``node`` is None where what stands there is no text, as in a template."""

    place: ImagePlace
    node: Scalar | None


def find_images(text: str, documents: list[Node], file: str) -> list[FoundImage]:
    """Return the images of a file in the order of its text, each scalar once however often aliases repeat it."""
    return sorted(_Search(text, file).run(documents), key=lambda one: one.place.line)


@dataclass(frozen=True, slots=True)
class _Owner:
    kind: str
    name: str


class _Search:
    """Walks the nodes of one file; every node is walked once, so that repeated aliases cost nothing."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._line_starts = [0, *(at + 1 for at, one in enumerate(text) if one == "\n")]
        self._walked: set[tuple[int, bool]] = set()
        self._found: set[int] = set()

    def run(self, documents: list[Node]) -> Iterator[FoundImage]:
        waiting: list[tuple[Node, _Owner | None]] = [(node, None) for node in reversed(documents)]
        while waiting:
            node, owner = waiting.pop()
            if isinstance(node, Scalar) or (id(node), owner is None) in self._walked:
                continue
            self._walked.add((id(node), owner is None))
            if isinstance(node, Sequence):
                waiting += [(one, owner) for one in reversed(node.items)]
                continue
            owner = _owner(node) or owner
            if owner is not None:
                if owner.kind in _PASSED_OVER:
                    continue
                yield from self._of_mapping(node, owner)
            waiting += [(value, owner) for _, value in reversed(node.pairs)]

    def _of_mapping(self, node: Mapping, owner: _Owner) -> Iterator[FoundImage]:
        for key, value in node.pairs:
            if not isinstance(key, Scalar):
                continue
            if key.value in _POD_LISTS | _OTHER_LISTS and isinstance(value, Sequence):
                for container in value.items:
                    yield from self._image(container, "image", container, key.value, owner)
            elif key.value in _OTHERS:
                yield from self._image(value, "image", value, key.value, owner)
            elif key.value == "volumes" and isinstance(value, Sequence):
                for volume in value.items:
                    source = volume.find("image") if isinstance(volume, Mapping) else None
                    yield from self._image(source, "reference", volume, key.value, owner)

    def _image(self, node: Node | None, key: str, named: Node, field: str, owner: _Owner) -> Iterator[FoundImage]:
        """Yield the image at `key` of `node`; `named` is the container or volume."""
        image = node.find(key) if isinstance(node, Mapping) else None
        if image is None or id(image) in self._found or (isinstance(image, Scalar) and image.is_null):
            return
        if field not in _POD_LISTS and not isinstance(image, Scalar):
            return  # something else that has an image of another kind
        self._found.add(id(image))
        is_text = isinstance(image, Scalar) and image.is_text
        written = image.value.strip() if isinstance(image, Scalar) else self._text[image.start : image.end].strip()
        span = content_span(self._text, image) if isinstance(image, Scalar) else None
        line = bisect_right(self._line_starts, span[0] if span else image.start)
        name = (named.text("name") if isinstance(named, Mapping) else None) or ""
        yield FoundImage(
            ImagePlace(written, self._file, line, owner.kind, owner.name, field, name),
            image if is_text and isinstance(image, Scalar) else None,
        )


def _owner(node: Mapping) -> _Owner | None:
    """Return what a mapping is when it is a Kubernetes object."""
    kind = node.text("kind")
    if kind is None or node.text("apiVersion") is None:
        return None
    metadata = node.find("metadata")
    if not isinstance(metadata, Mapping):
        return _Owner(kind, "")
    return _Owner(kind, metadata.text("name") or metadata.text("generateName") or "")
