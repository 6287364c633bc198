"""The trigger that waits for one image, for a deferred ImageSensor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_imagesync.engine.awaiting import AwaitedImage, ImageLookout
from airflow_imagesync.errors import ConfigError, ImageSyncError, InvalidReference
from airflow_imagesync.triggers.polling import PolledRegistry, in_thread, pause_after

logger = logging.getLogger(__name__)

#: A connection that can't be had is asked for so many times: Airflow does not tell one that is not there from one that
#: it can't read just now, and that it is there was seen before the task was deferred.
_CONNECTION_TRIES = 3


class ImageTrigger(BaseTrigger):
    """
    Fires once: when an image is there as it is waited for, when the time is over, or when waiting is of no use.

    The event is ``{"status": "found", "image": {...}}``, or ``{"status": "timeout" | "failed", "message": text}``.

    :param image: the image, ``registry/repository:tag``
    :param digest: the digest that it shall have; None for any
    :param platform: the platform that it shall be for; None for any
    :param conn_id: the connection for the registry; None for anybody, over HTTPS
    :param poll_interval: seconds between polls
    :param deadline: until when to wait, in POSIX seconds; None for ever
    :param not_before: when to look first, in POSIX seconds, where the registry asked to be left alone until then
    """

    def __init__(
        self,
        image: str,
        digest: str | None = None,
        platform: str | None = None,
        conn_id: str | None = None,
        poll_interval: float = 60.0,
        deadline: float | None = None,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.image = image
        self.digest = digest
        self.platform = platform
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.not_before = not_before
        self._registry: PolledRegistry | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments, for Airflow to store; there is no secret among them."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "image": self.image,
                "digest": self.digest,
                "platform": self.platform,
                "conn_id": self.conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "not_before": self.not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and send one event."""
        try:
            yield TriggerEvent(await self._wait())  # type: ignore[no-untyped-call]
        finally:
            self._stop()

    async def cleanup(self) -> None:
        """Close the connections, whatever still goes on there."""
        self._stop()

    def _stop(self) -> None:
        if self._registry is not None:
            self._registry.stop()

    async def _wait(self) -> dict[str, Any]:
        """Return what the event says."""
        try:
            awaited = AwaitedImage.parse(self.image, self.digest, self.platform)
        except (ConfigError, InvalidReference) as error:
            return {"status": "failed", "message": str(error)}
        registry = self._registry = PolledRegistry(awaited.image.repository.registry, self.conn_id)
        lookout = ImageLookout(awaited)
        last, tries = lookout.missing, 0
        if self.not_before is not None:
            await asyncio.sleep(max(0.0, min(self.not_before, self.deadline or self.not_before) - time.time()))
        while True:
            pause = self.poll_interval
            try:
                found = await in_thread(lambda: lookout.look(registry.client()))
            except ConfigError as error:
                tries += 1
                if tries == _CONNECTION_TRIES:
                    return {"status": "failed", "message": str(error)}
                last = str(error)
            except ImageSyncError as error:
                if not error.temporary:
                    return {"status": "failed", "message": str(error)}
                pause = pause_after(error, self.poll_interval, 0)
                last = str(error)
                logger.warning("%s is looked for again in %.0f s: %s", awaited.image, pause, error)
            else:
                tries = 0
                if found is not None:
                    return {"status": "found", "image": found.dump()}
                if lookout.missing != last:
                    logger.info("waiting: %s", lookout.missing)
                last = lookout.missing
            left = pause if self.deadline is None else self.deadline - time.time()
            if left <= 0:
                return {"status": "timeout", "message": last}
            await asyncio.sleep(min(pause, left))
            # One more look at the very end, unless the registry asked to be left alone for longer.
            if pause > left and pause > self.poll_interval:
                return {"status": "timeout", "message": last}
