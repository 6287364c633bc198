"""Every fault at every step of a copy, once and lasting: the right content arrives, or one image fails and says why.

The table is in tests/support/fault_table.py.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache

import pytest

from airflow_imagesync.domain.credentials import Credentials
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import ImageResult, ResultState
from airflow_imagesync.domain.rules import AllTags, Destination, Rule
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.token_server import TokenServer
from tests.support import PASSWORD, USER
from tests.support.fault_table import FAULTS, IMAGE, OTHER, Case, Step, cases
from tests.support.front import Front, Request
from tests.support.tree import whole_tree
from tests.support.world import World

SOURCE = "matrix"
#: Repositories of the destination that the faulty image goes to: the second one for the mount.
PLACES = ("app", "app-2")
FINE = "fine"


class Renewable:
    """Credentials as a cloud gives them: others whenever a registry refused the last."""

    def __init__(self, *users: str) -> None:
        self._users = list(users)

    def get(self, *, renew: bool = False) -> Credentials:
        if renew:
            self._users.append(self._users.pop(0))
        return Credentials(self._users[0], PASSWORD)


@pytest.fixture(scope="module")
def password_registry() -> Iterator[DistributionRegistry]:
    """A registry with more than one password, so that there is another when one has ended."""
    with DistributionRegistry(htpasswd={USER: PASSWORD, "bob": PASSWORD}, in_shared_memory=True) as registry:
        yield registry


@dataclass
class Grounds:
    """Two fronts before a registry that lets people in in one way, with what is copied at the source."""

    source: Front
    destination: Front
    auth: Callable[[str], images.Auth]
    logins: dict[str, object]
    healthy: dict[bool, Counter[Step]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def grounds(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Grounds]]:
    with ExitStack() as stack:

        @cache
        def make(login: str) -> Grounds:
            tokens: TokenServer = request.getfixturevalue("token_server")
            name = {"nobody": "source_registry", "token": "token_registry", "password": "password_registry"}[login]
            registry = request.getfixturevalue(name)

            def auth(path: str) -> images.Auth:
                if login == "token":
                    return images.BearerAuth(tokens.token(USER, f"repository:{path}:pull,push"))
                return (USER, PASSWORD) if login == "password" else None

            for path, image in ((f"{SOURCE}/app", IMAGE), (f"{SOURCE}/{FINE}", OTHER)):
                images.push(registry.url, path, image, ["v1"], auth=auth(path))
            logins: dict[str, object] = {}
            if login == "token":
                logins = {"username": USER, "password": PASSWORD}
            elif login == "password":
                logins = {"source": Renewable(USER, "bob")}
            source, destination = (stack.enter_context(Front(registry.host)) for _ in range(2))
            return Grounds(source, destination, auth, logins)

        yield make


def run(grounds: Grounds, prefix: str, case: Case | None, *, two: bool) -> list[ImageResult]:
    """Copy the image, to two places if wanted, with a fault on the way; beside a lasting one, also the other image."""
    for front in (grounds.source, grounds.destination):
        front.start()
        front.forget()
    world = World(grounds.source, grounds.destination, prefix=prefix)
    world.logins = {"source": grounds.logins, "destination": grounds.logins}
    if case is not None:
        world.timeouts, world.retries = case.fault.timeouts, case.fault.retries
        first_wait = 0.01 if case.lasting else case.fault.first_wait
        world.retry = RetryPolicy(first_wait=first_wait, max_wait=4 * first_wait, cancelled=threading.Event())
        front = grounds.source if case.step.at_source else grounds.destination
        times = None if case.lasting else case.fault.times
        front.on(case.step.method, pattern(case.step, prefix), case.action, times=times, when=case.fault.when)

    def rule(name: str, *places: str) -> Rule:
        destinations = (Destination(Repository(grounds.destination.host, f"{prefix}/{place}")) for place in places)
        return Rule(0, Repository(grounds.source.host, f"{SOURCE}/{name}"), AllTags(), tuple(destinations))

    rules = [rule("app", *PLACES[: 1 + two])]
    if case is not None and case.lasting:
        rules.append(rule(FINE, FINE))
    with world.engine(*rules) as engine:
        # Planned as a task of its own does, which asks everything.
        return list(engine.copy(engine.plan(), engine.config.rules))


def pattern(step: Step, prefix: str) -> str:
    """What the requests of a step, for the image with the fault, have in their target."""
    return f"^/v2/{SOURCE}/app{step.target}" if step.at_source else f"^/v2/{prefix}/app(-2)?{step.target}"


def requests_of(grounds: Grounds, step: Step, prefix: str) -> list[Request]:
    front = grounds.source if step.at_source else grounds.destination
    return front.seen(step.method, pattern(step, prefix))


def all_requests(grounds: Grounds) -> int:
    return len(grounds.source.seen(None, "/app")) + len(grounds.destination.seen(None, "/app"))


def healthy(grounds: Grounds, prefix: str, *, two: bool) -> Counter[str]:
    """How many requests there are without a fault, by step and in all."""
    if two not in grounds.healthy:
        results = run(grounds, f"{prefix}/healthy", None, two=two)
        assert {one.state for one in results} == {ResultState.COPIED}
        counts: Counter[str] = Counter({step: len(requests_of(grounds, step, f"{prefix}/healthy")) for step in Step})
        counts["all"] = all_requests(grounds)
        grounds.healthy[two] = counts
    return grounds.healthy[two]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_a_fault_is_survived_or_told(grounds: Callable[[str], Grounds], repository_prefix: str, case: Case) -> None:
    place = grounds(case.fault.login)
    two = case.step is Step.MOUNT
    usual = healthy(place, repository_prefix, two=two)
    results = run(place, repository_prefix, case, two=two)
    faulty, fine = results[: 1 + two], results[1 + two :]

    # The right content, or nothing under that tag; whatever there is, is whole.
    for name, result in zip(PLACES, faulty, strict=False):
        stands = whole(place, f"{repository_prefix}/{name}")
        if result.state is ResultState.COPIED:
            assert stands == result.digest == IMAGE.digest
        else:
            assert result.state is ResultState.FAILED
            assert stands in (None, IMAGE.digest)
            assert result.error is not None
            assert re.search(case.fault.says, result.error), result.error
            assert result.error.isprintable()

    # Which of both.
    failed = [one.error for one in faulty if one.state is ResultState.FAILED]
    assert not failed if case.arrives else failed

    # The other image has nothing to do with it.
    if case.fault.spares_others:
        assert [one.error for one in fine] == [None] * case.lasting
        assert not fine or whole(place, f"{repository_prefix}/{FINE}") == OTHER.digest

    # Nothing is tried for ever.
    tries = (case.fault.retries + 1) * case.fault.tries
    assert len(requests_of(place, case.step, repository_prefix)) <= usual[case.step] * tries
    assert all_requests(place) <= usual["all"] * tries


def whole(grounds: Grounds, path: str) -> str | None:
    return whole_tree(f"http://{grounds.destination.upstream}", path, "v1", grounds.auth(path))


def test_the_table_says_something_of_every_fault_at_every_step() -> None:
    for fault in FAULTS:
        assert set(fault.lasting) | set(fault.left_out) == set(Step), fault.name
        assert not set(fault.lasting) & set(fault.left_out), fault.name
        assert set(fault.once) <= set(fault.lasting), fault.name
        assert set(fault.harmless) <= set(fault.lasting), fault.name
        assert all([*fault.left_out.values(), *fault.harmless.values()]), fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
