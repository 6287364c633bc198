"""Units of work: the images that one mapped task copies, as plain JSON without secrets.

A unit holds images of one rule, or of several small ones where there would be more units than may be mapped.
Some rules are carried whole, to be planned again by the task that gets them: those that could not be planned,
and those that get in each other's way, because only who plans them together sees that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, ByDigest, Destination, Rule, Select, TagPattern, Tags

DEFAULT_IMAGES_PER_UNIT = 50
#: Airflow's column for the label of a mapped task holds no more; PostgreSQL refuses what is longer.
MAX_LABEL = 250


@dataclass(frozen=True, slots=True)
class UnitImage:
    """One image of a unit: its position in the plan, that of its rule, and both full references."""

    position: int
    rule: int
    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Unit:
    """What one mapped task does.

    ``label`` is for people. ``rules`` has every rule that an image names, and those carried whole, whose
    positions are in ``whole``. ``number`` is its position among the units of its plan, None for one of no plan;
    ``pilot`` says that it goes before the others.
    """

    label: str
    rules: tuple[Rule, ...]
    images: tuple[UnitImage, ...] = ()
    whole: tuple[int, ...] = ()
    number: int | None = None
    pilot: bool = False

    @property
    def size(self) -> int:
        """How many images it has, as far as is known: a rule carried whole counts one for each destination."""
        return len(self.images) + sum(len(rule.destinations) for rule in self.rules if rule.index in self.whole)

    def dump(self) -> dict[str, Any]:
        """Return the unit as plain JSON; `load` reads it back."""
        return {
            "label": shortened(self.label),
            "rules": [_dump_rule(rule, whole=rule.index in self.whole) for rule in self.rules],
            "images": [[one.position, one.rule, one.source, one.destination] for one in self.images],
            "whole": list(self.whole),
            "number": self.number,
            "pilot": self.pilot,
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Unit:
        """Return the unit that `dump` wrote; its rules take no record's word any more."""
        return cls(
            label=document["label"],
            rules=tuple(_load_rule(one) for one in document["rules"]),
            images=tuple(UnitImage(*one) for one in document["images"]),
            whole=tuple(document["whole"]),
            number=document.get("number"),
            pilot=document.get("pilot", False),
        )


def shortened(label: str) -> str:
    """Return a label that is no longer than Airflow takes, both ends of it kept."""
    if len(label) <= MAX_LABEL:
        return label
    half = (MAX_LABEL - len(" ... ")) // 2
    return f"{label[:half]} ... {label[-half:]}"


def cut_units(
    plan: Plan,
    rules: Iterable[Rule],
    *,
    images_per_unit: int = DEFAULT_IMAGES_PER_UNIT,
    max_units: int = 1024,
    pilot: Collection[int] = (),
) -> list[Unit]:
    """Return the units for everything in `plan` that is not the same already, in its order.

    A rule's images are cut into units of `images_per_unit`; when that makes more than `max_units`, neighbours are
    packed together. Images that failed to be compared are in their rule's units, so that the task tries them again.
    `pilot` has the positions of images that go before the others: they are in units of their own, which come first, and
    `max_units` counts for each of both. Rules that must be planned again are never in them.
    """
    by_index = {rule.index: rule for rule in rules}
    together = _planned_together(plan, by_index)
    waves: tuple[list[tuple[int, ImagePair]], list[tuple[int, ImagePair]]] = ([], [])
    for position, pair in enumerate(plan.images):
        if pair.state is not PairState.SAME:
            waves[0 if position in pilot and pair.rule not in together else 1].append((position, pair))
    units: list[Unit] = []
    for work, is_pilot in zip(waves, (True, False), strict=True):
        cut = _packed(_cut(work, by_index, together, images_per_unit), max_units)
        units += [replace(unit, number=len(units) + index, pilot=is_pilot) for index, unit in enumerate(cut)]
    return units


def _cut(
    work: Iterable[tuple[int, ImagePair]],
    rules: Mapping[int, Rule],
    together: Mapping[int, list[int]],
    images_per_unit: int,
) -> list[Unit]:
    units: list[Unit] = []
    begun: set[int] = set()
    for index, group in groupby(work, key=lambda one: one[1].rule):
        if index in together:
            if index not in begun:
                begun.update(together[index])
                units.append(_whole([rules[one] for one in together[index]]))
            continue
        pairs, rule = list(group), rules[index]
        pieces = [pairs[start : start + images_per_unit] for start in range(0, len(pairs), images_per_unit)]
        units.extend(
            Unit(
                _label(rule, piece, number, len(pieces)),
                (rule,),
                tuple(UnitImage(position, index, pair.source, pair.destination) for position, pair in piece),
            )
            for number, piece in enumerate(pieces, start=1)
        )
    return units


def _packed(units: Sequence[Unit], max_units: int) -> list[Unit]:
    """Return the units with neighbours packed together, where there are too many."""
    size = -(-len(units) // max_units)
    return list(units) if size <= 1 else [_pack(units[start : start + size]) for start in range(0, len(units), size)]


def _planned_together(plan: Plan, rules: Mapping[int, Rule]) -> dict[int, list[int]]:
    """Return, for each rule that is to be planned again, the rules to plan with it, itself included.

    Rules belong together when they want different things at one destination and that is not settled, or when they write
    to one repository and one of them could not be planned: nobody knows yet what it wants there.
    """
    groups: dict[int, set[int]] = {}

    def join(indexes: Iterable[int]) -> None:
        joined = set(indexes)
        for index in list(joined):
            joined |= groups.get(index, set())
        for index in joined:
            groups[index] = joined

    writers: dict[Repository, set[int]] = defaultdict(set)
    for rule in rules.values():
        for to in rule.destinations:
            writers[to.repository].add(rule.index)
    for index in {pair.rule for pair in plan.images if pair.whole_rule}:
        join({index}.union(*(writers[to.repository] for to in rules[index].destinations)))
    wanted: dict[str, list[ImagePair]] = defaultdict(list)
    for pair in plan.images:
        wanted[pair.destination].append(pair)
    for pairs in wanted.values():
        if len(pairs) > 1 and any(pair.state is not PairState.SAME for pair in pairs):
            join(pair.rule for pair in pairs)
    return {index: sorted(group) for index, group in groups.items()}


def _whole(rules: Sequence[Rule]) -> Unit:
    more = f" and {len(rules) - 1} more" if len(rules) > 1 else ""
    return Unit(f"{rules[0].label}{more}", tuple(rules), whole=tuple(rule.index for rule in rules))


def _label(rule: Rule, pairs: Sequence[tuple[int, ImagePair]], number: int, count: int) -> str:
    if len(pairs) == 1 and count == 1:
        return f"{pairs[0][1].source} -> {pairs[0][1].destination}"
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
        document["platforms"] = [[one.os, one.architecture, one.variant, one.os_version] for one in rule.platforms]
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
        # Whoever planned found something to do: a record that says otherwise must not undo that.
        full_check_every=1,
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
