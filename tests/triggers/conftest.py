from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from devtools.distribution import DistributionRegistry
from tests.support.front import Front


@pytest.fixture(scope="module")
def lasting_front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def front(lasting_front: Front, monkeypatch: pytest.MonkeyPatch) -> Front:
    """A front before the source; the connection ``front`` says that it speaks HTTP."""
    lasting_front.forget()
    lasting_front.start()
    connection = {"conn_type": "oci_registry", "host": lasting_front.host, "extra": {"insecure": True}}
    monkeypatch.setenv("AIRFLOW_CONN_FRONT", json.dumps(connection))
    return lasting_front
