from __future__ import annotations

import json
import re

import pytest
from markdown_it import MarkdownIt  # comes with rich

from airflow_imagesync.domain import render
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.verification import Verification, VerifiedImage, VerifiedState

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
SAME = ImagePair(0, "a.io/x:1", "b.io/x:1", PairState.SAME, ONE, ONE)
NEW = ImagePair(0, "a.io/x:2", "b.io/x:2", PairState.NEW, ONE)
CHANGED = ImagePair(0, "a.io/x:3", "b.io/x:3", PairState.CHANGED, ONE, TWO)
FILTERED = ImagePair(1, "a.io/y:1", "b.io/y:1", PairState.CHANGED, ONE, TWO, THREE)
GONE = ImagePair(2, "a.io/z", "b.io/z", PairState.FAILED, error="no such | repository", whole_rule=True)
BUSY = ImagePair(3, "a.io/w:1", "b.io/w:1", PairState.FAILED, ONE, error="503", temporary=True, retry_at=99.0)


def verified(*pairs: ImagePair, notes: tuple[str, ...] = ()) -> Verification:
    return Verification.of(Plan(pairs, notes))


def test_each_image_has_the_state_and_the_digests_it_was_found_with() -> None:
    found = verified(SAME, NEW, CHANGED, FILTERED, GONE, BUSY)
    assert [
        (one.state.value, one.source_digest, one.expected_digest, one.destination_digest) for one in found.images
    ] == [
        ("same", ONE, ONE, ONE),
        ("missing", ONE, ONE, None),
        ("different", ONE, ONE, TWO),
        ("different", ONE, THREE, TWO),
        ("failed", None, None, None),
        ("failed", ONE, None, None),
    ]
    assert found.totals == {"same": 1, "missing": 1, "different": 2, "failed": 2}
    assert [one.state.value for one in found.deviations] == ["failed", "failed", "different", "different", "missing"]
    assert (found.images[-1].temporary, found.images[-1].retry_at) == (True, 99.0)


def test_what_is_wrong_is_told_with_both_digests_and_what_to_do() -> None:
    same, new, changed, filtered, gone, _ = (
        one.error or "" for one in verified(SAME, NEW, CHANGED, FILTERED, GONE, BUSY).images
    )
    assert same == ""
    assert new.startswith(f"the destination has nothing in place of {ONE}, which the source names; ")
    assert changed.startswith(f"the destination has {TWO} in place of {ONE}, which the source names; ")
    assert filtered.startswith(
        f"the destination has {TWO} in place of {THREE}, which the platform filter makes of the source's {ONE}; "
    )
    assert "sync again" in new
    assert "the tag was moved since the copy, at the source or at the destination: sync again" in changed
    assert gone == "no such | repository"


def test_a_row_for_programs() -> None:
    assert verified(FILTERED).as_dict() == {
        "images": [
            {
                "rule": 1,
                "source": "a.io/y:1",
                "destination": "b.io/y:1",
                "state": "different",
                "source_digest": ONE,
                "destination_digest": TWO,
                "expected_digest": THREE,
                "error": verified(FILTERED).images[0].error,
            }
        ],
        "totals": {"same": 0, "missing": 0, "different": 1, "failed": 0},
    }


@pytest.mark.parametrize(
    ("pairs", "may_pass"),
    [((SAME,), False), ((SAME, BUSY), True), ((BUSY, GONE), False), ((BUSY, CHANGED), False), ((), False)],
)
def test_only_failures_that_may_pass_are_worth_another_try(pairs: tuple[ImagePair, ...], may_pass: bool) -> None:
    assert verified(*pairs).may_pass is may_pass


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ((), "there was no image to verify"),
        ((SAME,), "the one image is the same"),
        ((SAME,) * 1200, "all 1,200 images are the same"),
        ((CHANGED,), "1 of 1 image is not the same: 0 failed, 1 different, 0 missing, 0 same"),
        ((SAME, NEW, GONE), "2 of 3 images are not the same: 1 failed, 0 different, 1 missing, 1 same"),
    ],
)
def test_the_verdict(pairs: tuple[ImagePair, ...], verdict: str) -> None:
    assert render.verification_verdict(verified(*pairs)) == verdict


def test_the_log_has_the_worst_first_and_the_verdict_last() -> None:
    lines = render.verification_text(verified(SAME, NEW, CHANGED, GONE, notes=("rule 4 matches\nno tag",))).splitlines()
    assert [line.split()[0] for line in lines[:6:2]] == ["FAILED", "DIFFERENT", "MISSING"]
    assert lines[0] == "FAILED a.io/z -> b.io/z"
    assert lines[1] == "    no such | repository"
    assert lines[-2:] == [
        "rule 4 matches no tag",
        "3 of 4 images are not the same: 1 failed, 1 different, 1 missing, 1 same",
    ]
    assert not [line for line in lines if "a.io/x:1" in line]


def test_what_is_all_the_same_can_be_signed_off_at_the_first_line() -> None:
    metadata = {"configuration": "sync.yaml", "ended": "2026-01-31T14:05:09+00:00"}
    markdown = render.verification_markdown(verified(SAME, SAME), metadata)
    assert markdown.splitlines() == [
        "# Image verification",
        "",
        "**All 2 images are the same.**",
        "",
        "- configuration: sync.yaml",
        "- ended: 2026-01-31T14:05:09+00:00",
        "",
        "| State | Images |",
        "| --- | ---: |",
        "| Failed | 0 |",
        "| Different | 0 |",
        "| Missing | 0 |",
        "| Same | 2 |",
    ]


def test_what_differs_is_in_tables_with_both_digests() -> None:
    markdown = render.verification_markdown(verified(SAME, NEW, CHANGED, FILTERED, GONE, notes=("a note",)))
    lines = markdown.splitlines()
    assert lines[2] == "**4 of 5 images are not the same: 1 failed, 2 different, 1 missing, 1 same.**"
    assert [line for line in lines if line.startswith("## ")] == ["## Failed (1)", "## Different (2)", "## Missing (1)"]
    assert "- a note" in lines
    assert "| `a.io/z` | `b.io/z` | no such \\| repository | 2 |" in lines
    assert f"| `a.io/x:3` | `b.io/x:3` | 0 | `{ONE}` |  | `{TWO}` |" in lines
    assert f"| `a.io/y:1` | `b.io/y:1` | 1 | `{ONE}` | `{THREE}` | `{TWO}` |" in lines
    assert f"| `a.io/x:2` | `b.io/x:2` | 0 | `{ONE}` |" in lines
    assert "a.io/x:1`" not in markdown
    assert "It was never copied, or was deleted since: sync again." in lines


def test_foreign_text_stays_within_its_cell() -> None:
    wild = VerifiedImage(0, "a.io/x:1", "b.io/x:1", VerifiedState.FAILED, error="<b>no|\n## way</b>\x1b[2J")
    markdown = render.verification_markdown(Verification((wild,)))
    html = MarkdownIt().enable("table").render(markdown)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    assert len(cells) == 4 * 2 + 4
    assert "<b>" not in html
    assert html.count("<h2>") == 1
    assert "\x1b" not in markdown + render.verification_text(Verification((wild,)))


def test_the_document_is_the_object_of_the_command_with_the_worst_first() -> None:
    found = verified(SAME, CHANGED, GONE, notes=("a note",))
    document = json.loads(render.json_text(render.verification_document(found, {"began": "now"})))
    assert (document["kind"], document["metadata"], document["notes"]) == ("verification", {"began": "now"}, ["a note"])
    assert [row["state"] for row in document["images"]] == ["failed", "different", "same"]
    assert sorted(document["images"], key=str) == sorted(found.as_dict()["images"], key=str)
    assert document["totals"] == found.totals
    assert document["summary"] == render.verification_verdict(found)
    assert render.failing_counts(document, []) == {}
