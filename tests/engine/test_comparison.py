from __future__ import annotations

import json
from collections import Counter

import pytest

from airflow_imagesync.domain.rules import ByDigest, Rule
from airflow_imagesync.domain.unit import Unit, UnitImage
from airflow_imagesync.engine.records import KnownImage
from airflow_imagesync.engine.units import run_unit
from devtools import images
from tests.support.faults import answer, change_headers
from tests.support.memory_records import MemoryRecords
from tests.support.world import World, kinds

OLD, NEW, INDEX = images.image([images.layer(2000, "old")]), images.image(), images.index()
#: An index whose part for linux/amd64 is another one.
MOVED = images.index([images.image([images.layer(2000, name)]) for name in ("one", "two")])
WRONG = f"sha256:{'0' * 64}"
FILTER = "linux/amd64"


def states(world: World, *rules: Rule, lazy: bool = False) -> list[str]:
    return [one.state.value for one in world.plan(*rules, lazy=lazy).images]


def heads(world: World) -> tuple[int, int]:
    """How many requests source and destination got since the last time, all of which are HEADs of manifests."""
    counts = []
    for front in (world.source, world.destination):
        assert set(kinds(front)) <= {"HEAD manifest"}
        counts.append(kinds(front)["HEAD manifest"])
    world.forget()
    return counts[0], counts[1]


# Sources that are not asked


def test_the_source_of_what_is_missing_is_not_asked_by_who_copies_it_at_once(world: World) -> None:
    world.push(NEW, "new", "changed", "same")
    world.push(OLD, "changed", front=world.destination)
    world.push(NEW, "same", front=world.destination)
    plan = world.plan(world.rule("same", "changed", "new"), lazy=True)
    assert [(one.state, one.source_digest, one.destination_digest) for one in plan.images] == [
        ("same", NEW.digest, NEW.digest),
        ("changed", NEW.digest, OLD.digest),
        ("new", None, None),
    ]
    assert kinds(world.source) == Counter({"HEAD manifest": 2})


def test_a_new_tag_costs_its_source_one_get_and_no_head(world: World) -> None:
    for number in range(3):
        world.push(images.image([images.layer(2000, number)]), f"v{number}")
    assert world.run(world.rule("v0", "v1", "v2")).totals["copied"] == 3
    asked = kinds(world.source)
    assert (asked["HEAD manifest"], asked["GET manifest"]) == (0, 3)


def test_a_source_is_asked_once_when_one_of_its_destinations_has_something(world: World) -> None:
    world.push(NEW, "v1")
    world.push(OLD, "v1", name="b", front=world.destination)
    plan = world.plan(world.rule("v1", to=["a", "b", "c"]), lazy=True)
    assert [(one.state, one.source_digest) for one in plan.images] == [
        ("new", NEW.digest),
        ("changed", NEW.digest),
        ("new", NEW.digest),
    ]
    assert kinds(world.source) == Counter({"HEAD manifest": 1})


def test_a_destination_that_can_not_be_asked_fails_alone_without_the_source(world: World) -> None:
    world.push(NEW, "v1")
    world.destination.on(None, "/b/manifests/", answer(403))
    assert states(world, world.rule("v1", to=["a", "b"]), lazy=True) == ["new", "failed"]
    assert kinds(world.source) == Counter()


def test_images_that_meet_at_one_destination_are_asked_for_before_any_is_copied(world: World) -> None:
    world.push(NEW, "v1", name="one")
    world.push(OLD, "v1", name="two")
    rules = [world.rule("v1", name="one", to="app"), world.rule("v1", name="two", to="app")]
    report = world.run(*rules)
    assert [one.state for one in report.images] == ["failed", "failed"]
    assert "from several sources with different content" in (report.images[0].error or "")
    assert world.digest("v1") is None


def test_filters_that_meet_at_one_destination_are_applied_before_any_is_copied(world: World) -> None:
    world.push(INDEX, "v1")
    rules = [world.rule("v1", platforms=[name]) for name in ("linux/amd64", "linux/arm64")]
    assert states(world, *rules, lazy=True) == ["failed", "failed"]


def test_where_pulls_are_counted_heads_keep_an_image_from_being_pulled_for_each_tag(world: World) -> None:
    world.push(NEW, *(f"v{number}" for number in range(5)))
    world.push(OLD, "v0", front=world.destination)
    world.source.on("HEAD", "/manifests/", change_headers(ratelimit_remaining="76;w=21600"))
    world.concurrency = 1
    plan = world.plan(world.rule(*(f"v{number}" for number in range(5))), lazy=True)
    assert [one.source_digest for one in plan.images] == [NEW.digest] * 5
    assert kinds(world.source) == Counter({"HEAD manifest": 5})


def test_a_source_that_does_not_exist_is_told_by_the_copy(world: World) -> None:
    world.push(NEW, "v1")
    report = world.run(world.rule("v1", "missing"))
    assert [one.state for one in report.images] == ["copied", "failed"]
    source = world.at(world.source, "app")
    assert report.images[1].error == f"{source}:missing does not exist at the source; check the repository and the tag"


def test_an_image_for_another_platform_is_told_by_the_copy_and_its_configuration_read_once(world: World) -> None:
    world.push(NEW, "v1", "v2")
    world.push(OLD, "v2", front=world.destination)
    report = world.run(world.rule("v1", "v2", platforms=["windows/amd64"]))
    assert ["has nothing for windows/amd64" in (one.error or "") for one in report.images] == [True, True]
    assert world.digest("v2") == OLD.digest
    assert kinds(world.source)["GET blob"] <= 2


# Filtered indexes


@pytest.fixture
def records(world: World) -> MemoryRecords:
    records = MemoryRecords()
    world.records = records
    return records


def test_a_filtered_index_that_a_record_knows_costs_no_get(world: World, records: MemoryRecords) -> None:
    world.push(INDEX, "v1")
    rule = world.rule("v1", platforms=[FILTER], full_check_every=3)
    world.run(rule)
    world.forget()
    records.forget_notes()
    asked = []
    for _ in range(6):
        plan = world.plan(rule)
        assert plan.images[0].state == "same"
        assert plan.images[0].filtered_digest == plan.images[0].destination_digest == world.digest("v1")
        asked.append(kinds(world.source)["GET manifest"])
        assert kinds(world.source)["HEAD manifest"] == kinds(world.destination)["HEAD manifest"] == 1
        world.forget()
    assert asked == [0, 0, 1, 0, 0, 1]
    assert [one.trusted for one in records.forget_notes()] == [True, True, False, True, True, False]
    assert records.asked == 7


def test_a_filtered_index_whose_destination_is_another_one_is_fetched(world: World, records: MemoryRecords) -> None:
    world.push(INDEX, "v1")
    rule = world.rule("v1", platforms=[FILTER])
    world.run(rule)
    truth = world.digest("v1")
    assert states(world, rule) == ["same"]
    (name,) = records.known
    records.known[name] = KnownImage(f"{rule.source}:v1", INDEX.digest, FILTER, WRONG)
    assert states(world, rule) == ["same"]  # a wrong record, and a right destination
    assert records.known[name].digest == truth
    world.push(OLD, "v1", front=world.destination)
    assert states(world, rule) == ["changed"]  # a right record, and a destination that another hand has changed


def test_a_wrong_record_and_an_equally_wrong_destination_do_not_last(world: World, records: MemoryRecords) -> None:
    world.push(INDEX, "v1")
    world.push(OLD, "v1", front=world.destination)
    rule = world.rule("v1", platforms=[FILTER], full_check_every=4)
    destination = world.at(world.destination, "app")
    records.known[f"{destination}:v1"] = KnownImage(f"{rule.source}:v1", INDEX.digest, FILTER, OLD.digest)
    assert [states(world, rule) for _ in range(4)] == [["same"], ["same"], ["same"], ["changed"]]
    assert world.run(rule).totals["copied"] == 1
    assert world.digest("v1") not in (OLD.digest, None)


@pytest.mark.parametrize("wrong", ["source", "source-digest", "filter"])
def test_a_record_of_something_else_is_not_believed(world: World, records: MemoryRecords, wrong: str) -> None:
    world.push(INDEX, "v1")
    world.push(OLD, "v1", front=world.destination)
    rule = world.rule("v1", platforms=[FILTER], trust_records=True)
    records.known[f"{world.at(world.destination, 'app')}:v1"] = KnownImage(
        f"{rule.source}:v2" if wrong == "source" else f"{rule.source}:v1",
        MOVED.digest if wrong == "source-digest" else INDEX.digest,
        "" if wrong == "filter" else FILTER,
        OLD.digest,
    )
    assert states(world, rule) == ["changed"]


def test_a_single_image_under_a_filter_needs_no_get_with_or_without_records(
    world: World, records: MemoryRecords
) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", front=front)
    for _ in range(2):
        assert states(world, world.rule("v1", platforms=[FILTER])) == ["same"]
        assert heads(world) == (1, 1)
    assert len(records.forget_notes()) == 1


# Records that are trusted


@pytest.fixture
def unchanged(world: World, records: MemoryRecords) -> Rule:
    """A rule that trusts the records of three tags, which are the same on both sides."""
    tags = ("v1", "v2", "v3")
    for front in (world.source, world.destination):
        world.push(NEW, *tags, front=front)
    rule = world.rule(*tags, trust_records=True, full_check_every=3)
    assert states(world, rule) == ["same"] * 3
    assert [one.trusted for one in records.forget_notes()] == [False] * 3
    world.forget()
    return rule


def test_a_trusted_record_spares_the_destination_except_in_every_nth_run(
    world: World, records: MemoryRecords, unchanged: Rule
) -> None:
    asked = []
    for _ in range(6):
        plan = world.plan(unchanged)
        assert [(one.state, one.source_digest, one.destination_digest) for one in plan.images] == [
            ("same", NEW.digest, NEW.digest)
        ] * 3
        asked.append(heads(world))
    assert asked == [(3, 0), (3, 0), (3, 3), (3, 0), (3, 0), (3, 3)]
    assert [one.trusted for one in records.forget_notes()] == ([True] * 6 + [False] * 3) * 2


def test_the_destination_of_a_source_that_has_moved_is_asked(world: World, unchanged: Rule) -> None:
    world.push(OLD, "v2")
    assert states(world, unchanged) == ["same", "changed", "same"]
    assert heads(world) == (3, 1)
    assert [one.state for one in world.run(unchanged).images] == ["same", "copied", "same"]
    assert world.digest("v2") == OLD.digest


def test_a_tag_that_another_hand_has_changed_is_found_by_the_full_check(world: World, unchanged: Rule) -> None:
    world.push(OLD, "v2", front=world.destination)
    runs = [[one.state.value for one in world.run(unchanged).images] for _ in range(3)]
    assert runs == [["same"] * 3, ["same"] * 3, ["same", "copied", "same"]]
    assert world.digest("v2") == NEW.digest


def test_force_trusts_nothing(world: World, unchanged: Rule) -> None:
    rule = world.rule("v1", "v2", "v3", trust_records=True, force=True)
    assert states(world, rule) == ["changed"] * 3
    assert heads(world) == (3, 3)


def test_without_trust_records_are_no_reason_not_to_ask(world: World, records: MemoryRecords, unchanged: Rule) -> None:
    assert states(world, world.rule("v1", "v2", "v3")) == ["same"] * 3
    assert heads(world) == (3, 3)
    assert records.forget_notes() == []


def test_a_record_that_contradicts_itself_is_not_believed(
    world: World, records: MemoryRecords, unchanged: Rule
) -> None:
    name = f"{world.at(world.destination, 'app')}:v1"
    records.known[name] = KnownImage(f"{unchanged.source}:v1", NEW.digest, "", WRONG)
    assert states(world, unchanged) == ["same"] * 3
    assert heads(world) == (3, 1)
    assert records.known[name].digest == NEW.digest


def test_what_failed_before_is_noted_when_it_is_the_same_again(
    world: World, records: MemoryRecords, unchanged: Rule
) -> None:
    name = f"{world.at(world.destination, 'app')}:v1"
    records.known[name] = KnownImage(f"{unchanged.source}:v1", NEW.digest, "", NEW.digest, failed=True)
    assert states(world, world.rule("v1", "v2", "v3")) == ["same"] * 3
    assert [one.destination for one in records.forget_notes()] == [name]


def test_a_digest_as_destination_is_trusted_like_a_tag(world: World, records: MemoryRecords) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, front=front)
    rule = world.rule(select=ByDigest(NEW.digest), trust_records=True)
    assert [states(world, rule), states(world, rule)] == [["same"], ["same"]]
    assert heads(world) == (2, 1)


def test_a_unit_takes_no_records_word(world: World, records: MemoryRecords) -> None:
    world.push(NEW, "v1")
    world.push(OLD, "v1", front=world.destination)
    rule = world.rule("v1", trust_records=True)
    destination = f"{world.at(world.destination, 'app')}:v1"
    records.known[destination] = KnownImage(f"{rule.source}:v1", NEW.digest, "", NEW.digest)
    assert states(world, rule) == ["same"]
    unit = Unit("one", (rule,), (UnitImage(0, 0, f"{rule.source}:v1", destination),))
    with world.engine(rule) as engine:
        report = run_unit(engine, Unit.load(json.loads(json.dumps(unit.dump()))))
    assert [one.state for one in report.images] == ["copied"]
    assert world.digest("v1") == NEW.digest


def test_a_unit_asks_no_source_for_what_is_missing(world: World) -> None:
    world.push(NEW, "v1")
    rule = world.rule("v1")
    unit = Unit("one", (rule,), (UnitImage(0, 0, f"{rule.source}:v1", f"{rule.destinations[0].repository}:v1"),))
    with world.engine(rule) as engine:
        assert [one.state for one in run_unit(engine, unit).images] == ["copied"]
    assert kinds(world.source)["HEAD manifest"] == 0


# Registries without HEAD


def test_where_head_does_not_work_what_is_unchanged_is_not_sent(world: World) -> None:
    tags = [f"v{number}" for number in range(6)]
    for front in (world.source, world.destination):
        world.push(NEW, *tags, front=front)
        front.on("HEAD", "/manifests/", answer(405))
    world.concurrency = 1
    assert states(world, world.rule(*tags)) == ["same"] * 6
    there = world.destination.seen("GET", "/manifests/")
    assert [(one.status, one.sent) for one in there] == [(304, 0)] * 6
    # Nothing was expected of the source.
    assert [one.status for one in world.source.seen("GET", "/manifests/")] == [200] * 6


def test_where_head_does_not_work_records_say_what_to_expect(world: World, records: MemoryRecords) -> None:
    tags = [f"v{number}" for number in range(6)]
    for front in (world.source, world.destination):
        world.push(NEW, *tags, front=front)
    rule = world.rule(*tags)
    states(world, rule)
    world.push(OLD, "v3")
    for lazy in (False, True):
        world.forget()
        for front in (world.source, world.destination):
            front.on("HEAD", "/manifests/", answer(405))
        assert states(world, rule, lazy=lazy) == ["same", "same", "same", "changed", "same", "same"]
        got = Counter(one.status for one in world.source.seen("GET", "/manifests/"))
        assert got == Counter({304: 5, 200: 1})
        assert sum(one.sent for one in world.source.seen("GET", "/manifests/")) <= len(OLD.body)


def test_a_filter_gets_the_type_that_an_unchanged_answer_lacks(world: World, records: MemoryRecords) -> None:
    world.push(INDEX, "v1")
    rule = world.rule("v1", platforms=[FILTER])
    world.run(rule)
    assert states(world, rule) == ["same"]
    world.source.on("HEAD", "/manifests/", answer(405))
    assert states(world, rule) == ["same"]
    records.known.clear()
    assert states(world, rule) == ["same"]
