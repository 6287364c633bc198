"""Manifests with their images taken from a map, everything else byte for byte as it was."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_imagesync.domain.image_map import ImageMap, image_reference
from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.errors import ConfigError, InvalidReference
from airflow_imagesync.kubernetes.image_places import FoundImage, ImagePlace
from airflow_imagesync.kubernetes.manifest_files import ManifestFile, SkippedFile, mode_of, read_manifests, write_files
from airflow_imagesync.kubernetes.yaml_nodes import Scalar, content_span

log = logging.getLogger(__name__)

# What may stand in YAML without quotes, also in a flow mapping; an IPv6 address may not.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:-]*[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Replacement:
    """An image that was replaced: ``old`` as it was written, ``new`` as it is now, and the place."""

    old: str
    new: str
    place: ImagePlace

    def as_dict(self) -> dict[str, Any]:
        """Return the replacement as plain JSON."""
        return {"file": self.place.file, "line": self.place.line, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class UnmappedImage:
    """An image, as written, for which the map has nothing, and all places of it."""

    image: str
    places: tuple[ImagePlace, ...]

    def __str__(self) -> str:
        return f"{self.image} in {', '.join(str(one) for one in self.places)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the image as plain JSON."""
        return {"image": self.image, "places": [one.as_dict() for one in self.places]}


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What `rewrite_manifests` did.

    ``written`` are the paths of the files that were written. ``unmapped`` are the images that stay as they were, for
    want of an entry in the map, and ``skipped`` the files that can't be read: with both empty, everything comes from
    where the map says.
    """

    replaced: tuple[Replacement, ...]
    written: tuple[str, ...]
    unmapped: tuple[UnmappedImage, ...]
    skipped: tuple[SkippedFile, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON, for XCom."""
        return {
            "replaced": [one.as_dict() for one in self.replaced],
            "written": list(self.written),
            "unmapped": [one.as_dict() for one in self.unmapped],
            "skipped": [one.as_dict() for one in self.skipped],
        }


def rewrite_manifests(
    path: str | os.PathLike[str],
    image_map: ImageMap | Mapping[str, str],
    output: str | os.PathLike[str] | None = None,
) -> RewriteResult:
    """Replace the images of manifests by where they are now, and say what was done and what could not be.

    Only the images' own characters change: comments, order, quotes, line ends and the like stay as they are. An image
    that an alias repeats is replaced where its anchor is, and so with all that repeats it. All files are read before
    any is written; each is written at once, with the permissions it had. What is in a destination repository
    of the map already stays and counts as mapped, so a second run changes nothing.

    :param path: a file, or a folder whose files ``*.yaml``, ``*.yml`` and ``*.json`` are looked at, in folders below
        it, too. Hidden files and links out of the folder are not. Files of a folder that can't be read, such as
        templates, are left alone and listed
    :param image_map: an ImageMap or what its `dump` gives
    :param output: folder for all manifests, those without changes included, under the names they have in `path`; None
        to change those in place that have changes
    :raises ConfigError: for a map that is none; when nothing is at `path`, or the one file there can't be read; when
        a file can't be written. Nothing is half written
    """
    known = image_map if isinstance(image_map, ImageMap) else ImageMap.load(image_map)
    source = Path(path)
    target = Path(output) if output is not None else None
    if target is not None:
        if target.exists() and not target.is_dir():
            raise ConfigError(f"the output {target} is no folder; name one")
        if source.is_dir() and target.resolve() == source.resolve():
            target = None
    files, skipped = read_manifests(source, leave_out=target)
    done = [_rewrite(file, known) for file in files]
    contents: dict[Path, bytes] = {}
    modes: dict[Path, int] = {}
    for file, one in zip(files, done, strict=True):
        if target is not None or one.text != file.text:
            place = target / file.name if target is not None else file.path
            contents[place] = file.content(one.text)
            modes[place] = mode_of(file.path)
    write_files(contents, modes)
    unmapped: dict[str, list[ImagePlace]] = {}
    for one in done:
        for place_of in one.unmapped:
            unmapped.setdefault(place_of.image, []).append(place_of)
    result = RewriteResult(
        replaced=tuple(replacement for one in done for replacement in one.replaced),
        written=tuple(str(one) for one in contents),
        unmapped=tuple(UnmappedImage(image, tuple(unmapped[image])) for image in sorted(unmapped)),
        skipped=tuple(skipped),
    )
    for left in (*result.skipped, *result.unmapped):
        log.warning("Not rewritten: %s", left)
    return result


@dataclass(frozen=True, slots=True)
class _Rewritten:
    text: str
    replaced: tuple[Replacement, ...]
    unmapped: tuple[ImagePlace, ...]


def _rewrite(file: ManifestFile, image_map: ImageMap) -> _Rewritten:
    replaced: list[Replacement] = []
    unmapped: list[ImagePlace] = []
    spans: list[tuple[int, int, str]] = []
    for found in file.images:
        place = found.place
        reference = _reference(found)
        span = content_span(file.text, found.node) if found.node is not None else None
        if reference is None or found.node is None or span is None:
            unmapped.append(place)
            continue
        if image_map.has_destination(reference):
            continue
        new = image_map.find(reference)
        if new is None:
            if not image_map.has_destination_repository(reference.repository):
                unmapped.append(place)
            continue
        spans.append((*span, _written(str(new), found.node)))
        replaced.append(Replacement(place.image, str(new), place))
    parts: list[str] = []
    at = 0
    for start, end, new_text in sorted(spans):
        parts += [file.text[at:start], new_text]
        at = end
    return _Rewritten("".join([*parts, file.text[at:]]), tuple(replaced), tuple(unmapped))


def _reference(found: FoundImage) -> ImageReference | None:
    try:
        return image_reference(found.place.image) if found.node is not None else None
    except InvalidReference:
        return None


def _written(image: str, node: Scalar) -> str:
    """Return an image in the quotes that the old one had."""
    if node.style in ("'", '"'):
        return f"{node.style}{image}{node.style}"
    if not node.style and _PLAIN.fullmatch(image) is None:
        return f'"{image}"'
    return image
