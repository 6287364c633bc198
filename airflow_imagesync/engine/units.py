"""Doing one unit of work: compares its images again, and copies what is left."""

from __future__ import annotations

import time
from collections.abc import Collection

from airflow_imagesync.domain.plan import Plan
from airflow_imagesync.domain.reference import ImageReference
from airflow_imagesync.domain.report import SyncReport
from airflow_imagesync.domain.unit import Unit
from airflow_imagesync.engine.comparison import Wanted
from airflow_imagesync.engine.sync import SyncEngine


def run_unit(engine: SyncEngine, unit: Unit, *, done: Collection[tuple[str, str]] = ()) -> SyncReport:
    """Return what became of the unit's images and of the rules it carries whole; never raises for a registry's fault.

    The destination is asked anew, so that a retry does only what an earlier try left. `done` are the images that one
    copied, as source and destination: they are not forced again.
    """
    started = time.monotonic()
    rules = {rule.index: rule for rule in unit.rules}
    wanted = [
        Wanted(rules[one.rule], ImageReference.parse(one.source), ImageReference.parse(one.destination))
        for one in unit.images
    ]
    wanted = [one.unforced() if one.names in done else one for one in wanted]
    images = engine.compare(wanted, lazy=True)
    whole = engine.plan([rules[index] for index in unit.whole], lazy=True, done=done)
    results = engine.copy(Plan(images.images + whole.images), unit.rules)
    return SyncReport(results, seconds=time.monotonic() - started)
