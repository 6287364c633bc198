from __future__ import annotations

import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_imagesync.domain.digest import digest_of
from airflow_imagesync.domain.plan import PairState
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.rules import AllTags, ByDigest, Destination, Rule, TagPattern, Tags
from airflow_imagesync.engine.comparison import Wanted
from airflow_imagesync.engine.planner import Planner
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.registry.manifests import ManifestHead
from airflow_imagesync.registry.tags import TagList
from devtools import images
from tests.support.faults import answer, wait
from tests.support.world import World, kinds

OLD, NEW = images.image([images.layer(2000, "old")]), images.image([images.layer(2000, "new")])


def states(world: World, *rules: object) -> list[PairState]:
    return [one.state for one in world.plan(*rules).images]  # type: ignore[arg-type]


def test_every_image_has_its_state(world: World) -> None:
    world.push(NEW, "new", "changed", "same")
    world.push(OLD, "changed", front=world.destination)
    world.push(NEW, "same", front=world.destination)
    plan = world.plan(world.rule("new", "changed", "same", "missing"))
    assert [(one.state, one.source_digest, one.destination_digest) for one in plan.images] == [
        ("new", NEW.digest, None),
        ("changed", NEW.digest, OLD.digest),
        ("same", NEW.digest, NEW.digest),
        ("failed", None, None),
    ]
    assert plan.totals == {"new": 1, "changed": 1, "same": 1, "failed": 1}
    source = world.at(world.source, "app")
    assert plan.images[3].error == f"{source}:missing does not exist at the source; check the repository and the tag"
    assert not plan.images[3].temporary


def test_an_unchanged_tag_costs_one_head_on_each_side(world: World) -> None:
    tags = [f"v{number}" for number in range(12)]
    for front in (world.source, world.destination):
        world.push(images.index(), *tags, front=front)
    assert world.plan(world.rule()).totals["same"] == 12
    assert kinds(world.source) == Counter({"HEAD manifest": 12, "GET tags": 1})
    assert kinds(world.destination) == Counter({"HEAD manifest": 12})


def test_a_source_is_asked_once_for_all_its_destinations(world: World) -> None:
    world.push(NEW, "v1")
    assert states(world, world.rule("v1", to=["a", "b", "c"])) == ["new"] * 3
    assert kinds(world.source) == Counter({"HEAD manifest": 1})


def test_force_plans_what_is_the_same_as_changed(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(NEW, "v1", front=front)
    assert states(world, world.rule("v1", force=True)) == ["changed"]


# Which images a rule names


def test_all_tags_are_planned_in_order(world: World) -> None:
    world.push(NEW, "v2", "v10", "latest", "V1")
    plan = world.plan(world.rule(select=AllTags()))
    assert [one.source.rpartition(":")[2] for one in plan.images] == ["V1", "latest", "v10", "v2"]
    assert [one.destination.rpartition(":")[2] for one in plan.images] == ["V1", "latest", "v10", "v2"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^v1", ["v1", "v1.2"]),
        (r"^v1$", ["v1"]),
        ("1", ["v1", "v1.2"]),
        (r"^v\d+\.\d+$", ["v1.2"]),
        ("^(v1|latest)$", ["latest", "v1"]),
        ("(?i)LATEST", ["latest"]),
    ],
)
def test_a_pattern_is_looked_for_anywhere_in_a_tag(world: World, pattern: str, expected: list[str]) -> None:
    world.push(NEW, "v1", "v1.2", "v2", "latest")
    plan = world.plan(world.rule(select=TagPattern(pattern)))
    assert [one.source.rpartition(":")[2] for one in plan.images] == expected


def test_named_tags_keep_their_order_and_get_their_destination_tags(world: World) -> None:
    world.push(NEW, "b", "a")
    plan = world.plan(world.rule("b", "a", to_tags=("x", "y")))
    assert [(one.source[-1], one.destination[-1]) for one in plan.images] == [("b", "x"), ("a", "y")]
    assert kinds(world.source) == Counter({"HEAD manifest": 2})


@pytest.mark.parametrize("to_tags", [("stable",), None], ids=["with-a-tag", "by-digest-only"])
def test_a_digest_is_planned(world: World, to_tags: tuple[str, ...] | None) -> None:
    world.push(NEW)
    rule = world.rule(select=ByDigest(NEW.digest), to_tags=to_tags)
    (image,) = world.plan(rule).images
    assert (image.state, image.source_digest) == ("new", NEW.digest)
    assert image.destination.endswith(":stable" if to_tags else f"@{NEW.digest}")


@pytest.mark.parametrize("select", [AllTags(), TagPattern("^nothing$")], ids=["all", "pattern"])
def test_a_rule_that_matches_no_tag_fails_unless_that_is_fine(world: World, select: TagPattern | AllTags) -> None:
    world.push(NEW, "v1")
    world.source.on("GET", "/tags/list", answer(200, body=b'{"tags": null}'))
    (row,) = world.plan(world.rule(select=select)).images
    assert (row.state, row.whole_rule) == ("failed", True)
    assert "matches no tag of the source repository; check the selection, or set allow_empty: true" in (row.error or "")
    assert world.plan(world.rule(select=select, allow_empty=True)).images == ()


def test_a_repository_that_is_not_there_fails_its_rule_alone(world: World) -> None:
    world.push(NEW, "v1")
    plan = world.plan(world.rule(name="missing", to=["a", "b"]), world.rule("v1"))
    assert [(one.rule, one.state, one.whole_rule) for one in plan.images] == [
        (0, "failed", True),
        (0, "failed", True),
        (1, "new", False),
    ]
    assert "404 NAME_UNKNOWN" in (plan.images[0].error or "")
    assert plan.images[0].source == str(world.at(world.source, "missing"))
    assert plan.images[1].destination == str(world.at(world.destination, "b"))


# What goes wrong


def test_one_image_that_can_not_be_compared_does_not_stop_the_others(world: World) -> None:
    world.push(NEW, "v1", "v2", "v3")
    world.destination.on(None, "/manifests/v2", answer(403, body=b'{"errors": [{"code": "DENIED", "message": "no"}]}'))
    plan = world.plan(world.rule("v1", "v2", "v3"))
    assert [one.state for one in plan.images] == ["new", "failed", "new"]
    assert plan.images[1].source_digest == NEW.digest
    assert "answered 403 DENIED: no" in (plan.images[1].error or "")


@pytest.mark.parametrize(("silent", "temporary"), [(True, True), (False, False)], ids=["no-answer", "no-rights"])
def test_a_failure_says_whether_it_may_pass_by_itself(world: World, silent: bool, temporary: bool) -> None:
    world.push(NEW, "v1")
    world.retries = 0
    world.source.on(None, "/manifests/", wait() if silent else answer(403))
    (image,) = world.plan(world.rule("v1")).images
    assert (image.state, image.temporary) == ("failed", temporary)


# Pairs that meet


def test_the_same_pair_twice_is_planned_once(world: World) -> None:
    world.push(NEW, "v1", "v2")
    plan = world.plan(world.rule("v1", "v1"), world.rule())
    assert [(one.rule, one.source[-2:]) for one in plan.images] == [(0, "v1"), (1, "v2")]


def test_different_content_for_one_destination_fails_both(world: World) -> None:
    world.push(NEW, "v1", name="one")
    world.push(OLD, "v1", name="two")
    plan = world.plan(world.rule(name="one", to="app"), world.rule(name="two", to="app"), world.rule("v1", name="one"))
    assert [one.state for one in plan.images] == ["failed", "failed", "new"]
    for one in plan.images[:2]:
        assert "would be written from several sources with different content" in (one.error or "")
        assert "(rule 0)" in (one.error or "")
        assert "(rule 1)" in (one.error or "")


def test_the_same_content_for_one_destination_is_fine(world: World) -> None:
    world.push(NEW, "v1", name="one")
    world.push(NEW, "v1", name="two")
    assert states(world, world.rule(name="one", to="app"), world.rule(name="two", to="app")) == ["new", "new"]


def test_filters_that_give_one_destination_different_content_fail_both(world: World) -> None:
    world.push(images.index(), "v1")
    rules = [world.rule("v1", platforms=[name]) for name in ("linux/amd64", "linux/arm64")]
    assert states(world, *rules) == ["failed", "failed"]


# Platforms


def test_a_filtered_index_costs_one_more_get_and_no_copy_when_it_is_there(world: World) -> None:
    world.push(images.index(), "v1")
    rule = world.rule("v1", platforms=["linux/arm64"])
    (image,) = world.plan(rule).images
    assert image.state == "new"
    assert image.filtered_digest not in (None, image.source_digest)
    world.run(rule)
    world.forget()
    (image,) = world.plan(rule).images
    assert (image.state, image.destination_digest) == ("same", image.filtered_digest)
    assert kinds(world.source) == Counter({"HEAD manifest": 1, "GET manifest": 1})
    assert kinds(world.destination) == Counter({"HEAD manifest": 1})


def test_a_single_image_that_is_the_same_is_not_fetched_for_its_platform(world: World) -> None:
    for front in (world.source, world.destination):
        world.push(images.image(), "v1", front=front)
    assert states(world, world.rule("v1", platforms=["linux/amd64"])) == ["same"]
    assert kinds(world.source) == Counter({"HEAD manifest": 1})


def test_an_image_for_no_wanted_platform_fails(world: World) -> None:
    world.push(images.image(), "single")
    world.push(images.index(), "index")
    plan = world.plan(world.rule("single", "index", platforms=["windows/amd64"]))
    assert [one.state for one in plan.images] == ["failed", "failed"]
    assert "has nothing for windows/amd64; its platforms: linux/amd64" in (plan.images[0].error or "")
    assert "its platforms: linux/amd64, linux/arm64" in (plan.images[1].error or "")


def test_images_named_one_by_one_are_compared_in_that_order(world: World) -> None:
    world.push(NEW, "v1", "v2")
    world.push(NEW, "v2", front=world.destination)
    rule = world.rule(select=Tags(("v1", "v2")))
    with world.engine(rule) as engine:
        wanted = [Wanted(rule, *pair) for pair in rule.pairs()]
        plan = engine.compare(reversed(wanted))
    assert [(one.source[-2:], one.state) for one in plan.images] == [("v2", "same"), ("v1", "new")]


def test_a_rule_that_may_be_empty_and_is_leaves_a_note(world: World) -> None:
    world.push(NEW, "v1")
    plan = world.plan(world.rule("v1"), world.rule(select=TagPattern("^none"), allow_empty=True))
    assert len(plan.images) == 1
    (note,) = plan.notes
    assert note.startswith(f"rule 1: {world.source.host}/")
    assert note.endswith(":/^none/ matches no tag, which it allows (allow_empty)")


def test_a_plan_of_many_tags_takes_little_memory_for_each() -> None:
    class Told:
        """A registry that has every tag, without a server whose memory would be counted, too."""

        lists_digests = counts_pulls = False

        def client(self, repository: Repository) -> Told:
            return self

        def tag_list(self, path: str) -> TagList:
            return TagList([f"v1.0.{number}" for number in range(100)])

        def head_manifest(self, path: str, reference: str, expected: str | None = None) -> ManifestHead:
            return ManifestHead(digest_of(f"{path.partition('/')[2]}:{reference}".encode()), "type")

    def rule(index: int) -> Rule:
        source, destination = (Repository("registry.example", f"{side}/app{index}") for side in ("a", "b"))
        return Rule(index, source, AllTags(), (Destination(destination),))

    rules = [rule(index) for index in range(40)]
    with ThreadPoolExecutor(4) as executor:
        planner = Planner(Told(), executor, Progress())  # type: ignore[arg-type]
        planner.plan(rules[:1])
        tracemalloc.start()
        try:
            assert planner.plan(rules).totals["same"] == 4000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak / 4000 < 1500
