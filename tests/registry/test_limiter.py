from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from airflow_imagesync.registry.limiter import Limiter, hold


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


@pytest.mark.timeout(20)
def test_who_needs_two_slots_is_not_passed_by_for_ever() -> None:
    limiter = Limiter(2)
    done = threading.Event()

    def single() -> None:
        while not done.is_set():
            with limiter.slot():
                time.sleep(0.001)

    threads = [threading.Thread(target=single, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with hold(limiter, limiter):
            pass
    done.set()
    for thread in threads:
        thread.join()


def test_a_slot_is_given_back_after_an_error() -> None:
    limiter = Limiter(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oops"), limiter.slot():
            raise ValueError("oops")
