from __future__ import annotations

import pytest

from airflow_imagesync.domain.pilot import pilot_positions
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.errors import ConfigError


def pair(rule: int, name: str, state: PairState = PairState.NEW) -> ImagePair:
    return ImagePair(rule, f"src.io/{name}", f"dst.io/mirror/{name}", state)


PLAN = Plan(
    (
        pair(0, "shop/web:1", PairState.SAME),
        pair(0, "shop/web:2"),
        pair(0, "shop/web:3"),
        pair(1, "shop/api:1", PairState.CHANGED),
        pair(1, "shop/api:2"),
        pair(2, "base/lost", PairState.FAILED),
    )
)


@pytest.mark.parametrize(
    ("pilot", "expected"),
    [
        pytest.param("1", {1}, id="one"),
        pytest.param(" 2 ", {1, 3}, id="each-rule-in-turn"),
        pytest.param("3", {1, 2, 3}, id="then-the-first-again"),
        pytest.param("100", {1, 2, 3, 4}, id="more-than-there-are"),
        pytest.param("*/web:*", {1, 2}, id="pattern-of-both-sides"),
        pytest.param("src.io/shop/api:2", {4}, id="a-whole-source"),
        pytest.param("mirror/shop/web:3", {2}, id="a-destination-without-its-registry"),
        pytest.param("*:2, base/*", {1, 4, 5}, id="several"),
        pytest.param("shop/web:1", set(), id="one-that-is-the-same"),
        pytest.param("Shop/*", None, id="capital-letters-are-others"),
        pytest.param("shop/wbe:*", None, id="mistyped"),
        pytest.param("0", None, id="nothing"),
        pytest.param("-1", None, id="less-than-nothing"),
    ],
)
def test_what_goes_first(pilot: str, expected: set[int] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match=r"^pilot: "):
            pilot_positions(PLAN, pilot)
    else:
        assert pilot_positions(PLAN, pilot) == expected


def test_where_nothing_is_planned_no_pattern_is_mistyped() -> None:
    assert pilot_positions(Plan(), "shop/*") == set()
