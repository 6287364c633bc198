"""What is remembered of watched tags, how that differs from what there is now, and how it is stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

#: So many hex digits of a digest are stored: enough to see that it is another one.
_MARK = 16
#: One stored value has at most so many bytes; Airflow's limit is 64 KB.
_PART_BYTES = 48_000


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at the watched tags has shown.

    ``digests`` are those of the tags that were asked for or told by a list, ``unknown`` the tags that are there or may
    be, whose digest could not be learned or was not asked for. What is in neither is not there.
    """

    digests: Mapping[str, str]
    unknown: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What has come to be since the last look: tags that are new, and those that name another image than before.

    ``known`` is what to remember now, by tag: its digest, the beginning of it as it was stored, or nothing where the
    tag is there with a digest that is not known.
    """

    known: dict[str, str]
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def tags(self) -> list[str]:
        """The new and the changed ones, sorted."""
        return sorted({*self.new, *self.changed})


def compare(known: Mapping[str, str] | None, sight: Sight) -> Difference:
    """Return what `sight` has that is not `known`; None for a first look, to which nothing is new.

    A tag whose digest was not learned is left as it was; one that is not known yet is new once its digest is.
    """
    if known is None:
        return Difference({**dict.fromkeys(sight.unknown, ""), **sight.digests})
    now = {tag: known[tag] for tag in sight.unknown if tag in known}
    new, changed = [], []
    for tag, digest in sight.digests.items():
        now[tag] = digest
        if tag not in known:
            new.append(tag)
        elif known[tag] and mark(known[tag]) != mark(digest):
            changed.append(tag)
    return Difference(now, tuple(sorted(new)), tuple(sorted(changed)))


def mark(digest: str) -> str:
    """Return the part of a digest that is stored; what is stored stays as it is."""
    return digest.rpartition(":")[2][:_MARK]


def marks(known: Mapping[str, str]) -> dict[str, str]:
    """Return what of `known` is stored, by tag."""
    return {tag: mark(digest) for tag, digest in known.items()}


def dump_known(source: str, known: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what is known as values to be stored, the first of which says how many there are.

    `source` is for people who look at them.
    """
    parts: list[dict[str, str]] = [{}]
    size = 0
    for tag in sorted(known):
        entry = mark(known[tag])
        added = len(json.dumps(tag)) + len(entry) + 6
        if size + added > _PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][tag] = entry
        size += added
    return [{"source": source, "parts": len(parts), "tags": part} for part in parts]


def load_known(values: list[object]) -> dict[str, str] | None:
    """Return what stored values say is known; None where they are not what was stored."""
    known: dict[str, str] = {}
    for value in values:
        tags = value.get("tags") if isinstance(value, dict) else None
        if not isinstance(tags, dict):
            return None
        known.update({str(tag): str(entry) for tag, entry in tags.items()})
    return known


def parts_of(value: object) -> int:
    """Return how many stored values there are, by the first of them; 0 where it is none."""
    parts = value.get("parts") if isinstance(value, dict) else None
    return parts if isinstance(parts, int) and parts > 0 else 0
