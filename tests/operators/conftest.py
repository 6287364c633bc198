from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devtools.distribution import DistributionRegistry


@pytest.fixture
def write_config(
    tmp_path: Path, source_registry: DistributionRegistry, destination_registry: DistributionRegistry
) -> Callable[..., Path]:
    """Writes a configuration with these rules, for the two open registries and those in `registries`."""

    def write(*rules: dict[str, Any], registries: dict[str, Any] | None = None, **defaults: Any) -> Path:
        known = {source_registry.host: {"insecure": True}, destination_registry.host: {"insecure": True}}
        path = tmp_path / "sync.yaml"
        # JSON is YAML.
        path.write_text(
            json.dumps({"registries": {**known, **(registries or {})}, "defaults": defaults, "rules": list(rules)})
        )
        return path

    return write


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Defines Airflow connections, as the environment can."""

    def define(**by_id: dict[str, Any]) -> None:
        for conn_id, values in by_id.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": "oci_registry", **values}))

    return define
