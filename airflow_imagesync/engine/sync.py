"""A whole run: planning and copying on one set of threads, and stopping it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from types import TracebackType

from airflow_imagesync.domain.estimate import Estimate
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.report import ImageResult, ResultState, SyncReport
from airflow_imagesync.domain.rules import Rule, SyncConfig
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.domain.verification import Verification
from airflow_imagesync.engine.comparison import Wanted
from airflow_imagesync.engine.copier import Copier
from airflow_imagesync.engine.lanes import Lanes
from airflow_imagesync.engine.later import Later
from airflow_imagesync.engine.planner import Planner
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.engine.sizing import Sizing
from airflow_imagesync.registry.retry import RetryPolicy
from airflow_imagesync.registry.statistics import RegistryStatistics

logger = logging.getLogger(__name__)

#: How often connections are shut while a run that was told to stop winds down, in seconds.
_ABORT_EVERY = 0.5


class SyncEngine:
    """Plans and copies what a configuration asks for; use it as a context manager, for one run.

    `config` must have its connections looked up. `progress` is counted up as the run goes on. `retry` and `timeouts`
    replace the usual waits and the configuration's, for tests and special networks; the number of retries is the
    configuration's. `longest_wait` is the longest wait that a registry may ask for, in seconds, before what needs it
    fails for now. `records` is what earlier runs learned, and gets what this one does; whoever opened it closes it.
    """

    def __init__(
        self,
        config: SyncConfig,
        *,
        progress: Progress | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        longest_wait: float | None = None,
        records: Records = NO_RECORDS,
    ) -> None:
        self.config = config
        self.progress = progress or Progress()
        self._cancelled = threading.Event()
        self._closed = threading.Event()
        policy = replace(retry or RetryPolicy(), retries=config.retries, cancelled=self._cancelled)
        if longest_wait is not None:
            policy = replace(policy, longest_wait=longest_wait)
        self._registries = Registries(config, policy, timeouts or config.timeouts)
        self._executor = Lanes(config.concurrency)
        self._later = Later()
        self._planner = Planner(self._registries, self._executor, self.progress, records)
        self._sizing = Sizing(self._registries, self._executor, self._cancelled, records)
        self._copier = Copier(
            self._registries,
            self._executor,
            self.progress,
            self._cancelled,
            self._later,
            open_images=4 * config.concurrency,
            records=records,
            untagged=self._planner.untagged,
        )

    def __enter__(self) -> SyncEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        self.close()

    def plan(
        self,
        rules: Sequence[Rule] | None = None,
        *,
        lazy: bool = False,
        done: Collection[tuple[str, str]] = (),
    ) -> Plan:
        """Return what a run of `rules` (all of the configuration's by default) would do.

        `lazy` and `done` are as for Planner.plan.
        """
        return self._planner.plan(self.config.rules if rules is None else rules, lazy=lazy, done=done)

    def compare(self, wanted: Iterable[Wanted], *, lazy: bool = False) -> Plan:
        """Return how the images of `wanted` stand now; `lazy` as for Planner.plan."""
        return self._planner.compare(wanted, lazy=lazy)

    def verify(self, rules: Iterable[Rule] | None = None) -> Verification:
        """Return how every destination of `rules` (all of the configuration's by default) stands to its source now.

        Both sides are asked, and platform filters worked out anew: no record's word is taken, and none is noted. That a
        rule has force means nothing here. What can't be compared is in the result, and never raised.
        """
        planner = Planner(self._registries, self._executor, self.progress)
        chosen = self.config.rules if rules is None else rules
        return Verification.of(planner.plan([replace(rule, force=False) for rule in chosen]))

    def estimate(self, plan: Plan, rules: Iterable[Rule] | None = None, *, rate: float | None = None) -> Estimate:
        """Return what copying `plan` would send, and how long that takes at `rate` bytes a second, None for unknown.

        `rules`, all of the configuration's by default, are as for `copy`. Never raises for a registry's fault.
        """
        return self._sizing.estimate(plan, self.config.rules if rules is None else rules, rate=rate)

    def run(self) -> SyncReport:
        """Plan and copy everything; what fails is in the report, and never raised."""
        started = time.monotonic()
        images = self.copy(self.plan(lazy=True), self.config.rules)
        return SyncReport(images, seconds=time.monotonic() - started)

    def copy(self, plan: Plan, rules: Iterable[Rule]) -> tuple[ImageResult, ...]:
        """Copy the images of `plan` that are new or changed, and return the results of all, in its order.

        `rules` has the rules that the plan's images name by their positions.
        """
        by_index = {rule.index: rule for rule in rules}
        work = [
            (position, pair)
            for position, pair in enumerate(plan.images)
            if pair.state in (PairState.NEW, PairState.CHANGED)
        ]
        settled = [pair for pair in plan.images if pair.state in (PairState.SAME, PairState.FAILED)]
        self.progress.add(
            images=len(settled),
            same=sum(pair.state is PairState.SAME for pair in settled),
            failed=sum(pair.state is PairState.FAILED for pair in settled),
        )
        copied = self._copier.copy([(pair, by_index[pair.rule]) for _, pair in work])
        results = {position: result for (position, _), result in zip(work, copied, strict=True)}
        return tuple(
            results[position] if position in results else _settled(pair) for position, pair in enumerate(plan.images)
        )

    @property
    def held(self) -> dict[str, float]:
        """The registries that asked to wait, each with the seconds that are left of that."""
        return self._registries.held()

    def statistics(self) -> dict[str, RegistryStatistics]:
        """Return what was asked of each registry so far."""
        return self._registries.statistics()

    @property
    def cancelled(self) -> bool:
        """Whether the run was told to stop."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Tell the run to stop, from another thread or a signal handler; returns at once.

        What waits for a registry fails within a second; images that are not finished are failed rows, and no tag of
        theirs was written.
        """
        if self._cancelled.is_set():
            return
        self._cancelled.set()
        # Not in this thread: it may be a signal handler that interrupted whoever holds the locks needed.
        threading.Thread(target=self._keep_aborting, name="imagesync-abort", daemon=True).start()

    def _keep_aborting(self) -> None:
        while not self._closed.is_set():
            self._registries.abort()
            self._copier.hurry()
            self._closed.wait(_ABORT_EVERY)

    def close(self) -> None:
        """End the threads and close the connections."""
        self._later.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._closed.set()
        self._registries.close()


def _settled(pair: ImagePair) -> ImageResult:
    """Return the result of an image that needs no copying, or can't be planned."""
    same = pair.state is PairState.SAME
    return ImageResult(
        rule=pair.rule,
        source=pair.source,
        destination=pair.destination,
        state=ResultState.SAME if same else ResultState.FAILED,
        source_digest=pair.source_digest,
        digest=pair.destination_digest,
        error=pair.error,
        temporary=pair.temporary,
        retry_at=pair.retry_at,
    )
