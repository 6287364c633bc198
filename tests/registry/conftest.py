"""Fronts that last as long as the tests and start each one with a clean slate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.distribution import DistributionRegistry
from tests.support.front import Front


@pytest.fixture(scope="session")
def lasting_script() -> Iterator[Front]:
    with Front() as front:
        yield front


@pytest.fixture(scope="session")
def lasting_front(source_registry: DistributionRegistry) -> Iterator[Front]:
    with Front(source_registry.host) as front:
        yield front


@pytest.fixture
def scripted(lasting_script: Front) -> Front:
    """A front without a registry: the test's rules are all there is."""
    lasting_script.forget()
    return lasting_script


@pytest.fixture
def front(lasting_front: Front) -> Front:
    """A front before ``source_registry``."""
    lasting_front.forget()
    return lasting_front
