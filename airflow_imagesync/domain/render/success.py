"""image-syncer's list of the images that were copied."""

from __future__ import annotations

import yaml

from airflow_imagesync.domain.render.documents import json_text
from airflow_imagesync.domain.report import ResultState, SyncReport


def success_list(report: SyncReport) -> dict[str, list[str]]:
    """Return image-syncer's success list: each source that was copied, with its destinations.

    As there, images that had nothing to do are absent.
    """
    found: dict[str, list[str]] = {}
    for one in report.images:
        if one.state is ResultState.COPIED:
            found.setdefault(one.source, []).append(one.destination)
    return found


def success_text(report: SyncReport, *, as_json: bool) -> str:
    """Return image-syncer's success list as JSON or as YAML."""
    found = success_list(report)
    if as_json:
        return json_text(found)
    return yaml.safe_dump(found, sort_keys=False, default_flow_style=False, width=float("inf"))
