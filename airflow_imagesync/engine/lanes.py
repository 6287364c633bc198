"""The threads of a run: small work first come, first served, and large transfers beside it, the largest first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: With a single thread, a large transfer begins after so many pieces of small work that had to wait.
_SMALL_TURNS = 32


class _Work(NamedTuple):
    future: Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Lanes(Executor):
    """An executor with two lanes; `threads` of them at most are started, when there is work for them.

    Work of `submit` is small. Of `submit_large`, at most all threads but one are at work at a time, and while small
    work waits, no more than half of them begin with more. So no number of large transfers holds up what is small, and
    a large one begins as soon as a thread is free and fewer than half have one, however much small work there is.
    The threads end with the process: whoever wants work finished calls `shutdown`.
    """

    def __init__(self, threads: int, *, thread_name_prefix: str = "imagesync") -> None:
        if threads < 1:
            raise ValueError("there must be at least one thread")
        self._most = threads
        self._name = thread_name_prefix
        self._lock = threading.Lock()
        self._small: deque[_Work] = deque()
        #: By size from the largest, equal ones in order.
        self._large: list[tuple[int, int, _Work]] = []
        self._order = itertools.count()
        self._large_running = 0
        self._small_since_large = 0
        #: A closed lock for each thread that waits for work.
        self._idle: list[threading.Lock] = []
        self._threads: list[threading.Thread] = []
        self._shut = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have small work done; raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            self._check_open()
            self._small.append(_Work(future, function, args, kwargs))
            self._call_a_thread()
        return future

    def submit_large(self, size: int, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a large transfer of `size` bytes done; raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            self._check_open()
            heapq.heappush(self._large, (-size, next(self._order), _Work(future, function, args, kwargs)))
            self._call_a_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; `cancel_futures` drops what has not begun, `wait` returns when the threads have ended."""
        with self._lock:
            self._shut = True
            dropped: list[_Work] = []
            if cancel_futures:
                dropped = [*self._small, *(work for _, _, work in self._large)]
                self._small.clear()
                self._large.clear()
            for idle in self._idle:
                idle.release()
            self._idle.clear()
            threads = list(self._threads)
        for work in dropped:
            work.future.cancel()
        if wait:
            for thread in threads:
                thread.join()

    def _check_open(self) -> None:
        if self._shut:
            raise RuntimeError("no work is taken after shutdown")

    def _call_a_thread(self) -> None:
        """Wake a thread for new work, or start one; the lock is held.

        That is all the waking there is: who ends something takes what may begin instead.
        """
        if self._idle:
            self._idle.pop().release()
        elif len(self._threads) < self._most:
            name = f"{self._name}_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        large = False
        waiting = threading.Lock()
        waiting.acquire()
        while True:
            with self._lock:
                self._large_running -= large
                work, large = self._next()
                if work is None:
                    if self._shut:
                        return
                    self._idle.append(waiting)
            if work is None:
                waiting.acquire()
                continue
            _do(work)
            del work  # not to be kept alive while there is nothing to do

    def _next(self) -> tuple[_Work | None, bool]:
        """Return what to do now, and whether it is large; the lock is held."""
        if self._large and self._large_may_begin():
            self._large_running += 1
            self._small_since_large = 0
            return heapq.heappop(self._large)[2], True
        if self._small:
            self._small_since_large += 1
            return self._small.popleft(), False
        return None, False

    def _large_may_begin(self) -> bool:
        if not self._small:
            return self._large_running < max(1, self._most - 1)
        if self._most == 1:
            return self._small_since_large >= _SMALL_TURNS
        return self._large_running < (self._most + 1) // 2


def _do(work: _Work) -> None:
    future, function, args, kwargs = work
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # whoever asks for the result gets it
        future.set_exception(error)
        del future, work  # the traceback leads to this frame: nobody is to wait for the garbage collector
    else:
        future.set_result(result)
