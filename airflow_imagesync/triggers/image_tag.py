"""The trigger that watches tags of a repository, for an AssetWatcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_imagesync.domain.notation import parse_source
from airflow_imagesync.domain.rules import ByDigest
from airflow_imagesync.domain.watched import Difference, Sight, compare, marks
from airflow_imagesync.engine.failures import describe, is_temporary
from airflow_imagesync.engine.watching import Answers, ask, candidates
from airflow_imagesync.errors import InvalidReference, NotFound
from airflow_imagesync.triggers.memory import WatchedTags
from airflow_imagesync.triggers.polling import PolledRegistry, in_thread, pause_after

logger = logging.getLogger(__name__)

#: How long an event is on its way from here into Airflow's database, in seconds: the triggerer hands events over once a
#: second, and tells nobody when that is done.
HANDED_OVER = 5.0
#: One poll asks for so many tags at once, and has one thread for at least so many.
_LANES, _TAGS_PER_LANE = 4, 8


class ImageTagTrigger(BaseEventTrigger):
    """
    Fires when a watched tag of a repository is new or names another image than before; for an ``AssetWatcher``.

    There is one event a poll at most, with all that has changed. Its payload, which the started run finds in
    ``triggering_asset_events`` under ``extra["payload"]``, is plain JSON:
    ``{"source", "tags": [...], "new": [...], "changed": [...], "digests": {tag: digest}}``; ``tags`` are the new and
    the changed ones, and so are those in ``digests``. A tag that is gone is no event; it is new when it comes back.

    The first look at tags only remembers them. What is known is kept in the asset's state store, so that a restart of
    the triggerer repeats nothing and a change meanwhile is seen. Below Airflow 3.3 there is no such store: the first
    look after each start of the triggerer only remembers then. Events come at least once: what was told is written
    down some seconds later, when Airflow has it for certain, and a triggerer that is stopped in between tells it again.

    Each poll costs a HEAD for each tag, and before them the list of tags where `source` names none; where the list
    tells the digests (Google's registries), nothing else. Polls that fail are logged and repeated: after the wait that
    a registry asks for, and less and less often where somebody must mend something.

    :param source: what to watch: ``registry/repository`` with nothing for all tags, ``:tag``, ``:tag1,tag2`` or
        ``:/regex/`` behind it
    :param conn_id: the connection for the registry; None for anybody, over HTTPS
    :param poll_interval: seconds between polls, or a timedelta
    :param initial: whether the first look tells all that is there, too
    :param moved_tags: whether tags that name another image than before count. Without, only new tags do, and a poll
        asks for no tag that is known
    :raises InvalidReference: when `source` names no tags
    """

    def __init__(
        self,
        source: str,
        conn_id: str | None = None,
        poll_interval: float | timedelta = 60.0,
        initial: bool = False,
        moved_tags: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.source = source
        self.conn_id = conn_id
        self.poll_interval = float(
            poll_interval.total_seconds() if isinstance(poll_interval, timedelta) else poll_interval
        )
        self.initial = initial
        self.moved_tags = moved_tags
        if self.poll_interval <= 0:
            raise ValueError(f"poll_interval is {self.poll_interval:g} seconds; expected more than 0")
        self._repository, select = parse_source(source)
        if isinstance(select, ByDigest):
            raise InvalidReference(f"{source} names a digest, which never changes; expected tags to watch")
        self._select = select
        self._name = f"{self._repository}{select}"
        self._registry = PolledRegistry(self._repository.registry, conn_id)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, for Airflow to store; there is no secret among them."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "source": self.source,
                "conn_id": self.conn_id,
                "poll_interval": self.poll_interval,
                "initial": self.initial,
                "moved_tags": self.moved_tags,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until cancelled."""
        try:
            # Absent below 3.3.
            memory = WatchedTags(self._name, getattr(self, "asset_state_store", None))
            known = await self._recall(memory)
            if known is None and self.initial:
                known = {}
            unsaved, failures = False, 0
            while True:
                pause = self.poll_interval
                try:
                    sight = await self._look(known)
                except Exception as error:  # noqa: BLE001  # Airflow would start a watcher that ends anew, at once
                    failures = 0 if is_temporary(error) else failures + 1
                    pause = self._failed(error, failures)
                else:
                    failures = 0
                    found = compare(known, sight)
                    unsaved = unsaved or known is None or marks(found.known) != marks(known)
                    known = found.known
                    if found.tags:
                        logger.info("%s: %d new and %d changed", self._name, len(found.new), len(found.changed))
                        yield TriggerEvent(self._payload(found))  # type: ignore[no-untyped-call]
                        await asyncio.sleep(HANDED_OVER)
                if unsaved and known is not None:
                    unsaved = not await self._keep(memory, known)
                await asyncio.sleep(pause)
        finally:
            self._registry.stop()

    async def cleanup(self) -> None:
        """Close the connections, whatever still goes on there."""
        self._registry.stop()

    def _payload(self, found: Difference) -> dict[str, Any]:
        return {
            "source": self._name,
            "tags": found.tags,
            "new": list(found.new),
            "changed": list(found.changed),
            "digests": {tag: found.known[tag] for tag in found.tags},
        }

    async def _look(self, known: Mapping[str, str] | None) -> Sight:
        """Return what there is now; raise where nothing could be learned."""
        client = await in_thread(self._registry.client)
        try:
            there = await in_thread(candidates, client, self._repository, self._select)
        except NotFound as error:
            # Of a repository that was there before this is rather a fault than the end of all its tags.
            logger.warning("%s has no tags to see: %s", self._repository, error)
            return Sight({}, tuple(known or ()))
        before = known or {}
        unknown = set() if there.complete else set(before).difference(there.tags)
        tags = there.tags
        if not self.moved_tags:
            tags = tuple(tag for tag in tags if known is not None and tag not in known)
            unknown.update(set(there.tags).difference(tags))
        digests = {tag: there.told[tag] for tag in tags if tag in there.told}
        wanted = [tag for tag in tags if tag not in digests]
        lanes = max(1, min(_LANES, len(wanted) // _TAGS_PER_LANE))
        answers: list[Answers] = await asyncio.gather(
            *(in_thread(ask, client, self._repository, wanted[lane::lanes], before) for lane in range(lanes))
        )
        problem = next((one.error for one in answers if one.error is not None), None)
        learned = {tag: digest for one in answers for tag, digest in one.digests.items()}
        if problem is not None and not learned and not digests:
            raise problem
        if problem is not None:
            logger.warning("%s: not all tags could be looked at: %s", self._name, problem)
        digests.update({tag: digest for tag, digest in learned.items() if digest is not None})
        unknown.update(tag for tag in wanted if tag not in learned)
        return Sight(digests, unknown)

    def _failed(self, error: Exception, failures: int) -> float:
        """Log why a poll failed, and return how long to wait for the next one."""
        pause = pause_after(error, self.poll_interval, failures)
        reason = describe(error)
        if is_temporary(error):
            logger.warning("%s is looked at again in %.0f s: %s", self._name, pause, reason)
        else:
            self._registry.renew()
            logger.error("%s can't be watched until that is mended, again in %.0f s: %s", self._name, pause, reason)
        return pause

    async def _recall(self, memory: WatchedTags) -> dict[str, str] | None:
        """Return what was known before this triggerer started; without an answer changes might be missed."""
        if not memory.lasts:
            logger.info("%s: this Airflow keeps no state for watchers, so the first look remembers", self._name)
        while True:
            try:
                return await memory.load()
            except Exception as error:  # noqa: BLE001  # whatever Airflow raises: it may pass
                logger.warning("what is known of %s can't be read, again later: %s", self._name, error)
            await asyncio.sleep(self.poll_interval)

    async def _keep(self, memory: WatchedTags, known: dict[str, str]) -> bool:
        """Write down what is known; return whether that is done."""
        try:
            await memory.save(known)
        except Exception as error:  # noqa: BLE001  # whatever Airflow raises: the next poll tries again
            logger.warning("what is known of %s could not be kept, again later: %s", self._name, error)
            return False
        return True
