"""What a sync read and wrote, for OpenLineage: repositories as data sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_imagesync.assets import repository_asset, to_openlineage
from airflow_imagesync.domain.changes import repositories
from airflow_imagesync.domain.report import ImageResult

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def lineage_of(results: Iterable[ImageResult]) -> OperatorLineage[Any, Any] | None:
    """
    Return the source repositories as inputs, and as outputs the destinations of the images that are there.

    :param results: what became of the images
    :return: None where OpenLineage's provider is not installed, or too old
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    inputs, outputs = ([to_openlineage(repository_asset(one), None) for one in side] for side in repositories(results))
    return OperatorLineage(inputs=inputs, outputs=outputs)
