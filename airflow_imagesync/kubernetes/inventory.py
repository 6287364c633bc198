"""The images that Kubernetes manifests name."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_imagesync.domain.image_map import image_reference
from airflow_imagesync.errors import InvalidReference
from airflow_imagesync.kubernetes.image_places import ImagePlace
from airflow_imagesync.kubernetes.manifest_files import SkippedFile, read_manifests

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found in manifests.

    ``images`` are full references, sorted, each once: ``nginx`` is ``docker.io/library/nginx:latest``. ``places`` are
    where they stand. ``unclear`` are places with something that is no image reference, such as ``${IMAGE}``, and
    ``skipped`` are files that can't be read.
    """

    images: tuple[str, ...]
    places: tuple[ImagePlace, ...]
    unclear: tuple[ImagePlace, ...]
    skipped: tuple[SkippedFile, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the inventory as plain JSON."""
        return {
            "images": list(self.images),
            "places": [one.as_dict() for one in self.places],
            "unclear": [one.as_dict() for one in self.unclear],
            "skipped": [one.as_dict() for one in self.skipped],
        }


def inventory_of_manifests(path: str | os.PathLike[str]) -> Inventory:
    """Return the images of manifests, with their places and with what could not be understood.

    :param path: a file, or a folder whose files ``*.yaml``, ``*.yml`` and ``*.json`` are looked at, in folders below
        it, too. Hidden files and links out of the folder are not
    :raises ConfigError: nothing is there, or `path` is one file and can't be read
    """
    files, skipped = read_manifests(Path(path))
    images: set[str] = set()
    places: list[ImagePlace] = []
    unclear: list[ImagePlace] = []
    for found in (one for file in files for one in file.images):
        try:
            if found.node is None:
                raise InvalidReference("not a text")
            images.add(str(image_reference(found.place.image)))
        except InvalidReference:
            unclear.append(found.place)
        else:
            places.append(found.place)
    return Inventory(tuple(sorted(images)), tuple(places), tuple(unclear), tuple(skipped))


def images_of_manifests(path: str | os.PathLike[str]) -> list[str]:
    """Return the images of manifests as full references, sorted, each once; usable as an XCom.

    A warning is logged for every file of a folder that can't be read, such as a template, and for every image that is
    no reference: `inventory_of_manifests` lists these.

    :param path: a file or a folder, as in `inventory_of_manifests`
    :raises ConfigError: nothing is there, or `path` is one file and can't be read
    """
    inventory = inventory_of_manifests(path)
    for file in inventory.skipped:
        log.warning("Skipped %s", file)
    for place in inventory.unclear:
        log.warning("Not an image: %r in %s", place.image, place)
    return list(inventory.images)
