"""Verifications as people and programs read them: summary, log text, Markdown, JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_imagesync.domain.render.documents import document_head
from airflow_imagesync.domain.render.human import count_of, one_line
from airflow_imagesync.domain.render.markdown import cell, code, metadata_lines, table
from airflow_imagesync.domain.verification import ADVICE, Verification, VerifiedImage, VerifiedState


def verification_verdict(verification: Verification) -> str:
    """Return what came of it in one line, with the number of images in each state where not all are the same."""
    count, wrong = len(verification.images), len(verification.deviations)
    if not count:
        return "there was no image to verify"
    if not wrong:
        return "the one image is the same" if count == 1 else f"all {count:,} images are the same"
    totals = verification.totals
    states = ", ".join(f"{totals[state.value]:,} {state.value}" for state in VerifiedState)
    return f"{wrong:,} of {count_of(count, 'image')} {'is' if wrong == 1 else 'are'} not the same: {states}"


def verification_text(verification: Verification) -> str:
    """Return a verification for a log: what is not the same, the worst first, then the totals; the same is counted."""
    lines: list[str] = []
    for one in verification.deviations:
        lines.append(f"{one.state.value.upper()} {one_line(one.source)} -> {one_line(one.destination)}")
        lines.append(f"    {one_line(one.error or '')}")
    lines += [one_line(note) for note in verification.notes]
    return "\n".join([*lines, verification_verdict(verification)])


def verification_markdown(verification: Verification, metadata: Mapping[str, Any] | None = None) -> str:
    """Return a verification as a Markdown document to sign off: whether all is the same, then what is not.

    `metadata` are lines about it, such as when it began and ended.
    """
    lines = [
        "# Image verification",
        "",
        f"**{cell(_sentence(verification_verdict(verification)))}**",
        *metadata_lines(metadata),
    ]
    totals = verification.totals
    if verification.images:
        rows = [[state.value.capitalize(), f"{totals[state.value]:,}"] for state in VerifiedState]
        lines += ["", *table(["State", "Images"], rows, right=("Images",))]
    if verification.notes:
        lines += ["", *(f"- {cell(note)}" for note in verification.notes)]
    for state in VerifiedState:
        images = [one for one in verification.deviations if one.state is state]
        if images:
            lines += ["", f"## {state.value.capitalize()} ({len(images):,})", ""]
            if state in ADVICE:
                lines += [cell(_sentence(ADVICE[state])), ""]
            lines += _table(images, failed=state is VerifiedState.FAILED)
    return "\n".join(lines) + "\n"


def verification_document(verification: Verification, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a verification as a JSON document: the object of ``verify -o json``, the worst rows first, and more."""
    same = [one for one in verification.images if one.state is VerifiedState.SAME]
    return {
        **document_head("verification", metadata),
        "summary": verification_verdict(verification),
        "images": [one.as_dict() for one in (*verification.deviations, *same)],
        "totals": verification.totals,
        "notes": list(verification.notes),
    }


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _table(images: Sequence[VerifiedImage], *, failed: bool) -> list[str]:
    rows = [
        {
            "Source": code(one.source),
            "Destination": code(one.destination),
            "Cause": cell(one.error or "") if failed else "",
            "Rule": str(one.rule),
            "Source digest": code(one.source_digest),
            # Mostly the same as the source's, which says more.
            "Expected digest": code(one.expected_digest) if one.expected_digest != one.source_digest else "",
            "Destination digest": code(one.destination_digest),
        }
        for one in images
    ]
    # What no image has is no column.
    head = [title for title in rows[0] if any(row[title] for row in rows)]
    return table(head, [[row[title] for title in head] for row in rows], right=("Rule",))
