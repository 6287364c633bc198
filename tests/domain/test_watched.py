from __future__ import annotations

import json

import pytest

from airflow_imagesync.domain.watched import Difference, Sight, compare, dump_known, load_known, mark, parts_of

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_to_a_first_look_nothing_is_new() -> None:
    assert compare(None, Sight({"a": ONE}, {"b"})) == Difference({"a": ONE, "b": ""})


def test_new_and_moved_tags_are_told_and_gone_ones_are_forgotten() -> None:
    found = compare({"a": ONE, "b": ONE, "gone": ONE}, Sight({"a": ONE, "b": TWO, "c": TWO}))
    assert found == Difference({"a": ONE, "b": TWO, "c": TWO}, new=("c",), changed=("b",))
    assert found.tags == ["b", "c"]


def test_what_was_not_learned_stays_as_it_was() -> None:
    assert compare({"a": ONE, "b": ""}, Sight({}, {"a", "b", "c"})) == Difference({"a": ONE, "b": ""})


def test_a_digest_that_was_not_known_is_learned_in_silence() -> None:
    assert compare({"a": ""}, Sight({"a": ONE})) == Difference({"a": ONE})


def test_a_stored_digest_is_compared_as_far_as_it_is_stored() -> None:
    known = load_known(list(dump_known("r/a", {"a": ONE, "b": ONE})))
    assert known == {"a": mark(ONE), "b": mark(ONE)}
    assert compare(known, Sight({"a": ONE, "b": TWO})).tags == ["b"]


def test_many_tags_are_stored_in_parts_that_fit() -> None:
    known = {f"v{number}-a-rather-long-tag-of-a-nightly-build": ONE for number in range(3000)}
    parts = dump_known("registry.example.com/team/app", known)
    assert len(parts) > 1
    assert all(len(json.dumps(part)) < 64_000 for part in parts)
    assert {parts_of(part) for part in parts} == {len(parts)}
    assert load_known(list(parts)) == dict.fromkeys(known, mark(ONE))
    assert load_known(list(dump_known("r/a", {}))) == {}


@pytest.mark.parametrize("value", [None, "x", {}, {"parts": 0}, {"parts": "2"}, {"parts": 1, "tags": ["a"]}])
def test_what_somebody_else_stored_is_not_taken_for_ours(value: object) -> None:
    assert parts_of(value) in (0, 1)
    assert load_known([value]) is None
