from __future__ import annotations

import threading

import pytest

from airflow_imagesync.domain.manifest import Descriptor
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.engine import gathering
from airflow_imagesync.engine.gathering import Gatherings
from airflow_imagesync.engine.later import Later
from airflow_imagesync.engine.needs import BlobNeed

SOURCE = Repository("source.example", "app")
PLACES = {order: Repository(f"d{order}.example", "app") for order in (1, 2, 3)}
DIGEST = "sha256:" + "a" * 64


def need(order: int, to: int | None = None, source: Repository = SOURCE) -> BlobNeed:
    descriptor = Descriptor("application/octet-stream", DIGEST, 10)
    return BlobNeed(descriptor, source, PLACES[to or order], lambda _: None, lambda: True, order)


class Sent:
    """Gatherings, and which images' needs were sent together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.came = threading.Semaphore(0)
        self.later = Later()
        self.gatherings = Gatherings(self._send, self.later)

    def ready(self, need: BlobNeed) -> None:
        if together := self.gatherings.ready(need):
            self._send(together)

    def _send(self, needs: list[BlobNeed]) -> None:
        self.batches.append([one.order for one in needs])
        self.came.release()


@pytest.fixture
def sent() -> Sent:
    return Sent()


def test_what_nobody_else_may_want_is_sent_at_once(sent: Sent) -> None:
    sent.ready(need(1))
    assert sent.batches == [[1]]


def test_all_that_promised_are_waited_for_and_sent_together(sent: Sent) -> None:
    for order in (1, 2, 3):
        sent.gatherings.promise(SOURCE, [DIGEST], PLACES)
        assert sent.batches == []
        sent.ready(need(order))
    assert sent.batches == [[1, 2, 3]]


@pytest.mark.parametrize("how", ["withdraws", "ends"])
def test_one_that_needs_nothing_is_not_waited_for(sent: Sent, how: str) -> None:
    sent.gatherings.promise(SOURCE, [DIGEST], PLACES)
    sent.ready(need(1))
    sent.ready(need(2))
    if how == "withdraws":
        sent.gatherings.withdraw(SOURCE, [DIGEST], 3)
    else:
        sent.gatherings.finished(3)
    assert sent.batches == [[1, 2]]


def test_a_destination_has_spoken_when_another_image_speaks_for_it(sent: Sent) -> None:
    """Two tags with one layer: each leads at one of the destinations."""
    other = {11: PLACES[1], 12: PLACES[2]}
    sent.gatherings.promise(SOURCE, [DIGEST], {1: PLACES[1], 2: PLACES[2]})
    sent.gatherings.promise(SOURCE, [DIGEST], other)
    sent.gatherings.withdraw(SOURCE, [DIGEST], 2)
    sent.gatherings.withdraw(SOURCE, [DIGEST], 11)
    sent.ready(need(1))
    assert sent.batches == []
    sent.ready(need(12, to=2))
    assert sent.batches == [[1, 12]]


def test_another_source_is_another_read(sent: Sent) -> None:
    sent.gatherings.promise(SOURCE, [DIGEST], {1: PLACES[1], 2: PLACES[2]})
    sent.ready(need(3, source=Repository("elsewhere.example", "app")))
    assert sent.batches == [[3]]


def test_one_that_says_nothing_is_waited_for_a_while_only(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PATIENCE", 0.05)
    sent.gatherings.promise(SOURCE, [DIGEST], PLACES)
    sent.ready(need(1))
    assert sent.came.acquire(timeout=10)
    sent.ready(need(2))  # too late: it reads for itself
    assert sent.batches == [[1], [2]]


def test_a_run_that_is_stopped_waits_for_nobody(sent: Sent) -> None:
    sent.gatherings.promise(SOURCE, [DIGEST], PLACES)
    sent.ready(need(1))
    sent.gatherings.hurry()
    assert sent.batches == [[1]]
