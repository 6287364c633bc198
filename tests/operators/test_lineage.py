from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_imagesync.operators.image_sync import ImageSyncOperator
from devtools import images
from devtools.distribution import DistributionRegistry
from tests.support.task import Run

WriteConfig = Callable[..., Path]

ONE = images.image([images.Blob(b"one" * 1000)], "linux/amd64")

WITHOUT_OPENLINEAGE = """
import sys
sys.modules["airflow.providers.openlineage.extractors"] = None
from airflow_imagesync.operators.image_sync import ImageSyncOperator
operator = ImageSyncOperator(task_id="sync", source="a.io/app:v1", destination="b.io/app")
print(operator.get_openlineage_facets_on_complete(None), operator.get_openlineage_facets_on_failure(None))
"""


def data_sets(found: list[Any]) -> list[tuple[str, str]]:
    return [(one.namespace, one.name) for one in found]


def test_tells_openlineage_what_was_read_and_what_is_there(
    source_registry: DistributionRegistry,
    destination_registry: DistributionRegistry,
    write_config: WriteConfig,
    repository_prefix: str,
) -> None:
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    name = f"{repository_prefix}/app"
    source, destination = source_registry.host, destination_registry.host
    images.push(source_registry.url, name, ONE, ["v1"])
    config = write_config(
        {"source": f"{source}/{name}:v1", "destination": [f"{destination}/{name}", f"{destination}/{name}/copy"]},
        {"source": f"{source}/{name}:missing", "destination": f"{destination}/{name}/nothing"},
    )
    operator = ImageSyncOperator(task_id="sync", config=config)
    assert data_sets(operator.get_openlineage_facets_on_failure(None).inputs) == []  # type: ignore[union-attr]
    run = Run()
    with pytest.raises(AirflowFailException, match="missing does not exist"):
        run.execute(operator)
    found = DefaultExtractor(operator).extract_on_failure(None)
    assert found is not None
    assert data_sets(found.inputs) == [(f"oci://{source}", name)]
    assert data_sets(found.outputs) == [(f"oci://{destination}", name), (f"oci://{destination}", f"{name}/copy")]

    images.push(source_registry.url, name, ONE, ["missing"])
    run.execute(operator)
    found = DefaultExtractor(operator).extract_on_complete(None)
    assert found is not None
    assert [one for _, one in data_sets(found.outputs)] == [name, f"{name}/copy", f"{name}/nothing"]


def test_nothing_breaks_without_openlineage() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENLINEAGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "None None"
