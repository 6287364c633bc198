from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from airflow_imagesync.domain.rules import ByDigest, Rule, TagPattern
from airflow_imagesync.domain.verification import Verification
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import KnownImage
from devtools import images
from tests.support.faults import answer, wait
from tests.support.memory_records import MemoryRecords
from tests.support.world import World, kinds

OLD, NEW, INDEX = images.image([images.layer(2000, "old")]), images.image(), images.index()
FILTER = "linux/arm64"


def verify(world: World, *rules: Rule) -> Verification:
    with world.engine(*rules) as engine:
        return engine.verify()


def states(world: World, *rules: Rule) -> list[str]:
    return [one.state.value for one in verify(world, *rules).images]


def test_every_destination_is_the_same_missing_different_or_failed(world: World) -> None:
    world.push(NEW, "same", "missing", "different")
    world.push(NEW, "same", front=world.destination)
    world.push(OLD, "different", front=world.destination)
    found = verify(world, world.rule("same", "missing", "different", "gone"))
    assert [
        (one.state.value, one.source_digest, one.expected_digest, one.destination_digest) for one in found.images
    ] == [
        ("same", NEW.digest, NEW.digest, NEW.digest),
        ("missing", NEW.digest, NEW.digest, None),
        ("different", NEW.digest, NEW.digest, OLD.digest),
        ("failed", None, None, None),
    ]
    assert "gone does not exist at the source" in (found.images[3].error or "")
    assert not found.may_pass


def test_a_tag_costs_one_head_on_each_side(world: World) -> None:
    tags = [f"v{number}" for number in range(12)]
    for front in (world.source, world.destination):
        world.push(INDEX, *tags, front=front)
    assert verify(world, world.rule()).totals["same"] == 12
    assert kinds(world.source) == Counter({"HEAD manifest": 12, "GET tags": 1})
    assert kinds(world.destination) == Counter({"HEAD manifest": 12})


def test_a_filtered_index_costs_one_more_get_and_is_compared_with_what_the_filter_makes_of_it(world: World) -> None:
    world.push(INDEX, "v1", "v2")
    rule = world.rule("v1", platforms=[FILTER])
    world.run(rule)
    world.push(INDEX, "v2", front=world.destination)  # whole, where the filter would have left a part
    world.forget()
    found = verify(world, rule)
    assert found.totals["same"] == 1
    assert found.images[0].expected_digest == found.images[0].destination_digest == world.digest("v1") != INDEX.digest
    assert kinds(world.source) == Counter({"HEAD manifest": 1, "GET manifest": 1})
    assert kinds(world.destination) == Counter({"HEAD manifest": 1})

    (whole,) = verify(world, replace(rule, select=TagPattern("^v2$"))).images
    assert (whole.state, whole.destination_digest) == ("different", INDEX.digest)
    assert whole.expected_digest == found.images[0].expected_digest
    assert f"{whole.expected_digest}, which the platform filter makes of the source's {INDEX.digest}" in whole.error


def test_a_source_tag_that_moved_since_the_copy_is_told_with_both_digests(world: World) -> None:
    world.push(OLD, "v1")
    world.run(world.rule("v1"))
    world.push(NEW, "v1")
    (image,) = verify(world, world.rule("v1")).images
    assert image.state == "different"
    assert image.error.startswith(f"the destination has {OLD.digest} in place of {NEW.digest}")


@pytest.mark.parametrize("platforms", [(), (FILTER,)], ids=["whole", "filtered"])
def test_no_record_is_believed_and_none_is_written(world: World, platforms: tuple[str, ...]) -> None:
    """A run that trusts them takes them for the truth, which shows that they would be believed."""
    world.push(INDEX, "v1")
    world.push(OLD, "v1", front=world.destination)
    rule = world.rule("v1", platforms=platforms, trust_records=True, full_check_every=100)
    name = str(world.at(world.destination, "app")) + ":v1"
    known = KnownImage(str(world.at(world.source, "app")) + ":v1", INDEX.digest, rule.filter_text, INDEX.digest)
    if platforms:
        known = replace(known, digest=OLD.digest)  # what the filter is said to make of it
    records = MemoryRecords({name: known})
    world.records = records
    assert [one.state.value for one in world.plan(rule).images] == ["same"]
    noted, asked = list(records.noted), records.asked
    (image,) = verify(world, rule).images
    assert (image.state, image.destination_digest) == ("different", OLD.digest)
    assert (records.noted, records.asked) == (noted, asked)


def test_force_means_nothing(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", front=front)
    assert states(world, world.rule("v1", force=True)) == ["same"]


@pytest.mark.parametrize("to_tags", [("stable",), None], ids=["with-a-tag", "by-digest-only"])
def test_an_image_that_a_rule_names_by_digest(world: World, to_tags: tuple[str, ...] | None) -> None:
    world.push(NEW)
    rule = world.rule(select=ByDigest(NEW.digest), to_tags=to_tags)
    assert states(world, rule) == ["missing"]
    world.run(rule)
    assert states(world, rule) == ["same"]


def test_several_destinations_are_each_compared_with_one_answer_of_the_source(world: World) -> None:
    world.push(NEW, "v1")
    world.push(NEW, "v1", name="a", front=world.destination)
    world.push(OLD, "v1", name="b", front=world.destination)
    assert states(world, world.rule("v1", to=["a", "b", "c"])) == ["same", "different", "missing"]
    assert kinds(world.source) == Counter({"HEAD manifest": 1})


# What can't be compared


def test_a_rule_that_can_not_be_planned_fails_alone(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", front=front)
    found = verify(world, world.rule(name="missing", to=["a", "b"]), world.rule("v1"))
    assert [(one.rule, one.state.value) for one in found.images] == [(0, "failed"), (0, "failed"), (1, "same")]
    assert "404 NAME_UNKNOWN" in (found.images[0].error or "")


def test_a_rule_that_may_be_empty_and_is_leaves_a_note(world: World) -> None:
    world.push(NEW, "v1")
    found = verify(world, world.rule(select=TagPattern("^none"), allow_empty=True))
    assert found.images == ()
    assert "matches no tag, which it allows" in found.notes[0]


def test_rules_that_want_different_content_at_one_place_both_fail_whatever_is_there(world: World) -> None:
    world.push(NEW, "v1", name="one")
    world.push(OLD, "v1", name="two")
    world.push(NEW, "v1", front=world.destination)
    found = verify(world, world.rule(name="one", to="app"), world.rule(name="two", to="app"))
    assert [one.state.value for one in found.images] == ["failed", "failed"]
    assert [one.destination_digest for one in found.images] == [NEW.digest, NEW.digest]
    assert "from several sources with different content" in (found.images[0].error or "")


def test_what_two_rules_name_is_there_once(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", "v2", front=front)
    found = verify(world, world.rule("v1"), world.rule())
    assert [(one.rule, one.source[-2:]) for one in found.images] == [(0, "v1"), (1, "v2")]


@pytest.mark.parametrize(("silent", "may_pass"), [(True, True), (False, False)], ids=["no-answer", "no-rights"])
def test_a_destination_that_does_not_tell_is_no_missing_image(world: World, silent: bool, may_pass: bool) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", "v2", front=front)
    world.retries = 0
    world.destination.on(None, "/manifests/v2", wait() if silent else answer(403))
    found = verify(world, world.rule("v1", "v2"))
    assert [one.state.value for one in found.images] == ["same", "failed"]
    assert (found.images[1].temporary, found.may_pass) == (may_pass, may_pass)
    assert (found.images[1].source_digest, found.images[1].expected_digest) == (NEW.digest, None)


def test_an_image_for_no_wanted_platform_fails(world: World) -> None:
    world.push(INDEX, "v1")
    assert states(world, world.rule("v1", platforms=["windows/amd64"])) == ["failed"]


def test_a_verification_that_is_stopped_claims_nothing(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", front=front)
    with world.engine(world.rule("v1")) as engine:
        engine.cancel()
        found = engine.verify()
        assert engine.cancelled
    assert [(one.state.value, one.temporary) for one in found.images] == [("failed", True)]


def test_progress_is_counted(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", "v2", front=front)
    progress = Progress()
    with world.engine(world.rule("v1", "v2"), progress=progress) as engine:
        engine.verify()
    assert (progress.snapshot().planned, progress.snapshot().to_plan) == (2, 2)


def test_some_rules_alone_can_be_verified(world: World) -> None:
    world.push(NEW, "v1", "v2")
    with world.engine(world.rule("v1"), world.rule("v2")) as engine:
        assert [one.rule for one in engine.verify(engine.config.rules[1:]).images] == [1]
