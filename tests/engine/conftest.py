"""Two registries behind fronts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.distribution import DistributionRegistry
from tests.support.front import Front
from tests.support.world import World


@pytest.fixture(scope="session")
def fronts(
    source_registry: DistributionRegistry, destination_registry: DistributionRegistry
) -> Iterator[tuple[Front, Front]]:
    with Front(source_registry.host) as source, Front(destination_registry.host) as destination:
        yield source, destination


@pytest.fixture
def world(fronts: tuple[Front, Front], repository_prefix: str) -> World:
    for front in fronts:
        front.forget()
    return World(*fronts, prefix=repository_prefix)
