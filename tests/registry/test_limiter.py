from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from airflow_imagesync.errors import Denied, RateLimited, RegistryError
from airflow_imagesync.registry import limiter as limiter_module
from airflow_imagesync.registry.limiter import Limiter, hold
from airflow_imagesync.registry.retry import RetryPolicy


class Gauge:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now: Counter[Limiter] = Counter()
        self.most: Counter[Limiter] = Counter()

    def visit(self, *limiters: Limiter) -> None:
        with self._lock:
            self.now.update(limiters)
            self.most |= self.now
        time.sleep(random.uniform(0, 0.002))
        with self._lock:
            self.now.subtract(limiters)


def run_all(works: list[AbstractContextManager[None]], visits: list[tuple[Limiter, ...]], threads: int) -> Gauge:
    gauge = Gauge()

    def work(number: int) -> None:
        with works[number]:
            gauge.visit(*visits[number])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(len(works))))
    return gauge


@pytest.mark.timeout(20)
def test_never_more_than_its_slots_are_in_use() -> None:
    limiter = Limiter(3)
    gauge = run_all([limiter.slot() for _ in range(100)], [(limiter,)] * 100, threads=16)
    assert gauge.most[limiter] == 3


@pytest.mark.timeout(20)
def test_no_limit_holds_nobody_up() -> None:
    limiter = Limiter(None)
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        with limiter.slot():
            barrier.wait(10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_who_holds_a_slot_passes_freely_and_only_so_long() -> None:
    limiter = Limiter(1)
    with limiter.slot(), limiter.slot(), hold(limiter, limiter):
        pass
    entered = threading.Event()
    with limiter.slot():
        other = threading.Thread(target=lambda: limiter.slot().__enter__() or entered.set(), daemon=True)
        other.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_transfers_in_both_directions_do_not_wait_for_each_other(slots: int) -> None:
    one, other = Limiter(slots), Limiter(slots)
    pairs = [(one, other), (other, one), (one, one), (other,)] * 50
    gauge = run_all([hold(*pair) for pair in pairs], pairs, threads=12)
    if slots > 1:  # a transfer within one registry can't do with less than two requests
        assert gauge.most[one] <= slots
        assert gauge.most[other] <= slots


@contextlib.contextmanager
def small_requests(limiter: Limiter, threads: int) -> Iterator[None]:
    """Have so many threads take a slot again and again meanwhile."""
    done = threading.Event()

    def single() -> None:
        while not done.is_set():
            with limiter.slot():
                time.sleep(0.001)

    started = [threading.Thread(target=single, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    yield
    done.set()
    for thread in started:
        thread.join()


@pytest.mark.timeout(20)
def test_who_needs_two_slots_is_not_passed_by_for_ever() -> None:
    limiter = Limiter(2)
    with small_requests(limiter, threads=4):
        for _ in range(20):
            with hold(limiter, limiter):
                pass


def test_a_slot_is_given_back_after_an_error() -> None:
    limiter = Limiter(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oops"), limiter.slot():
            raise ValueError("oops")


# As many as the registry bears

RETRY = RetryPolicy()
REFUSAL = RateLimited("too many requests", status=429)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal counts, however soon after another."""
    monkeypatch.setattr(limiter_module, "HALVE_AT_MOST_EVERY", 0.0)


def succeed(limiter: Limiter, times: int) -> None:
    for _ in range(times):
        with limiter.slot():
            pass


def refuse(limiter: Limiter, in_use: int, error: RegistryError = REFUSAL) -> None:
    """Have one of so many requests that are under way refused."""
    with contextlib.suppress(RegistryError), limiter.slot(in_use):
        limiter.refused(error, RETRY)
        raise error


@pytest.mark.usefixtures("no_pause")
def test_a_refusal_halves_the_slots_down_to_one() -> None:
    limiter = Limiter(8)
    windows = []
    for in_use in (8, 8, 8, 8):
        refuse(limiter, in_use)
        windows.append(limiter.window)
    assert windows == [4, 2, 1, 1]


def test_without_a_limit_a_refusal_makes_one_of_half_of_what_was_under_way() -> None:
    limiter = Limiter(None)
    succeed(limiter, 10)
    assert limiter.window is None
    refuse(limiter, 6)
    assert limiter.window == 3


@pytest.mark.usefixtures("no_pause")
def test_slots_that_nobody_used_are_not_counted_for_what_a_registry_bears() -> None:
    limiter = Limiter(64)
    refuse(limiter, 6)
    assert limiter.window == 3


def test_refusals_of_one_moment_count_as_one() -> None:
    limiter = Limiter(8)
    for _ in range(3):
        refuse(limiter, 8)
    assert limiter.window == 4


@pytest.mark.parametrize(
    ("error", "window"),
    [
        (RateLimited("too many", status=429), 4),
        (RateLimited("secondary rate limit", status=403), 4),
        (RegistryError("unavailable", status=503, temporary=True), 4),
        (RegistryError("broken", status=500, temporary=True), 8),
        (Denied("no", status=403), 8),
    ],
    ids=["429", "403-rate-limit", "503", "500", "403"],
)
def test_what_counts_as_a_refusal(error: RegistryError, window: int) -> None:
    limiter = Limiter(8)
    refuse(limiter, 8, error)
    assert limiter.window == window


@pytest.mark.parametrize("slots", [4, None])
def test_a_slot_comes_back_for_as_many_successes_as_there_are_slots(slots: int | None) -> None:
    limiter = Limiter(slots)
    refuse(limiter, 4)
    assert limiter.window == 2
    succeed(limiter, 1)
    assert limiter.window == 2
    succeed(limiter, 1)
    assert limiter.window == 3
    succeed(limiter, 2)
    assert limiter.window == 3
    succeed(limiter, 1)
    assert limiter.window == 4
    succeed(limiter, 50)
    assert limiter.window == 4 if slots is not None else limiter.window > 4


def test_failures_bring_no_slot_back() -> None:
    limiter = Limiter(8)
    for _ in range(20):
        refuse(limiter, 8)
    assert limiter.window == 4


@pytest.mark.timeout(20)
def test_fewer_slots_hold_for_those_who_wait_already() -> None:
    limiter = Limiter(8)
    gauge = Gauge()

    def work() -> None:
        with limiter.slot():
            gauge.visit(limiter)

    with ThreadPoolExecutor(12) as pool, limiter.slot(8):
        for _ in range(12):
            pool.submit(work)
        while len(limiter._line) < 12:
            time.sleep(0.001)
        for _ in range(3):
            limiter._halved_at = 0.0
            limiter.refused(REFUSAL, RETRY)
    assert gauge.most[limiter] <= 5  # one at first, and one more for each window of successes


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("no_pause")
def test_transfers_in_both_directions_do_not_wait_for_each_other_while_limits_shrink() -> None:
    one, other = Limiter(6), Limiter(None)
    pairs = [(one, other), (other, one), (one, one), (other, other), (other,), (one,)] * 60
    gauge = Gauge()

    def work(pair: tuple[Limiter, ...]) -> None:
        try:
            with hold(*pair):
                gauge.visit(*pair)
                if random.random() < 0.2:
                    pair[-1].refused(REFUSAL, RETRY)
                    raise REFUSAL
        except RateLimited:
            pass

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, pairs))
    assert gauge.now.total() == 0
    assert gauge.most[one] <= 6
    for limiter in (one, other):
        assert limiter.window is not None
        with limiter.slot(100):  # every slot was given back
            pass


@pytest.mark.timeout(20)
def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    limiter = Limiter(1)
    order: list[int] = []

    def work(number: int) -> None:
        with limiter.slot():
            order.append(number)

    threads = []
    with limiter.slot():
        for number in range(8):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            threads.append(thread)
            while len(limiter._line) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


# A slot for small requests


def waiting(limiter: Limiter, count: int = 1, *, large: bool = False) -> tuple[threading.Event, threading.Event]:
    """Have a thread take slots; return what says that it has them, and what has it give them back."""
    entered, leave = threading.Event(), threading.Event()
    before = len(limiter._line)

    def work() -> None:
        with limiter.slot(count, large=large):
            entered.set()
            leave.wait(20)

    threading.Thread(target=work, daemon=True).start()
    while not entered.is_set() and len(limiter._line) == before:
        time.sleep(0.001)
    return entered, leave


@pytest.mark.timeout(20)
@pytest.mark.parametrize("slots", [2, 3, 8])
def test_large_transfers_leave_a_slot_to_small_requests(slots: int) -> None:
    limiter = Limiter(slots)
    large = [waiting(limiter, large=True) for _ in range(slots)]
    assert [entered.is_set() for entered, _ in large] == [True] * (slots - 1) + [False]
    for _ in range(3):
        with limiter.slot():
            assert not large[-1][0].is_set()
    large[0][1].set()
    assert large[-1][0].wait(10)
    for _, leave in large:
        leave.set()


@pytest.mark.timeout(20)
def test_small_requests_may_have_all_slots() -> None:
    limiter = Limiter(3)
    small = [waiting(limiter) for _ in range(3)]
    assert all(entered.is_set() for entered, _ in small)
    for _, leave in small:
        leave.set()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("slots", "count"), [(1, 1), (1, 2), (2, 2), (3, 3)])
def test_a_large_transfer_that_needs_all_slots_gets_them(slots: int, count: int) -> None:
    limiter = Limiter(slots)
    with small_requests(limiter, threads=4):
        for _ in range(10):
            with limiter.slot(count, large=True):
                assert limiter._in_use == slots


@pytest.mark.timeout(20)
def test_small_requests_pass_a_large_transfer_only_into_the_slot_that_is_kept_for_them() -> None:
    limiter = Limiter(3)
    small = [waiting(limiter) for _ in range(3)]
    first_large = waiting(limiter, large=True)
    small += [waiting(limiter) for _ in range(3)]
    # The first to come has the slot that is kept.
    small[0][1].set()
    assert small[3][0].wait(10)
    assert not first_large[0].is_set()
    small[1][1].set()
    assert first_large[0].wait(10)
    assert not small[4][0].is_set()
    for _, leave in [*small, first_large]:
        leave.set()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("count", [1, 2])
def test_a_large_transfer_is_not_put_off_for_ever_by_small_requests(count: int) -> None:
    limiter = Limiter(3)
    with small_requests(limiter, threads=6):
        for _ in range(20):
            with limiter.slot(count, large=True):
                pass


@pytest.mark.timeout(20)
def test_a_thread_passes_by_slots_that_another_one_holds_for_it() -> None:
    limiter = Limiter(1)
    passed: list[bool] = []

    def work() -> None:
        with limiter.lent(), limiter.slot(), hold(limiter, limiter, large=True):
            passed.append(True)
        entered, leave = waiting(limiter)
        passed.append(entered.is_set())
        leave.set()

    with limiter.slot():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert passed == [True, False]
        with limiter.lent():
            pass
        with limiter.slot():  # what was lent is over, what is held is not
            pass
    with limiter.slot():
        pass


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_order_all_are_served_within_the_slots_there_are(seed: int) -> None:
    chance = random.Random(seed)
    slots = chance.choice([1, 2, 3, 5])
    limiters = [Limiter(slots), Limiter(chance.choice([None, 2, 4]))]
    lock = threading.Lock()
    excess: list[str] = []
    served: list[int] = []

    def look() -> None:
        with lock, limiters[0]._lock:
            if limiters[0]._in_use > slots:
                excess.append(f"{limiters[0]._in_use} of {slots}")
        time.sleep(0.0002)

    def work(jobs: list[tuple[int, bool, bool]]) -> None:
        for kind, large, refused in jobs:
            wanted = [(limiters[0],), (limiters[1], limiters[0]), (limiters[0], limiters[0])][kind]
            try:
                with hold(*wanted, large=large):
                    look()
                    if refused:
                        wanted[0].refused(REFUSAL, RETRY)
                        raise REFUSAL
            except RateLimited:
                pass
            with lock:
                served.append(kind)

    threads = [
        threading.Thread(
            target=work,
            args=([(chance.randrange(3), chance.random() < 0.5, chance.random() < 0.05) for _ in range(60)],),
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == 8 * 60
    assert excess == []
    assert all((limiter._in_use, limiter._kept_in_use, len(limiter._line)) == (0, False, 0) for limiter in limiters)
