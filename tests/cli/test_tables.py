from __future__ import annotations

import re

import pytest

from airflow_imagesync.cli.tables import check_view, plan_view, run_view
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport

DIGEST = f"sha256:{'1' * 64}"
LONG = f"registry.example.com/{'team/' * 30}app:v1"
REPORT = SyncReport(
    (
        ImageResult(0, "a.io/x:1", LONG, ResultState.COPIED, bytes_copied=3 * 1024 * 1024, seconds=1.5),
        ImageResult(0, "a.io/y:1", "b.io/y:1", ResultState.SAME, seconds=0.1),
        ImageResult(1, "a.io/[red]z:1", "b.io/z:1", ResultState.FAILED, error="no\x1b[2J\nway", seconds=0.2),
    ),
    2.0,
    {"a.io/[red]z:1": 3},
)


def test_a_pipe_gets_one_whole_line_for_each_image() -> None:
    assert run_view(REPORT, all_images=False, terminal=False).splitlines() == [
        "State   Copied   Time   Source         " + "Destination".ljust(len(LONG)) + "  Detail",
        "failed           0.2 s  a.io/[red]z:1  "
        + "b.io/z:1".ljust(len(LONG))
        + "  no\\x1b[2J way; failing for 3 runs in a row",
        f"copied  3.0 MiB  1.5 s  a.io/x:1       {LONG}",
        "3 images: 1 copied, 1 same, 1 failed; 3.0 MiB copied, 2.0 s",
    ]


def test_all_images_are_shown_when_asked_for() -> None:
    lines = run_view(REPORT, all_images=True, terminal=False).splitlines()
    assert [line.split()[0] for line in lines] == ["State", "failed", "copied", "same", "3"]


def test_nothing_to_show_leaves_the_totals() -> None:
    assert run_view(SyncReport(), all_images=False, terminal=False).startswith("0 images: 0 copied")
    assert plan_view(Plan(), all_images=False, terminal=True).startswith("0 images: 0 new")


def test_a_narrow_terminal_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = run_view(REPORT, all_images=False, terminal=True)
    assert "\x1b[31m" in text  # red
    assert "\x1b[2J" not in text
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert all(len(line) <= 60 for line in bare.splitlines())
    assert f"->{LONG}" in re.sub(r"\s", "", bare)
    assert "a.io/[red]z:1" in bare
    assert "…" not in bare


def test_plan_shows_failed_rows_first_and_changed_digests() -> None:
    plan = Plan(
        (
            ImagePair(0, "a.io/x:1", "b.io/x:1", PairState.NEW, filtered_digest=DIGEST),
            ImagePair(0, "a.io/x:2", "b.io/x:2", PairState.SAME),
            ImagePair(1, "a.io/y", "b.io/y", PairState.FAILED, error="not found"),
        ),
        ("a note",),
    )
    assert plan_view(plan, all_images=False, terminal=False).splitlines() == [
        "State   Source    Destination  Detail",
        "failed  a.io/y    b.io/y       not found",
        f"new     a.io/x:1  b.io/x:1     digest changes: platform filter ({DIGEST})",
        "a note",
        "3 images: 1 new, 0 changed, 1 same, 1 failed",
    ]


@pytest.mark.parametrize(
    ("select", "tags", "takes", "gives"),
    [
        ({"all": True}, None, "all tags", "the same tags"),
        ({"tags": ["1", "2"]}, None, "1, 2", "the same tags"),
        ({"tags": ["1", "2"]}, ["a", "b"], "1, 2", "a, b"),
        ({"regex": "^v"}, None, "tags matching /^v/", "the same tags"),
        ({"digest": DIGEST}, None, DIGEST, "the digest only"),
        ({"digest": DIGEST}, ["a"], DIGEST, "a"),
    ],
)
def test_check_says_what_a_rule_means(
    select: dict[str, object], tags: list[str] | None, takes: str, gives: str
) -> None:
    rule = {
        "rule": 0,
        "source": "a.io/x",
        "select": select,
        "source_auth": None,
        "destinations": [{"repository": "b.io/x", "tags": tags, "digest": None, "auth": "b.io"}],
    }
    lines = check_view({"rules": [rule]}, terminal=False).splitlines()
    assert re.split(r"  +", lines[1]) == ["0", "a.io/x", takes, "anonymous", "b.io/x", gives, "b.io"]
    assert lines[-1] == "1 rule, no errors"
