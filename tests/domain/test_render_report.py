from __future__ import annotations

import json

import pytest
import yaml
from markdown_it import MarkdownIt  # comes with rich

from airflow_imagesync.domain import render
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def result(name: str, state: ResultState, **values: object) -> ImageResult:
    return ImageResult(0, f"a.io/{name}:1", f"b.io/{name}:1", state, **values)  # type: ignore[arg-type]


COPIED = result(
    "copied",
    ResultState.COPIED,
    source_digest=ONE,
    digest=TWO,
    bytes_copied=3 * 1024 * 1024,
    bytes_mounted=2048,
    bytes_skipped=5,
    seconds=1.25,
    note="digest changes: platform filter",
)
SAME = result("same", ResultState.SAME, source_digest=ONE, digest=ONE)
FAILED = result("failed", ResultState.FAILED, source_digest=ONE, error="HTTP 500 from b.io", seconds=0.5)
REPORT = SyncReport((COPIED, SAME, FAILED), 61.0)


def test_text_names_failures_first_and_counts_what_is_the_same() -> None:
    report = render.with_failing(REPORT, {"failing": {FAILED.source: 2}})
    lines = render.report_text(report).splitlines()
    assert lines == [
        "FAILED a.io/failed:1 -> b.io/failed:1",
        "    HTTP 500 from b.io",
        f"    rule 0, failing for 3 runs in a row, source {ONE}",
        "COPIED a.io/copied:1 -> b.io/copied:1",
        f"    {TWO} from {ONE}; 3.0 MiB copied, 2.0 KiB mounted, 5 B skipped, 1.2 s",
        "    digest changes: platform filter",
        "3 images: 1 copied, 1 same, 1 failed; 3.0 MiB copied, 2.0 KiB mounted, 5 B skipped, 1 min 01 s",
    ]


def test_an_error_over_several_lines_stays_one_line_in_the_text() -> None:
    report = SyncReport((result("x", ResultState.FAILED, error="first\nsecond\x1b[2J"),))
    assert "    first second\\x1b[2J" in render.report_text(report).splitlines()


def test_thousands_of_same_images_are_only_counted() -> None:
    report = SyncReport((FAILED, *(result(f"r{number}", ResultState.SAME) for number in range(5000))))
    assert len(render.report_text(report).splitlines()) == 4
    markdown = render.report_markdown(report)
    assert "There was nothing to do for 5,000 images." in markdown
    assert "a.io/r4999" not in markdown
    assert len(render.report_document(report)["images"]) == 5001


def test_a_same_image_with_a_note_is_shown() -> None:
    report = SyncReport((SAME, result("noted", ResultState.SAME, digest=TWO, note="digest changes: platform filter")))
    for text in (render.report_text(report), render.report_markdown(report)):
        assert "a.io/noted:1" in text
        assert "a.io/same:1" not in text


def cells(line: str) -> list[str]:
    """Split a row of a Markdown table as GitHub does: at pipes without a backslash."""
    return [cell.strip() for cell in line.replace("\\|", "\0").strip().strip("|").split("|")]


def test_markdown_survives_odd_characters() -> None:
    nasty = "a | b\n# c <script>`x` \\ *bold* [link](http://x) \x1b[0m"
    odd = ImageResult(0, "a.io/x:/a|`b`/", "b.io/x", ResultState.FAILED, error=nasty, note="a|b\nc")
    document = render.report_markdown(SyncReport((odd,)), {"configuration": "a|b_c_d.yaml"})
    table = [line for line in document.splitlines() if line.startswith("|")]
    assert len(table) == 3
    head, _, row = (cells(line) for line in table)
    assert len(head) == len(row)
    found = dict(zip(head, row, strict=True))
    assert found["Source"] == "`` a.io/x:/a\0`b`/ ``"
    assert found["Cause"] == ("a \0 b<br>\\# c &lt;script&gt;\\`x\\` \\\\ \\*bold\\* \\[link\\](http://x) \\\\x1b\\[0m")
    assert found["Note"] == "a\0b<br>c"
    assert "- configuration: a\\|b\\_c\\_d.yaml" in document


@pytest.mark.parametrize(
    "text",
    [
        "a | b `c` <b>bold</b> &amp; \\\\ _it_ **no** [x](http://y) ~~z~~ # h $m$",
        "``` fence | and ` tick",
        "1. no list, ![no image](x), <http://no.link>, trailing backslash \\\\",
    ],
)
def test_a_markdown_reader_sees_what_was_written(text: str) -> None:
    odd = ImageResult(0, f"a.io/x:/{text}/", "b.io/x", ResultState.FAILED, error=text, note=f"{text}\n{text}")
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(render.report_markdown(SyncReport((odd,)), {"configuration": text}))
    )
    seen = []
    for token in tokens:
        if token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "text_special", "code_inline", "html_inline", "softbreak"}
            html = {child.content for child in token.children or () if child.type == "html_inline"}
            assert html <= {"<br>"}
            seen.append("".join(child.content for child in token.children or ()))
    assert f"configuration: {text}" in seen
    assert seen.count(text) == 1  # the cause
    assert seen.count(f"a.io/x:/{text}/") == 1
    assert seen.count(f"{text}<br>{text}") == 1


def test_markdown_has_every_figure_of_an_image() -> None:
    document = render.report_markdown(render.with_failing(REPORT, None))
    titles = [line for line in document.splitlines() if line.startswith("#")]
    assert titles == ["# Image sync report", "## Failed (1)", "## Copied (1)", "## Same (1)"]
    rows = [cells(line) for line in document.splitlines() if line.startswith("| `")]
    assert rows[0][:5] == ["`a.io/failed:1`", "`b.io/failed:1`", "HTTP 500 from b.io", "0", "1 run"]
    assert rows[1][2:] == [
        f"`{ONE}`", f"`{TWO}`", "3.0 MiB", "2.0 KiB", "5 B", "1.2 s", "digest changes: platform filter",
    ]  # fmt: skip


def test_document_adds_to_the_object_of_the_command_line() -> None:
    report = render.with_failing(REPORT, None)
    document = json.loads(render.json_text(render.report_document(report, {"began": "now"})))
    assert document["format"] == render.FORMAT
    assert document["kind"] == "run"
    assert document["metadata"] == {"began": "now"}
    assert document["totals"] == report.totals
    assert [row["state"] for row in document["images"]] == ["failed", "copied", "same"]
    assert document["images"][1] == COPIED.as_dict()
    assert document["failing"] == {FAILED.source: 1}
    assert document["notes"] == [
        {"rule": 0, "source": COPIED.source, "destination": COPIED.destination, "note": COPIED.note}
    ]


def test_failing_counts_go_on_from_run_to_run() -> None:
    earlier = None
    for run in (1, 2, 3):
        report = render.with_failing(REPORT, earlier)
        assert report.failing == {FAILED.source: run}
        earlier = json.loads(render.json_text(render.report_document(report)))
    healed = render.with_failing(SyncReport((COPIED,)), earlier)
    assert healed.failing == {}
    again = render.with_failing(REPORT, render.report_document(healed))
    assert again.failing == {FAILED.source: 1}


def test_failing_counts_read_the_output_of_run_too() -> None:
    assert render.failing_counts(REPORT.as_dict(), REPORT.images) == {FAILED.source: 2}


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        {},
        {"failing": 3, "images": 4},
        {"failing": {FAILED.source: "many"}, "images": [1, {"state": "failed", "source": 2}]},
        {"failing": {FAILED.source: -1}},
        {"kind": "plan", "images": [{"state": "failed", "source": FAILED.source}]},
    ],
)
def test_an_earlier_report_that_says_nothing_useful_counts_as_none(earlier: dict[str, object] | None) -> None:
    assert render.failing_counts(earlier, REPORT.images) == {FAILED.source: 1}


def test_a_source_failing_at_two_destinations_counts_once_a_run() -> None:
    images = [ImageResult(0, "a.io/x:1", f"{to}.io/x:1", ResultState.FAILED) for to in "bc"]
    assert render.failing_counts({"failing": {"a.io/x:1": 4}}, images) == {"a.io/x:1": 5}


def test_success_list_has_what_was_copied_and_nothing_else() -> None:
    second = ImageResult(0, COPIED.source, "c.io/copied:1", ResultState.COPIED)
    report = SyncReport((COPIED, SAME, FAILED, second))
    expected = {"a.io/copied:1": ["b.io/copied:1", "c.io/copied:1"]}
    assert json.loads(render.success_text(report, as_json=True)) == expected
    text = render.success_text(report, as_json=False)
    assert yaml.safe_load(text) == expected
    assert text == "a.io/copied:1:\n- b.io/copied:1\n- c.io/copied:1\n"


def test_success_list_of_nothing_is_an_empty_mapping() -> None:
    assert yaml.safe_load(render.success_text(SyncReport(), as_json=False)) == {}
