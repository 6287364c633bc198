from __future__ import annotations

from airflow_imagesync.domain.unit import Unit, UnitImage
from airflow_imagesync.engine.units import run_unit
from devtools import images
from tests.support.world import World, kinds

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")
TWO = images.image([images.Blob(b"two" * 1000)], "linux/amd64")


def test_what_an_earlier_try_copied_is_forced_in_no_rule(world: World) -> None:
    """Neither in one that names its images, nor in one that is carried whole, whose images the planner finds."""
    for tag in ("v1", "v2"):
        world.push(ONE, tag)
        world.push(TWO, tag, name="other")
        world.push(ONE, tag, front=world.destination)
    whole = world.rule(force=True)
    named = world.rule("v1", index=1, name="other", force=True)
    named_image = (f"{named.source}:v1", f"{named.destinations[0].repository}:v1")
    unit = Unit("both", (whole, named), (UnitImage(0, 1, *named_image),), whole=(0,))
    done = {(f"{whole.source}:v1", f"{whole.destinations[0].repository}:v1")}

    with world.engine(whole, named) as engine:
        first = run_unit(engine, unit, done=done)
    assert {one.source.rpartition("/")[2]: one.state for one in first.images} == {
        "other:v1": "copied",
        "app:v1": "same",
        "app:v2": "copied",
    }
    world.forget()
    with world.engine(whole, named) as engine:
        again = run_unit(engine, unit, done={(one.source, one.destination) for one in first.images})
    assert {one.state for one in again.images} == {"same"}
    # The list of the tags, and of each image a HEAD on each side.
    assert kinds(world.source) == {"GET tags": 1, "HEAD manifest": 3}
    assert kinds(world.destination) == {"HEAD manifest": 3}
