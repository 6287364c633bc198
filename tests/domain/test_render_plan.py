from __future__ import annotations

import json
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt  # comes with rich

from airflow_imagesync.domain import render
from airflow_imagesync.domain.estimate import Estimate, ToRegistry
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.render.plan import MAX_UI_BYTES

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
PLAN = Plan(
    (
        ImagePair(0, "a.io/x:1", "b.io/x:1", PairState.NEW, ONE, None, TWO),
        ImagePair(0, "a.io/x:2", "b.io/x:2", PairState.CHANGED, ONE, TWO),
        ImagePair(0, "a.io/x:3", "b.io/x:3", PairState.SAME, ONE, ONE),
        ImagePair(1, "a.io/gone", "b.io/gone", PairState.FAILED, error="no such | repository", whole_rule=True),
    ),
    ("rule 2 matches nothing",),
)


def test_plan_text() -> None:
    assert render.plan_text(PLAN).splitlines() == [
        "FAILED a.io/gone -> b.io/gone",
        "    no such | repository",
        "NEW a.io/x:1 -> b.io/x:1",
        f"    {ONE}",
        f"    digest changes: platform filter ({TWO})",
        "CHANGED a.io/x:2 -> b.io/x:2",
        f"    {ONE}, replaces {TWO}",
        "rule 2 matches nothing",
        "4 images: 1 new, 1 changed, 1 same, 1 failed",
    ]


def test_plan_markdown_and_document() -> None:
    markdown = render.plan_markdown(PLAN)
    assert "no such \\| repository" in markdown
    assert f"digest changes: platform filter ({TWO})" in markdown
    assert "a.io/x:3" not in markdown
    assert "Nothing to do for 1 image." in markdown
    document = json.loads(render.json_text(render.plan_document(PLAN)))
    assert document["kind"] == "plan"
    assert [row["state"] for row in document["images"]] == ["failed", "new", "changed", "same"]
    assert document["totals"] == {"new": 1, "changed": 1, "same": 1, "failed": 1}
    assert [note["note"] for note in document["notes"]] == [
        f"digest changes: platform filter ({TWO})",
        "rule 2 matches nothing",
    ]


MIB = 1 << 20
ESTIMATE = Estimate(
    sizes=(100 * MIB, None, None, None),
    registries={"b.io": ToRegistry(images=2, unknown=1, to_send=80 * MIB, there=20 * MIB)},
    unknown={"a.io counts pulls": 1},
    rate=85.0 * MIB,
)


def tables(markdown: str) -> list[list[list[str]]]:
    """The tables of a document as a reader of Markdown sees them: rows of cells."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level >= 4:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def many(count: int, *, state: PairState = PairState.NEW, length: int = 8) -> tuple[ImagePair, ...]:
    name = "r" * min(length, 200)
    return tuple(
        ImagePair(0, f"a.io/{name}:v{n}", f"b.io/{name}:v{n}", state, f"sha256:{n:064x}") for n in range(count)
    )


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (
            Estimate((1,), {"b.io": ToRegistry(1, 0, 11040 * MIB)}, rate=85.0 * MIB),
            "about 2 min 10 s at 85.0 MiB/s (the rate of the last run)",
        ),
        (Estimate((1,), {"b.io": ToRegistry(1, 0, 500 * MIB)}), "about 11 s at 50.0 MiB/s (assumed)"),
        (Estimate((1,), {"b.io": ToRegistry(1, 0, 1)}), "about 1 s at 50.0 MiB/s (assumed)"),
        (Estimate((1,), {"b.io": ToRegistry(36000, 0, 0)}), "about 1 h 00 min at 50.0 MiB/s (assumed)"),
        (Estimate((None,), {"b.io": ToRegistry(1, 1)}, {"why": 1}), "unknown"),
    ],
)
def test_a_time_says_what_it_rests_on(estimate: Estimate, text: str) -> None:
    assert render.time_text(estimate) == text


def test_the_summary_of_an_estimate_says_what_it_leaves_out() -> None:
    assert render.estimate_summary(ESTIMATE) == (
        "2 images to copy: 100.0 MiB in all, at most 80.0 MiB to send, "
        "about 2 s at 85.0 MiB/s (the rate of the last run), without 1 image of unknown size"
    )
    nothing = Estimate((None, None), {"b.io": ToRegistry(2, 2)}, {"docker.io counts pulls": 2})
    assert render.estimate_summary(nothing) == "2 images to copy, of unknown size"


def test_plan_text_with_sizes() -> None:
    lines = render.plan_text(PLAN, ESTIMATE).splitlines()
    assert f"    {ONE}, 100.0 MiB" in lines
    assert f"    {ONE}, replaces {TWO}" in lines
    assert lines[-3:] == [
        "1 image of unknown size: a.io counts pulls",
        render.estimate_summary(ESTIMATE),
        render.plan_summary(PLAN),
    ]


def test_markdown_begins_with_counts_bytes_and_the_estimate() -> None:
    markdown = render.plan_markdown(PLAN, estimate=ESTIMATE)
    states, registries, failed, new, changed = tables(markdown)
    assert states == [
        ["State", "Images", "Size"],
        ["Failed", "1", ""],
        ["New", "1", "100.0 MiB"],
        ["Changed", "1", "unknown"],
        ["Same", "1", ""],
    ]
    assert registries == [
        ["Destination registry", "Images", "To send at most", "Already there"],
        ["b.io", "2", "80.0 MiB + 1 unknown", "20.0 MiB"],
    ]
    assert failed == [
        ["Source", "Destination", "Cause", "Rule"],
        ["a.io/gone", "b.io/gone", "no such | repository", "1"],
    ]
    assert new == [
        ["Source", "Destination", "Size", "Source digest", "Note"],
        ["a.io/x:1", "b.io/x:1", "100.0 MiB", ONE, f"digest changes: platform filter ({TWO})"],
    ]
    assert changed == [
        ["Source", "Destination", "Size", "Source digest", "Destination digest"],
        ["a.io/x:2", "b.io/x:2", "unknown", ONE, TWO],
    ]
    at = [
        markdown.index(part)
        for part in ("| State |", "2 images to copy: ", "| Destination registry |", "- 1 image of unknown", "## Failed")
    ]
    assert at == sorted(at)


def test_markdown_without_an_estimate_has_no_sizes() -> None:
    for text in (render.plan_markdown(PLAN), render.plan_markdown(PLAN, max_rows=10)):
        assert "Size" not in text
        assert "unknown" not in text
        assert tables(text)[0] == [["State", "Images"], ["Failed", "1"], ["New", "1"], ["Changed", "1"], ["Same", "1"]]


def test_for_a_user_interface_digests_are_short() -> None:
    by_digest = ImagePair(0, f"a.io/x@{ONE}", f"b.io/x@{ONE}", PairState.NEW, ONE, filtered_digest=TWO)
    failed = ImagePair(
        0, "a.io/y", "b.io/y", PairState.FAILED, error=f"GET http://a.io/v2/y/manifests/{ONE}: 404\nnot\nthere"
    )
    text = render.plan_markdown(Plan((*PLAN.images, by_digest, failed)), max_rows=10)
    assert "1" * 13 not in text
    assert "2" * 13 not in text
    _, failures, new, changed = tables(text)
    assert failures[2][2] == "GET http://a.io/v2/y/manifests/sha256:111111111111…: 404 not there"
    assert new[2] == [
        "a.io/x@sha256:111111111111…",
        "b.io/x@sha256:111111111111…",
        "1" * 12,
        "digest changes: platform filter (sha256:222222222222…)",
    ]
    assert changed[1][2:] == ["1" * 12, "2" * 12]


def test_for_a_user_interface_so_many_images_are_shown_of_each_state() -> None:
    plan = Plan((*many(2, state=PairState.FAILED), *many(5000), *many(3, state=PairState.CHANGED)))
    text = render.plan_markdown(plan, max_rows=50)
    _, failed, repositories, new, changed = tables(text)
    assert [len(one) - 1 for one in (failed, new, changed)] == [2, 45, 3]
    assert repositories == [
        ["Source", "Destination", "New", "Changed"],
        ["a.io/rrrrrrrr", "b.io/rrrrrrrr", "5,000", "3"],
    ]
    assert "\nand 4,955 more images\n" in text
    assert "a.io/rrrrrrrr:v45" not in text
    assert text.count("more image") == 1
    assert "| New | 5,000 |" in text


def test_of_what_is_not_shown_the_repositories_are() -> None:
    pairs = [ImagePair(0, f"a.io/r{n % 7}:v{n}", f"b.io/r{n % 7}:v{n}", PairState.NEW, ONE) for n in range(70)]
    estimate = Estimate((MIB,) * 69 + (None,), {"b.io": ToRegistry(70, 1, MIB)}, {"why": 1})
    text = render.plan_markdown(Plan(tuple(pairs)), estimate=estimate, max_rows=5)
    _, _, repositories, new = tables(text)
    assert "## Repositories (7)" in text
    assert repositories[1] == ["a.io/r0", "b.io/r0", "10", "0", "10.0 MiB"]
    assert len(repositories) == len(new) == 1 + 5
    assert "\nand 2 more\n" in text
    all_of_them = render.plan_markdown(Plan(tuple(pairs)), estimate=estimate, max_rows=7)
    assert "| `a.io/r6` | `b.io/r6` | 10 | 0 | 9.0 MiB + 1 unknown |" in all_of_them
    assert "Repositories" not in render.plan_markdown(Plan(tuple(pairs)), estimate=estimate, max_rows=70)


@pytest.mark.parametrize("length", [8, 200, 5000])
def test_for_a_user_interface_it_is_never_longer_than_an_xcom_may_be(length: int) -> None:
    plan = Plan(many(3000, length=length), tuple(f"rule {n} matches nothing{'.' * length}" for n in range(1000)))
    estimate = Estimate(
        (MIB,) * 3000, {f"r{n}.io": ToRegistry(1, 1) for n in range(500)}, {f"{n}{'!' * length}": 1 for n in range(500)}
    )
    text = render.plan_markdown(plan, estimate=estimate, max_rows=1000)
    assert len(text.encode()) <= MAX_UI_BYTES
    shown = len(tables(text)[3]) - 1
    assert shown >= 60
    assert f"and {3000 - shown:,} more images" in text
    assert "- and 980 more" in text
    assert len(render.plan_markdown(plan, estimate=estimate)) > MAX_UI_BYTES


def test_hostile_texts_still_fit() -> None:
    """Each of these characters takes many bytes when it is escaped."""
    rows = tuple(replace(one, error="\U0010fffe" * 10_000) for one in many(500, state=PairState.FAILED))
    text = render.plan_markdown(Plan(rows), max_rows=500)
    assert len(text.encode()) <= MAX_UI_BYTES
    assert tables(text)[0][1] == ["Failed", "500"]


def test_no_rows_at_all_are_no_table() -> None:
    text = render.plan_markdown(Plan(many(3)), max_rows=0)
    assert len(tables(text)) == 1
    assert "a.io" not in text


def test_document_with_an_estimate_adds_sizes_and_changes_nothing_else() -> None:
    plain = render.plan_document(PLAN, {"began": "now"})
    document = json.loads(render.json_text(render.plan_document(PLAN, {"began": "now"}, estimate=ESTIMATE)))
    assert [row.pop("size") for row in document["images"]] == [None, 100 * MIB, None, None]
    assert document.pop("estimate") == ESTIMATE.as_dict()
    assert document == plain
    assert plain["images"] == [pair.as_dict() for pair in render.plan_order(PLAN)]


def test_the_estimate_of_another_plan_is_refused() -> None:
    for function in (render.plan_markdown, render.plan_document):
        with pytest.raises(ValueError, match="not of one of 4"):
            function(PLAN, estimate=Estimate((1,)))
