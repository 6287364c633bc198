"""The JSON documents of plans and reports: what all of them begin with, and their text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_imagesync import __version__

#: The version of the JSON documents; it goes up when a key changes its meaning or goes away.
FORMAT = 1


def document_head(kind: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a document of a `kind` begins with; `metadata` are facts about the run."""
    return {
        "format": FORMAT,
        "kind": kind,
        "generator": f"airflow_imagesync {__version__}",
        "metadata": dict(metadata or {}),
    }


def json_text(document: Mapping[str, Any]) -> str:
    """Return `document` as indented JSON in ASCII, with a newline at its end."""
    return json.dumps(document, indent=2) + "\n"
