"""What a watcher knows of its tags, over restarts of the triggerer where Airflow keeps that (3.3)."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from airflow_imagesync.domain.watched import dump_known, load_known, parts_of

logger = logging.getLogger(__name__)


class WatchedTags:
    """
    The tags that a watcher has told of, kept in the state store of its asset.

    :param source: what is watched; watchers of one asset that watch something else have a memory of their own
    :param store: the watcher's ``asset_state_store``; None below Airflow 3.3, where nothing is kept
    """

    def __init__(self, source: str, store: Any) -> None:
        self._source = source
        self._key = f"imagesync-tags-{hashlib.sha256(source.encode()).hexdigest()[:32]}"
        self._stores = _each(store)

    @property
    def lasts(self) -> bool:
        """Whether anything is kept over a restart."""
        return bool(self._stores)

    async def load(self) -> dict[str, str] | None:
        """
        Return what is known by tag; None before the first look.

        :raises Exception: what Airflow raises while it can't tell
        """
        for store in self._stores:
            first = await store.aget(self._key, None)
            count = parts_of(first)
            if count:
                parts = [first, *[await store.aget(self._part(number), None) for number in range(1, count)]]
                known = load_known(parts)
                if known is not None:
                    return known
                logger.warning("what is stored of %s can't be read: it is looked at anew", self._source)
        return None

    async def save(self, known: dict[str, str]) -> None:
        """
        Keep what is known; after an event only once that is sure to be through.

        :param known: by tag, its digest
        :raises Exception: what Airflow raises when it can't keep it
        """
        parts = dump_known(self._source, known)
        for store in self._stores:
            # The first tells how many there are, so it comes last.
            for number in range(len(parts) - 1, -1, -1):
                await store.aset(self._part(number), parts[number])

    def _part(self, number: int) -> str:
        return f"{self._key}.{number}" if number else self._key


def _each(store: Any) -> list[Any]:
    """Return the store of each asset that one trigger watches: watchers that are the same share a trigger."""
    if store is None:
        return []
    by_name = getattr(store, "_by_name", None)
    if isinstance(by_name, dict) and len(by_name) > 1:
        return [by_name[name] for name in sorted(by_name)]
    return [store]
