"""The sensor that waits for an image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_imagesync.domain.render import human_seconds
from airflow_imagesync.engine.awaiting import AwaitedImage, FoundImage, ImageLookout
from airflow_imagesync.errors import ConfigError, ImageSyncError, InvalidReference, SyncCancelled
from airflow_imagesync.operators.arguments import said
from airflow_imagesync.triggers.image import ImageTrigger
from airflow_imagesync.triggers.polling import PolledRegistry, asked_wait

if TYPE_CHECKING:
    from airflow.sdk import Context

#: How much later than the trigger Airflow ends the wait, in seconds: the trigger can say what was missing.
_PATIENCE = 60.0
#: The triggerer is for many: nobody polls there without a pause, in seconds.
_SHORTEST = 0.5


class ImageSensor(BaseSensorOperator):
    """
    Waits until an image is in a registry: a tag that exists, that has a digest, or that is there for a platform.

    Looks once, and then defers itself: it holds no worker while it waits, only a triggerer. Returns
    ``{"image", "digest", "media_type"}``, with ``platforms`` where one was waited for. A poll is one HEAD; a manifest
    is fetched for `platform` only, once for each digest.

    Faults of the network and of the registry are waited out, and so is what a registry asks for by Retry-After; what
    only a person can mend, such as a login that is refused, fails the task at once and for good. When ``timeout`` is
    over the task fails for good, too, with what was missing last; with ``soft_fail`` it is skipped in both cases.

    :param image: the image, ``registry/repository:tag``; or with ``@digest`` behind it, which is the same as `digest`
        (templated)
    :param digest: the digest that the tag shall have; None for any (templated)
    :param platform: ``os/arch[/variant]`` that shall be in the index, or that the single image shall be for; None for
        any (templated)
    :param conn_id: the connection for the registry; None for anybody, over HTTPS (templated)
    :param deferrable: whether to wait in the triggerer; without, by ``mode``, as other sensors do

    The other parameters are those of Airflow's sensors, such as ``poke_interval`` and ``timeout``.
    ``exponential_backoff`` and ``silent_fail`` are for those that are not deferrable.
    """

    template_fields: Sequence[str] = ("image", "digest", "platform", "conn_id")
    ui_color = "#d6ecfa"

    def __init__(
        self,
        *,
        image: str,
        digest: str | None = None,
        platform: str | None = None,
        conn_id: str | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.digest = digest
        self.platform = platform
        self.conn_id = conn_id
        self.deferrable = deferrable
        self._registry: PolledRegistry | None = None
        self._lookout: ImageLookout | None = None
        self._not_before = 0.0

    def execute(self, context: Context) -> Any:
        """Return the image once it is there; defer until then, or wait here where that is asked for."""
        try:
            if not self.deferrable:
                return super().execute(context)
            deadline = time.time() + self.timeout
            with self._failing_softly():
                found = self._look()
        finally:
            self._stop()
        return found.dump() if found is not None else self._defer(deadline)

    def _defer(self, deadline: float) -> NoReturn:
        """Leave the worker, and wait in the triggerer until `deadline`."""
        digest, platform, conn_id = self._arguments()
        self.log.info("waiting: %s", self._missing)
        self.defer(
            trigger=ImageTrigger(
                self.image,
                digest,
                platform,
                conn_id,
                poll_interval=max(self.poke_interval, _SHORTEST),
                deadline=deadline,
                not_before=self._not_before or None,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + _PATIENCE),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """
        Return the image that the trigger has found.

        :param event: what the trigger sent
        :raises AirflowSensorTimeout: when the time is over
        :raises AirflowFailException: when waiting is of no use
        """
        if event["status"] == "found":
            image: dict[str, Any] = event["image"]
            self.log.info("%s is there: %s", image["image"], image["digest"])
            return image
        with self._failing_softly():
            if event["status"] == "timeout":
                waited = human_seconds(self.timeout)
                raise AirflowSensorTimeout(f"the image did not come within {waited}: {event['message']}")
            raise AirflowFailException(event["message"])

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002
        """Return whether the image is there, and what it is."""
        found = self._look()
        if found is None:
            self.log.info("waiting: %s", self._missing)
        return PokeReturnValue(found is not None, found.dump() if found is not None else None)

    def on_kill(self) -> None:
        """Stop at once."""
        self._stop()

    def _stop(self) -> None:
        if self._registry is not None:
            self._registry.stop()
            self._registry = None

    @property
    def _missing(self) -> str:
        return self._lookout.missing if self._lookout is not None else ""

    def _arguments(self) -> tuple[str | None, str | None, str | None]:
        """Return digest, platform and connection; a template that comes out empty says nothing."""
        digest, platform, conn_id = (said(one) for one in (self.digest, self.platform, self.conn_id))
        return digest, platform, conn_id

    def _look(self) -> FoundImage | None:
        """Return the image if it is there; raise AirflowFailException where that will not change by itself."""
        if time.time() < self._not_before:
            return None
        try:
            if self._registry is None or self._lookout is None:
                digest, platform, conn_id = self._arguments()
                awaited = AwaitedImage.parse(self.image, digest, platform)
                self._lookout = ImageLookout(awaited)
                self._registry = PolledRegistry(awaited.image.repository.registry, conn_id)
            return self._lookout.look(self._registry.client())
        except (ConfigError, InvalidReference) as error:
            raise AirflowFailException(str(error)) from None
        except SyncCancelled:
            raise
        except ImageSyncError as error:
            if not error.temporary:
                raise AirflowFailException(str(error)) from error
            wait = asked_wait(error)
            self._not_before = time.time() + wait if wait else 0.0
            self.log.warning("%s is looked for again: %s", self.image, error)
            return None

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        """Skip the task instead of failing it, where that is asked for."""
        try:
            yield
        except (AirflowFailException, AirflowSensorTimeout) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
