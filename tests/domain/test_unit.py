from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_imagesync.config import parse_config
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.domain.unit import MAX_LABEL, Unit, UnitImage, cut_units

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


def rules_of(*rules: dict[str, object]) -> tuple[Rule, ...]:
    return parse_config(json.dumps({"rules": list(rules)})).rules


def rule(source: str, destination: str | list[str], **more: object) -> dict[str, object]:
    def at(registry: str, name: str) -> str:
        return f"{registry}.io/{name}"

    names = [destination] if isinstance(destination, str) else destination
    return {"source": at("src", source), "destination": [at("dst", one) for one in names], **more}


def pair(index: int, source: str, destination: str, state: PairState = PairState.NEW, **more: object) -> ImagePair:
    return ImagePair(index, f"src.io/{source}", f"dst.io/{destination}", state, **more)  # type: ignore[arg-type]


def tags(index: int, name: str, *names: str, state: PairState = PairState.NEW) -> list[ImagePair]:
    return [pair(index, f"{name}:{tag}", f"{name}:{tag}", state, source_digest=DIGEST) for tag in names]


def unplanned(rule: Rule) -> list[ImagePair]:
    return [
        ImagePair(rule.index, str(rule), str(to.repository), PairState.FAILED, error="no", whole_rule=True)
        for to in rule.destinations
    ]


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(rule("team/app", "team/app"), id="all-tags"),
        pytest.param(rule("team/app:v1,v2", ["a", "b:x,y"], allow_empty=True, force=True), id="tags-to-two"),
        pytest.param(rule("team/app:/v1.{2}$|{{1}}/", "team/app"), id="regex-that-looks-like-a-template"),
        pytest.param(rule(f"team/app@{DIGEST}", "team/app"), id="digest"),
        pytest.param(rule(f"team/app:v1@{DIGEST}", "team/app"), id="digest-with-tag"),
        pytest.param(rule("team/app", "team/app", platforms=["linux/arm/v7", "windows/amd64"]), id="platforms"),
        pytest.param(rule("team/app", "team/app", trust_records=True), id="records-trusted"),
    ],
)
def test_a_rule_carried_whole_comes_back_as_it_was(written: dict[str, object]) -> None:
    (planned,) = rules_of(written)
    (unit,) = cut_units(Plan(tuple(unplanned(planned))), [planned])
    assert unit.whole == (0,)
    assert unit.images == ()
    loaded = Unit.load(json.loads(json.dumps(unit.dump())))
    assert loaded == replace(unit, rules=loaded.rules)
    # A record must not undo what was found to be done.
    assert loaded.rules == (replace(planned, full_check_every=1, trust_records=False),)


def test_images_come_back_with_what_their_rule_says_of_copying() -> None:
    rules = rules_of(rule("team/app", "team/app", platforms=["linux/amd64"], force=True))
    (unit,) = cut_units(Plan(tuple(tags(0, "team/app", "v1", "v2"))), rules)
    loaded = Unit.load(json.loads(json.dumps(unit.dump())))
    assert loaded.images == (
        UnitImage(0, 0, "src.io/team/app:v1", "dst.io/team/app:v1"),
        UnitImage(1, 0, "src.io/team/app:v2", "dst.io/team/app:v2"),
    )
    assert (loaded.rules[0].platforms, loaded.rules[0].force) == (rules[0].platforms, True)


def test_nothing_to_do_makes_no_units() -> None:
    plan = Plan(tuple(tags(0, "app", "v1", "v2", state=PairState.SAME)))
    assert cut_units(plan, rules_of(rule("app", "app"))) == []


def test_what_is_the_same_is_in_no_unit_and_what_could_not_be_compared_is() -> None:
    plan = Plan(
        (
            *tags(0, "app", "v1", state=PairState.SAME),
            *tags(0, "app", "v2", state=PairState.CHANGED),
            *tags(0, "app", "v3", state=PairState.FAILED),
        )
    )
    (unit,) = cut_units(plan, rules_of(rule("app", "app")))
    assert [(one.position, one.source) for one in unit.images] == [(1, "src.io/app:v2"), (2, "src.io/app:v3")]


def test_a_large_rule_is_cut_and_rules_are_not_mixed() -> None:
    plan = Plan((*tags(0, "one", *"abcde"), *tags(1, "two", "a")))
    units = cut_units(plan, rules_of(rule("one", "one"), rule("two", "two")), images_per_unit=2)
    assert [len(unit.images) for unit in units] == [2, 2, 1, 1]
    assert [unit.label for unit in units] == [
        "src.io/one -> dst.io/one (1 of 3)",
        "src.io/one -> dst.io/one (2 of 3)",
        "src.io/one -> dst.io/one (3 of 3)",
        "src.io/two:a -> dst.io/two:a",
    ]


@pytest.mark.parametrize(
    ("count", "limit", "expected"), [(7, 7, 7), (7, 6, 4), (7, 3, 3), (7, 1, 1), (2500, 1024, 834)]
)
def test_units_are_packed_until_they_can_be_mapped(count: int, limit: int, expected: int) -> None:
    names = [f"app{number}" for number in range(count)]
    plan = Plan(tuple(one for index, name in enumerate(names) for one in tags(index, name, "v1")))
    units = cut_units(plan, rules_of(*(rule(name, name) for name in names)), max_units=limit)
    assert len(units) == expected <= limit
    assert [one.source for unit in units for one in unit.images] == [one.source for one in plan.images]
    for unit in units:
        assert {one.index for one in unit.rules} == {one.rule for one in unit.images}
        assert Unit.load(unit.dump()).images == unit.images


def test_packing_keeps_rules_that_are_carried_whole() -> None:
    rules = rules_of(rule("one", "one"), rule("two", "two"))
    plan = Plan((*tags(0, "one", "v1"), *unplanned(rules[1])))
    (unit,) = cut_units(plan, rules, max_units=1)
    assert (len(unit.images), unit.whole) == (1, (1,))
    assert Unit.load(unit.dump()).rules[1] == replace(rules[1], full_check_every=1)


def test_rules_that_want_one_tag_are_planned_together_so_that_neither_overwrites_the_other() -> None:
    """The planner fails both images; a task of its own for each would find its image changed and copy it."""
    rules = rules_of(rule("one", "app"), rule("other", "other"), rule("two", "app"))
    clash = {"state": PairState.FAILED, "error": "would be written from several sources"}
    plan = Plan(
        (
            pair(0, "one:v1", "app:v1", source_digest=DIGEST, **clash),
            pair(0, "one:v2", "app:v2"),
            *tags(1, "other", "v1"),
            pair(2, "two:v1", "app:v1", source_digest=OTHER, **clash),
        )
    )
    units = cut_units(plan, rules)
    assert [unit.whole for unit in units] == [(0, 2), ()]
    assert units[0].rules == (rules[0], rules[2])
    assert units[0].label == "src.io/one -> dst.io/app and 1 more"


def test_a_rule_that_could_not_be_planned_takes_along_those_that_write_to_its_repository() -> None:
    """What it will want there is known only when it is planned."""
    rules = rules_of(rule("one", ["app", "copy"]), rule("two", "app"), rule("three", "copy"), rule("four", "four"))
    plan = Plan((*unplanned(rules[0]), *tags(1, "app", "v1"), *tags(2, "copy", "v1"), *tags(3, "four", "v1")))
    units = cut_units(plan, rules)
    assert [unit.whole for unit in units] == [(0, 1, 2), ()]


def test_two_sources_of_the_same_content_make_no_work_when_all_is_there() -> None:
    rules = rules_of(rule("one", "app"), rule("two", "app"))
    same = {"state": PairState.SAME, "source_digest": DIGEST, "destination_digest": DIGEST}
    assert cut_units(Plan((pair(0, "one:v1", "app:v1", **same), pair(1, "two:v1", "app:v1", **same))), rules) == []


def test_a_label_fits_into_airflows_column() -> None:
    """PostgreSQL refuses the state of a task whose label is longer."""
    name = "team/" + "a" * 180
    rules = rules_of(rule(name, [name, f"{name}-copy"]))
    (unit,) = cut_units(Plan(tuple(tags(0, name, "v1", "v2"))), rules)
    label = unit.dump()["label"]
    assert len(label) <= MAX_LABEL
    assert label.startswith("src.io/team/aaa")
    assert label.endswith("-copy")


def test_a_plan_costs_less_than_a_kilobyte_an_image() -> None:
    name = "registry-of-the-company.example.com/a-team/with/a-long/name-of-an-image"
    rules = rules_of(rule(name, name))
    plan = Plan(tuple(tags(0, name, *(f"v1.{number}-release-candidate.12345678" for number in range(500)))))
    dumped = json.dumps([unit.dump() for unit in cut_units(plan, rules)])
    assert len(dumped) < 500 * 1024


def test_a_pilot_is_in_units_of_its_own_that_come_first() -> None:
    rules = rules_of(rule("one", "one"), rule("two", "two"))
    plan = Plan((*tags(0, "one", "v1", "v2", "v3"), *tags(1, "two", "v1", "v2")))
    units = cut_units(plan, rules, pilot={1, 4})
    assert [(unit.number, unit.pilot, [one.position for one in unit.images]) for unit in units] == [
        (0, True, [1]),
        (1, True, [4]),
        (2, False, [0, 2]),
        (3, False, [3]),
    ]
    assert [Unit.load(json.loads(json.dumps(unit.dump()))).number for unit in units] == [0, 1, 2, 3]
    # As many for each of both: they are mapped one after the other.
    packed = cut_units(plan, rules, pilot={1, 4}, max_units=1)
    assert [[one.position for one in unit.images] for unit in packed] == [[1, 4], [0, 2, 3]]


def test_rules_that_must_be_planned_again_are_no_pilot() -> None:
    rules = rules_of(rule("one", "same"), rule("two", "same"))
    plan = Plan((pair(0, "one:v1", "same:v1"), pair(1, "two:v1", "same:v1")))
    (unit,) = cut_units(plan, rules, pilot={0, 1})
    assert (unit.pilot, unit.whole, unit.size) == (False, (0, 1), 2)
