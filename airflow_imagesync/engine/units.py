"""Doing one unit of work: compares its images again, and copies what is left."""

from __future__ import annotations

import time

from airflow_imagesync.domain.plan import Plan
from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.engine.planner import Wanted
from airflow_imagesync.engine.sync import SyncEngine


def run_unit(engine: SyncEngine, unit: Unit) -> SyncReport:
    """Return what became of the unit's images and of the rules it carries whole; never raises for a registry's fault.

    The destination is asked anew, so that a retry does only what an earlier try left.
    """
    started = time.monotonic()
    rules = {rule.index: rule for rule in unit.rules}
    images = engine.compare(
        Wanted(rules[one.rule], ImageReference.parse(one.source), ImageReference.parse(one.destination))
        for one in unit.images
    )
    whole = engine.plan([rules[index] for index in unit.whole])
    results = engine.copy(Plan(images.images + whole.images), unit.rules)
    return SyncReport(results, seconds=time.monotonic() - started)
