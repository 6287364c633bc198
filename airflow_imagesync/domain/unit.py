"""Units of work: the images that one mapped task copies, as plain JSON without secrets.

A unit holds images of one rule, or of several small ones where there would be more units than may be mapped;
a rule that could not be planned is carried whole, to be planned again by the task that gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, ByDigest, Destination, Rule, Select, TagPattern, Tags

DEFAULT_IMAGES_PER_UNIT = 50


@dataclass(frozen=True, slots=True)
class UnitImage:
    """One image of a unit: the position of its rule, and both full references."""

    rule: int
    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Unit:
    """What one mapped task does.

    ``label`` is for people. ``rules`` has every rule that an image names, and those carried whole, whose positions are in
    ``whole``.
    """

    label: str
    rules: tuple[Rule, ...]
    images: tuple[UnitImage, ...] = ()
    whole: tuple[int, ...] = ()

    def dump(self) -> dict[str, Any]:
        """Return the unit as plain JSON; `load` reads it back."""
        return {
            "label": self.label,
            "rules": [_dump_rule(rule, whole=rule.index in self.whole) for rule in self.rules],
            "images": [[one.rule, one.source, one.destination] for one in self.images],
            "whole": list(self.whole),
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Unit:
        """Return the unit that `dump` wrote."""
        return cls(
            label=document["label"],
            rules=tuple(_load_rule(one) for one in document["rules"]),
            images=tuple(UnitImage(*one) for one in document["images"]),
            whole=tuple(document["whole"]),
        )


def cut_units(
    plan: Plan, rules: Iterable[Rule], *, images_per_unit: int = DEFAULT_IMAGES_PER_UNIT, max_units: int = 1024
) -> list[Unit]:
    """Return the units for everything in `plan` that is not the same already, in its order.

    A rule's images are cut into units of `images_per_unit`; when that makes more than `max_units`, neighbours are packed
    together. Images that failed to be compared are in their rule's units, so that the task tries them again.
    """
    by_index = {rule.index: rule for rule in rules}
    units: list[Unit] = []
    work = [pair for pair in plan.images if pair.state is not PairState.SAME]
    for index, group in groupby(work, key=lambda pair: pair.rule):
        pairs, rule = list(group), by_index[index]
        if any(pair.whole_rule for pair in pairs):
            units.append(Unit(rule.label, (rule,), whole=(index,)))
            continue
        pieces = [pairs[start : start + images_per_unit] for start in range(0, len(pairs), images_per_unit)]
        units.extend(
            Unit(_label(rule, piece, number, len(pieces)), (rule,), tuple(_image(pair) for pair in piece))
            for number, piece in enumerate(pieces, start=1)
        )
    if len(units) <= max_units:
        return units
    size = -(-len(units) // max_units)
    return [_pack(units[start : start + size]) for start in range(0, len(units), size)]


def _image(pair: ImagePair) -> UnitImage:
    return UnitImage(pair.rule, pair.source, pair.destination)


def _label(rule: Rule, pairs: Sequence[ImagePair], number: int, count: int) -> str:
    if len(pairs) == 1 and count == 1:
        return f"{pairs[0].source} -> {pairs[0].destination}"
    return f"{rule.label} ({number} of {count})" if count > 1 else rule.label


def _pack(units: Sequence[Unit]) -> Unit:
    if len(units) == 1:
        return units[0]
    rules = {rule.index: rule for unit in units for rule in unit.rules}
    return Unit(
        f"{units[0].label} and {len(units) - 1} more",
        tuple(rules.values()),
        tuple(image for unit in units for image in unit.images),
        tuple(index for unit in units for index in unit.whole),
    )


def _dump_rule(rule: Rule, *, whole: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"rule": rule.index, "source": str(rule.source)}
    if rule.platforms:
        document["platforms"] = [
            [one.os, one.architecture, one.variant, one.os_version] for one in rule.platforms
        ]
    if rule.force:
        document["force"] = True
    if whole:
        # What the rule selects is not needed for images that are named one by one.
        document["select"] = _dump_select(rule.select)
        document["destinations"] = [
            [str(to.repository), None if to.tags is None else list(to.tags)] for to in rule.destinations
        ]
        document["allow_empty"] = rule.allow_empty
    return document


def _load_rule(document: Mapping[str, Any]) -> Rule:
    return Rule(
        index=document["rule"],
        source=Repository.parse(document["source"]),
        select=_load_select(document.get("select", {})),
        destinations=tuple(
            Destination(Repository.parse(name), None if tags is None else tuple(tags))
            for name, tags in document.get("destinations", ())
        ),
        platforms=tuple(Platform(*one) for one in document.get("platforms", ())),
        allow_empty=document.get("allow_empty", False),
        force=document.get("force", False),
    )


def _dump_select(select: Select) -> dict[str, Any]:
    match select:
        case Tags(tags):
            return {"tags": list(tags)}
        case TagPattern(pattern):
            return {"regex": pattern}
        case ByDigest(digest, tag):
            return {"digest": digest, "tag": tag}
        case _:
            return {}


def _load_select(document: Mapping[str, Any]) -> Select:
    if "tags" in document:
        return Tags(tuple(document["tags"]))
    if "regex" in document:
        return TagPattern(document["regex"])
    if "digest" in document:
        return ByDigest(document["digest"], document["tag"])
    return AllTags()
