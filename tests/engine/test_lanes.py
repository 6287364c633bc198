from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait

import pytest

from airflow_imagesync.engine.lanes import Lanes

pytestmark = pytest.mark.timeout(30)


class Held:
    """Work that goes on until it is let go, and notes when it begins."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.changed = threading.Condition()
        self.free: set[str] = set()
        self.all_free = False

    def __call__(self, name: str) -> str:
        with self.changed:
            self.begun.append(name)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.all_free or name in self.free, 20)
        return name

    def let_go(self, *names: str) -> None:
        with self.changed:
            self.free.update(names)
            self.all_free = not names
            self.changed.notify_all()

    def wait_for(self, *names: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(names) <= set(self.begun), 10), self.begun


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.let_go()


def settle(lanes: Lanes, idle: int) -> None:
    """Wait until so many threads have found nothing that they may do."""
    end = time.monotonic() + 10
    while len(lanes._idle) != idle:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_results_and_exceptions_come_in_futures() -> None:
    with Lanes(2) as lanes:
        assert lanes.submit(lambda one, *, other: one + other, 1, other=2).result(5) == 3
        assert lanes.submit_large(10, lambda one: one, "x").result(5) == "x"
        for future in (lanes.submit(int, "no"), lanes.submit_large(10, int, "no")):
            with pytest.raises(ValueError, match="no"):
                future.result(5)
        assert list(lanes.map(abs, [-1, -2])) == [1, 2]


def test_an_exception_of_any_kind_ends_no_thread() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with Lanes(1) as lanes:
        with pytest.raises(SystemExit):
            lanes.submit(leave).result(5)
        with pytest.raises(SystemExit):
            lanes.submit_large(5, leave).result(5)
        assert lanes.submit(lambda: 1).result(5) == 1
        assert lanes.submit_large(5, lambda: 1).result(5) == 1


def test_small_work_is_done_in_its_order() -> None:
    done: list[int] = []
    with Lanes(1) as lanes:
        for number in range(100):
            lanes.submit(done.append, number)
    assert done == list(range(100))


def test_the_largest_transfer_begins_first_and_equal_ones_in_their_order(held: Held) -> None:
    done: list[str] = []
    with Lanes(1) as lanes:
        lanes.submit(held, "gate")
        held.wait_for("gate")
        for size, name in [(5, "a"), (9, "b"), (7, "c"), (9, "d"), (5, "e")]:
            lanes.submit_large(size, done.append, name)
        held.let_go("gate")
    assert done == ["b", "d", "c", "a", "e"]


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 1), (3, 2), (8, 7)])
def test_large_transfers_leave_a_thread_to_small_work(held: Held, threads: int, expected: int) -> None:
    with Lanes(threads) as lanes:
        names = [f"large-{number}" for number in range(10)]
        for name in names:
            lanes.submit_large(1, held, name)
        held.wait_for(*names[:expected])
        settle(lanes, max(0, threads - expected))
        assert len(held.begun) == expected
        if threads > 1:
            for _ in range(200):
                assert lanes.submit(lambda: 1).result(5) == 1
            assert len(held.begun) == expected
        held.let_go()
    assert len(held.begun) == 10


@pytest.mark.parametrize(("threads", "expected"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 4)])
def test_while_small_work_waits_half_of_the_threads_begin_large_transfers(
    held: Held, threads: int, expected: int
) -> None:
    with Lanes(threads) as lanes:
        gates = [f"gate-{number}" for number in range(threads)]
        for name in gates:
            lanes.submit(held, name)
        held.wait_for(*gates)
        for number in range(20):
            lanes.submit(held, f"small-{number}")
            lanes.submit_large(1, held, f"large-{number}")
        held.let_go(*gates)
        held.wait_for(*(f"large-{number}" for number in range(expected)))
        held.wait_for(*(f"small-{number}" for number in range(threads - expected)))
        assert len(held.begun) == 2 * threads
        held.let_go()
    assert len(held.begun) == threads + 40


def test_a_large_transfer_begins_although_small_work_keeps_coming() -> None:
    for threads in (1, 2, 4):
        with Lanes(threads) as lanes:
            begun = threading.Event()
            futures: list[Future[None]] = []

            def more(lanes: Lanes = lanes, begun: threading.Event = begun) -> None:
                if not begun.is_set():
                    lanes.submit(more)

            futures = [lanes.submit(more) for _ in range(3 * threads)]
            lanes.submit_large(1, begun.set)
            assert begun.wait(10)
            wait(futures)


def test_with_one_thread_small_work_goes_on_between_large_transfers(held: Held) -> None:
    order: list[str] = []
    with Lanes(1) as lanes:
        lanes.submit(held, "gate")
        held.wait_for("gate")
        for _ in range(100):
            lanes.submit(order.append, "small")
            lanes.submit_large(1, order.append, "large")
        held.let_go("gate")
    assert order.count("large") == order.count("small") == 100
    last_small = len(order) - order[::-1].index("small") - 1
    assert 2 <= order[:last_small].count("large") <= 5


def test_a_transfer_that_small_work_held_up_begins_when_no_more_of_it_waits(held: Held) -> None:
    with Lanes(4) as lanes:
        for name in ("a", "b", "c"):
            lanes.submit_large(9, held, name)
        held.wait_for("a", "b", "c")
        lanes.submit_large(1, held, "d")
        lanes.submit(held, "small")
        held.wait_for("small")
        lanes.submit(held, "waits")
        held.let_go("a")
        held.wait_for("waits")
        assert "d" not in held.begun
        held.let_go("small")
        held.wait_for("d")
        held.let_go()


def test_threads_are_started_only_for_work() -> None:
    before = threading.active_count()
    lanes = Lanes(8, thread_name_prefix="test-lanes")
    assert threading.active_count() == before
    name = lanes.submit(lambda: threading.current_thread().name).result(5)
    assert name.startswith("test-lanes")
    settle(lanes, 1)
    for _ in range(10):
        lanes.submit(lambda: None).result(5)
        settle(lanes, 1)
    assert threading.active_count() == before + 1
    lanes.shutdown()
    assert threading.active_count() == before


def test_shutdown_finishes_what_was_taken(held: Held) -> None:
    lanes = Lanes(3)
    lanes.submit(held, "gate")
    held.wait_for("gate")
    futures = [lanes.submit_large(1, time.sleep, 0.001) for _ in range(20)]
    futures += [lanes.submit(time.sleep, 0.0) for _ in range(20)]
    held.let_go("gate")
    lanes.shutdown()
    assert all(future.done() for future in futures)


def test_shutdown_cancels_what_has_not_begun(held: Held) -> None:
    lanes = Lanes(2)
    first = [lanes.submit(held, "a"), lanes.submit_large(1, held, "b")]
    held.wait_for("a", "b")
    rest = [lanes.submit(held, "c"), lanes.submit_large(1, held, "d")]
    lanes.shutdown(wait=False, cancel_futures=True)
    for future in rest:
        with pytest.raises(CancelledError):
            future.result(5)
    assert not any(future.done() for future in first)
    held.let_go()
    lanes.shutdown()
    assert [future.result(0) for future in first] == ["a", "b"]
    assert sorted(held.begun) == ["a", "b"]


def test_nothing_is_taken_after_shutdown() -> None:
    lanes = Lanes(2)
    lanes.submit(lambda: None).result(5)
    lanes.shutdown()
    lanes.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        lanes.submit(lambda: None)
    with pytest.raises(RuntimeError, match="shutdown"):
        lanes.submit_large(1, lambda: None)


def test_a_future_that_was_cancelled_is_passed_over(held: Held) -> None:
    with Lanes(1) as lanes:
        lanes.submit(held, "gate")
        held.wait_for("gate")
        futures = [lanes.submit(held, "a"), lanes.submit_large(1, held, "b")]
        assert all(future.cancel() for future in futures)
        held.let_go()
    assert held.begun == ["gate"]


def test_what_is_done_is_not_kept_alive() -> None:
    class Thing:
        def work(self) -> None:
            raise ValueError("oops")

    with Lanes(1) as lanes:
        gc.disable()
        try:
            thing = Thing()
            gone = weakref.ref(thing)
            future = lanes.submit(thing.work)
            with pytest.raises(ValueError, match="oops"):
                future.result(5)
            settle(lanes, 1)
            del thing, future
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_no_work_is_forgotten_and_the_bounds_hold(threads: int) -> None:
    lock = threading.Lock()
    counts = {"large": 0, "most": 0, "done": 0}

    def large() -> None:
        with lock:
            counts["large"] += 1
            counts["most"] = max(counts["most"], counts["large"])
        time.sleep(random.uniform(0, 0.0005))
        with lock:
            counts["large"] -= 1
            counts["done"] += 1

    def small() -> None:
        with lock:
            counts["done"] += 1

    with Lanes(threads) as lanes:

        def feed(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(400):
                if chance.random() < 0.3:
                    future = lanes.submit_large(chance.randrange(100), large)
                else:
                    future = lanes.submit(small)
                if chance.random() < 0.1:
                    future.result(20)  # so that threads come to idle, and must be woken

        feeders = [threading.Thread(target=feed, args=(seed,)) for seed in range(4)]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()
    assert counts["done"] == 1600
    assert counts["most"] <= max(1, threads - 1)
