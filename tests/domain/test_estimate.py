from __future__ import annotations

import json
import math

import pytest

from airflow_imagesync.domain.estimate import (
    ASSUMED_RATE,
    SECONDS_PER_IMAGE,
    TELLING_BYTES,
    Estimate,
    ToRegistry,
    measured_rate,
)

MIB = 1 << 20
ESTIMATE = Estimate(
    sizes=(100 * MIB, None, None, 60 * MIB),
    registries={"b.io": ToRegistry(2, 1, 90 * MIB, 10 * MIB), "c.io": ToRegistry(1, 0, 60 * MIB)},
    unknown={"docker.io counts pulls": 1},
)


def test_it_adds_up_what_goes_to_all_registries() -> None:
    assert (ESTIMATE.images, ESTIMATE.unknown_images) == (3, 1)
    assert (ESTIMATE.size, ESTIMATE.to_send, ESTIMATE.there) == (160 * MIB, 150 * MIB, 10 * MIB)


def test_the_time_is_that_of_the_bytes_and_of_each_known_image() -> None:
    assert ESTIMATE.seconds == pytest.approx(150 * MIB / ASSUMED_RATE + 2 * SECONDS_PER_IMAGE)
    assert not ESTIMATE.is_measured
    measured = Estimate(ESTIMATE.sizes, ESTIMATE.registries, ESTIMATE.unknown, rate=10.0 * MIB)
    assert measured.seconds == pytest.approx(15 + 2 * SECONDS_PER_IMAGE)
    assert measured.is_measured


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_can_not_be_is_as_good_as_none(rate: float | None) -> None:
    estimate = Estimate((MIB,), {"b.io": ToRegistry(1, 0, MIB)}, rate=rate)
    assert estimate.bytes_per_second == ASSUMED_RATE
    assert not estimate.is_measured


def test_of_unknown_sizes_alone_no_time_is_told() -> None:
    assert Estimate((None,), {"b.io": ToRegistry(1, 1)}, {"why": 1}).seconds is None
    assert Estimate().seconds == 0


def test_it_goes_through_xcom_and_comes_back() -> None:
    assert Estimate.load(json.loads(json.dumps(ESTIMATE.dump()))) == ESTIMATE


def test_as_dict_has_every_figure() -> None:
    assert json.loads(json.dumps(ESTIMATE.as_dict())) == {
        "images": 3,
        "unknown_images": 1,
        "bytes": 160 * MIB,
        "bytes_to_send": 150 * MIB,
        "bytes_there": 10 * MIB,
        "seconds": 3.2,
        "bytes_per_second": 50 * MIB,
        "rate": "assumed",
        "registries": {
            "b.io": {"images": 2, "unknown_images": 1, "bytes_to_send": 90 * MIB, "bytes_there": 10 * MIB},
            "c.io": {"images": 1, "unknown_images": 0, "bytes_to_send": 60 * MIB, "bytes_there": 0},
        },
        "unknown": {"docker.io counts pulls": 1},
    }


def test_an_estimate_of_another_plan_is_refused() -> None:
    assert ESTIMATE.sizes_of("abcd") == ESTIMATE.sizes
    with pytest.raises(ValueError, match="a plan of 4 images, not of one of 3"):
        ESTIMATE.sizes_of("abc")


@pytest.mark.parametrize(
    ("totals", "rate"),
    [
        ({"bytes_copied": 850 * MIB, "seconds": 10.0}, 85.0 * MIB),
        ({"bytes_copied": TELLING_BYTES, "seconds": 1}, float(TELLING_BYTES)),
        ({"bytes_copied": TELLING_BYTES - 1, "seconds": 1}, None),
        ({"bytes_copied": 850 * MIB, "seconds": 0}, None),
        ({"bytes_copied": 850 * MIB, "seconds": math.nan}, None),
        ({"bytes_copied": "much", "seconds": [1]}, None),
        ({"new": 3}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_rate_of_a_run_is_taken_where_its_totals_tell(totals: dict[str, object] | None, rate: float | None) -> None:
    assert measured_rate(totals) == rate
