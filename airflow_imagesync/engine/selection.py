"""Which part of an image a platform filter leaves.

Of an index the matching children stay, in the source's order, with the attestations that belong to them
and with artifacts that have no platform; a single image is checked by its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from airflow_imagesync.domain.manifest import (
    IMAGE_CONFIG_TYPES,
    IMAGE_TYPES,
    INDEX_TYPES,
    MAX_DEPTH,
    Descriptor,
    Manifest,
    load_document,
    replace_children,
)
from airflow_imagesync.domain.platform import Platform, wanted
from airflow_imagesync.domain.reference import quoted
from airflow_imagesync.errors import ContentError, UnsupportedContent
from airflow_imagesync.registry.client import RegistryClient

_UNKNOWN = Platform("unknown", "unknown")
_MAX_LISTED = 32


@dataclass(frozen=True, slots=True)
class Selected:
    """What is to be copied: the root, and those nested indexes that were rewritten, by digest."""

    root: Manifest
    rewritten: dict[str, Manifest] = field(default_factory=dict)


def select_platforms(client: RegistryClient, path: str, root: Manifest, filters: Sequence[Platform]) -> Selected:
    """Return the part of `root`, an image of the repository `path`, that `filters` leave; all of it without filters.

    Fetches what the index alone does not tell: children without a platform, and a single image's
    configuration. Raises UnsupportedContent when no platform matches, and what the registry answers.
    """
    if not filters:
        return Selected(root)
    selection = _Selection(client, path, filters)
    kept = selection.reduce(root, depth=1)
    if kept is None or (selection.seen and not selection.matched):
        has = listed_platforms(selection.seen)
        raise UnsupportedContent(
            f"{client.registry}/{path}@{root.digest} has nothing for {', '.join(map(str, filters))}; "
            f"its platforms: {has}"
        )
    return Selected(kept, selection.rewritten)


def platforms_of(client: RegistryClient, path: str, root: Manifest) -> list[Platform]:
    """Return the platforms that `root`, an image of the repository `path`, says it is for; raise what is answered."""
    selection = _Selection(client, path, ())
    selection.reduce(root, depth=1)
    return selection.seen


def listed_platforms(platforms: Iterable[Platform]) -> str:
    """Return what an image says of its platforms, some of them if they are many."""
    names = sorted({str(one) for one in platforms})
    shown = [quoted(one).strip("'") for one in names[:_MAX_LISTED]]
    return ", ".join([*shown, *(["..."] if len(names) > _MAX_LISTED else [])]) or "none"


class _Selection:
    def __init__(self, client: RegistryClient, path: str, filters: Sequence[Platform]) -> None:
        self._client = client
        self._path = path
        self._filters = filters
        self._fetch: Callable[[str], Manifest] = lambda digest: client.get_manifest(path, digest)
        self.seen: list[Platform] = []
        self.matched = False
        self.rewritten: dict[str, Manifest] = {}
        #: What was left of each nested index: eight levels of a thousand times the same one have no end otherwise.
        self._reduced: dict[str, Manifest | None] = {}

    def _wants(self, platform: Platform) -> bool:
        self.seen.append(platform)
        match = wanted(self._filters, platform)
        self.matched = self.matched or match
        return match

    def reduce(self, manifest: Manifest, depth: int) -> Manifest | None:
        """Return what is left of a manifest; None when that is nothing."""
        if depth > MAX_DEPTH:
            raise ContentError(f"manifest {manifest.digest} is nested deeper than {MAX_DEPTH} indexes")
        if not manifest.is_index:
            return manifest if self._wants_image(manifest) else None
        replacements: dict[int, Manifest | None] = {}
        dropped: set[str] = set()
        kept: set[str] = set()
        for position, child in enumerate(manifest.children):
            if child.attests is not None:
                continue
            if child.media_type in INDEX_TYPES and child.platform is None:
                left = self._reduce_nested(child.digest, depth + 1)
                if left is None or left.digest != child.digest:
                    replacements[position] = left
                if left is not None and left.digest != child.digest:
                    self.rewritten[left.digest] = left
                stays = left is not None
            else:
                stays = self._keeps(child)
                if not stays:
                    replacements[position] = None
            (kept if stays else dropped).add(child.digest)
        for position, child in enumerate(manifest.children):
            if child.attests is not None and child.attests in dropped - kept:
                replacements[position] = None
        if manifest.children and len(replacements) == len(manifest.children) and not any(replacements.values()):
            return None
        return replace_children(manifest, replacements)

    def _reduce_nested(self, digest: str, depth: int) -> Manifest | None:
        if digest not in self._reduced:
            self._reduced[digest] = self.reduce(self._fetch(digest), depth)
        return self._reduced[digest]

    def _keeps(self, child: Descriptor) -> bool:
        """Whether a child that is no nested index stays."""
        if child.platform is not None and child.platform != _UNKNOWN:
            return self._wants(child.platform)
        if child.platform is None and child.media_type in IMAGE_TYPES:
            return self._wants_image(self._fetch(child.digest))
        return True

    def _wants_image(self, manifest: Manifest) -> bool:
        config = manifest.config
        if config is None or config.media_type not in IMAGE_CONFIG_TYPES:
            return True
        body = self._client.read_config(self._path, config)
        platform = Platform.of_descriptor(load_document(body, f"the configuration {config.digest}"))
        return platform is None or self._wants(platform)
