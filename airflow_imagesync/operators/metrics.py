"""What a sync did, as metrics of Airflow: counters and gauges for each registry."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from airflow_imagesync.domain.report import ImageResult
from airflow_imagesync.registry.statistics import RegistryStatistics

logger = logging.getLogger(__name__)

_BYTES = ("copied", "mounted", "skipped")
#: StatsD and InfluxDB have meanings for colons, commas and brackets.
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9._-]")


def record(images: Iterable[ImageResult], statistics: Mapping[str, RegistryStatistics] | None = None) -> None:
    """
    Send metrics, each with the tag ``registry``; what goes wrong with that harms nothing.

    Counters are ``imagesync.images.copied``, ``.same`` and ``.failed`` and ``imagesync.bytes.copied``, ``.mounted`` and
    ``.skipped`` by the destination's registry, and ``imagesync.requests`` and ``imagesync.retries`` for each registry;
    ``imagesync.pulls_left`` is a gauge for those that say.

    :param images: what became of the images since the last call
    :param statistics: what the engine says of its registries
    """
    try:
        from airflow.sdk.observability.stats import Stats

        for (name, registry), count in sorted(_counts(images, statistics or {}).items()):
            if count:
                Stats.incr(name, count, tags={"registry": registry})
        for registry, one in sorted((statistics or {}).items()):
            if one.pulls_left is not None:
                Stats.gauge("imagesync.pulls_left", one.pulls_left, tags={"registry": _tag(registry)})
    except Exception:  # whatever a backend raises
        logger.warning("the metrics of this sync could not be sent", exc_info=True)


def _counts(images: Iterable[ImageResult], statistics: Mapping[str, RegistryStatistics]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for one in images:
        registry = _tag(one.destination.partition("/")[0])
        counts[f"imagesync.images.{one.state.value}", registry] += 1
        for kind in _BYTES:
            counts[f"imagesync.bytes.{kind}", registry] += getattr(one, f"bytes_{kind}")
    for registry, known in statistics.items():
        counts["imagesync.requests", _tag(registry)] += known.requests
        counts["imagesync.retries", _tag(registry)] += known.retries
    return counts


def _tag(registry: str) -> str:
    return _NOT_IN_TAGS.sub("_", registry)
