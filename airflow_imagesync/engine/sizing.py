"""How much copying a plan would send: the manifests of its images are fetched, and the sizes of their blobs added up.

Only sources are asked, and only for manifests; a blob counts as being at a destination where the plan or the records
say so. Where pulls are counted nothing is fetched. A fault of a registry makes sizes unknown, never an exception.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

from airflow_imagesync.domain.estimate import Estimate, ToRegistry
from airflow_imagesync.domain.manifest import Manifest
from airflow_imagesync.domain.plan import ImagePair, PairState, Plan
from airflow_imagesync.domain.reference import ImageReference, Repository
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.engine.failures import describe, is_temporary
from airflow_imagesync.engine.mounts import Mounting, Mounts
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.engine.registries import Registries
from airflow_imagesync.engine.selection import Selected, select_platforms
from airflow_imagesync.errors import ContentError, SyncCancelled
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import STOPPED

#: Images that wait for a thread or are on one.
_SUBMITTED = 64
#: An image with more manifests or blobs is not gone through: nobody builds such, and what they take is memory.
_MAX_MANIFESTS = 1000
_MAX_BLOBS = 10_000
#: After so many temporary failures a source registry is asked no more: an estimate is not worth long waits.
_ENOUGH_FAULTS = 3


class _Content(NamedTuple):
    """What is fetched once, whatever the number of its tags and destinations."""

    source: Repository
    reference: str
    platforms: str


@dataclass
class _There:
    """What is found out of one destination registry, with hashes for digests: they take a third of the memory.

    ``known`` are blobs that the records know it to have. ``near`` are those that only some images find there without
    being sent anything; whoever else needs one must send it.
    """

    images: int = 0
    unknown: int = 0
    to_send: int = 0
    there: int = 0
    sent: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    near: set[int] = field(default_factory=set)

    def add(self, blobs: Mapping[str, int], *, known: Container[str], near: bool) -> None:
        """Count blobs with their sizes, each once: those that are `known`, and all of them as `near` or to be sent."""
        for digest, size in blobs.items():
            key = hash(digest)
            if key in self.sent or key in self.known or (near and key in self.near and digest not in known):
                continue
            if key in self.near:
                self.near.remove(key)
                self.there -= size
            if digest in known or near:
                (self.known if digest in known else self.near).add(key)
                self.there += size
            else:
                self.sent.add(key)
                self.to_send += size


class _PullsCounted(Exception):
    """The registry counts what would be asked of it."""


class Sizing:
    """Estimates on the threads of `executor`, by what `records` know of blobs; ends early once `cancelled`."""

    def __init__(
        self, registries: Registries, executor: Executor, cancelled: threading.Event, records: Records = NO_RECORDS
    ) -> None:
        self._registries = registries
        self._executor = executor
        self._cancelled = cancelled
        self._records = records

    def estimate(self, plan: Plan, rules: Iterable[Rule], *, rate: float | None = None) -> Estimate:
        """Return what copying the new and the changed images of `plan` would send.

        `rules` has the rules that the plan's images name by their positions. `rate` is how many bytes a second an
        earlier run copied, None where none has told. Costs a GET for each manifest of each image, each once.
        """
        by_index = {rule.index: rule for rule in rules}
        groups: dict[_Content, list[int]] = defaultdict(list)
        for position, pair in enumerate(plan.images):
            if pair.state in (PairState.NEW, PairState.CHANGED):
                rule = by_index[pair.rule]
                reference = pair.source_digest or ImageReference.parse(pair.source).reference
                groups[_Content(rule.source, reference, rule.filter_text)].append(position)
        tally = _Tally(plan, self._records)
        places = threading.Semaphore(_SUBMITTED)
        for content, positions in groups.items():
            places.acquire()
            work = self._executor.submit(
                self._size, content, positions, by_index[plan.images[positions[0]].rule], tally
            )
            work.add_done_callback(lambda _: places.release())
        for _ in range(_SUBMITTED):
            places.acquire()
        return tally.estimate(rate)

    def _size(self, content: _Content, positions: Sequence[int], rule: Rule, tally: _Tally) -> None:
        """Find out the size of one image, for all its destinations."""
        registry = content.source.registry
        try:
            if self._cancelled.is_set():
                raise SyncCancelled(STOPPED)
            if tally.gave_up(registry):
                tally.unknown(positions, f"{registry} was asked no more after {_ENOUGH_FAULTS} failures")
                return
            client = self._registries.client(content.source)
            tally.count(positions, content.source, _blobs(client, content, rule))
        except _PullsCounted:
            tally.unknown(positions, f"{registry} counts pulls, so no manifest was fetched from there")
        except SyncCancelled as error:
            tally.unknown(positions, str(error))
        except Exception as error:  # noqa: BLE001  # one bad image must not stop the others
            tally.failed(positions, registry, error)


class _Tally:
    """Adds up what is found out of the images of a plan; safe to use from many threads."""

    def __init__(self, plan: Plan, records: Records) -> None:
        self._images = plan.images
        self._records = records
        self._mounts = Mounts()
        self._sizes: list[int | None] = [None] * len(plan.images)
        self._registries: dict[str, _There] = defaultdict(_There)
        #: The reasons for which sizes are not known, with the numbers of images.
        self._unknown: Counter[str] = Counter()
        #: For each source registry the first error of each kind: there may be as many errors as images.
        self._reasons: dict[tuple[str, str], str] = {}
        self._faults: Counter[str] = Counter()
        self._present = _present(plan.images)
        self._lock = threading.Lock()

    def gave_up(self, registry: str) -> bool:
        """Whether a source registry is asked no more."""
        with self._lock:
            return self._faults[registry] >= _ENOUGH_FAULTS

    def failed(self, positions: Sequence[int], registry: str, error: Exception) -> None:
        """Note that one image, for all its destinations, could not be gone through."""
        reason = describe(error)
        with self._lock:
            self._faults[registry] += is_temporary(error)
            reason = self._reasons.setdefault((registry, type(error).__name__), reason)
        self.unknown(positions, reason)

    def unknown(self, positions: Sequence[int], reason: str) -> None:
        """Note that the size of one image, for all its destinations, is not known."""
        with self._lock:
            self._unknown[reason] += len(positions)
            for position in positions:
                there = self._registries[self._to(position).registry]
                there.images += 1
                there.unknown += 1

    def count(self, positions: Sequence[int], source: Repository, blobs: Mapping[str, int]) -> None:
        """Count one image, for all its destinations, by the sizes of its blobs."""
        size = sum(blobs.values())
        for position in positions:
            to = self._to(position)
            # What is in the source's own registry is mounted from there.
            near = to.registry == source.registry or (to, _target(self._images[position])) in self._present
            known = set() if near else self._known(to, blobs)
            with self._lock:
                self._sizes[position] = size
                there = self._registries[to.registry]
                there.images += 1
                there.add(blobs, known=known, near=near)

    def estimate(self, rate: float | None) -> Estimate:
        """Return all of it."""
        firsts = set(self._reasons.values())
        return Estimate(
            sizes=tuple(self._sizes),
            registries={
                name: ToRegistry(one.images, one.unknown, one.to_send, one.there)
                for name, one in sorted(self._registries.items())
            },
            unknown={
                f"{reason} (the first of them)" if number > 1 and reason in firsts else reason: number
                for reason, number in self._unknown.items()
            },
            rate=rate,
        )

    def _to(self, position: int) -> Repository:
        return ImageReference.parse(self._images[position].destination).repository

    def _known(self, to: Repository, blobs: Iterable[str]) -> set[str]:
        """Return those blobs that the records know the registry of `to` to have, of those not counted yet."""
        if not self._records.lasting:
            return set()
        with self._lock:
            one = self._registries[to.registry]
            digests = [digest for digest in blobs if hash(digest) not in one.sent and hash(digest) not in one.known]
        anything = self._mounts.of(to.registry) is Mounting.ANYTHING
        return {
            digest
            for digest, known in self._records.blobs(to, digests).items()
            if known.here or known.referenced is not None or (anything and known.home is not None)
        }


def _target(pair: ImagePair) -> str | None:
    """Return the digest that the destination shall have."""
    return pair.filtered_digest or pair.source_digest


def _present(images: Sequence[ImagePair]) -> set[tuple[Repository, str]]:
    """Return which of the digests that are to be copied are in which destination repositories already."""
    targets = {_target(pair) for pair in images if pair.state in (PairState.NEW, PairState.CHANGED)}
    return {
        (ImageReference.parse(pair.destination).repository, pair.destination_digest)
        for pair in images
        if pair.destination_digest is not None and pair.destination_digest in targets
    }


def _blobs(client: RegistryClient, content: _Content, rule: Rule) -> dict[str, int]:
    """Return the blobs of an image with their sizes, by digest: of what the platform filter leaves.

    Raises _PullsCounted where asking would use up a limit, ContentError for an image that is too large to go through,
    and what the registry answers.
    """
    path = content.source.path

    def fetch(reference: str) -> Manifest:
        if client.counts_pulls:
            raise _PullsCounted
        return client.get_manifest(path, reference)

    root = fetch(content.reference)
    # That a single image is for one of the platforms was seen when it was compared.
    selected = select_platforms(client, path, root, rule.platforms) if root.is_index else Selected(root)
    blobs: dict[str, int] = {}
    seen: set[str] = set()
    waiting: list[str] = []
    manifest = selected.root
    while True:
        blobs.update((blob.digest, blob.size) for blob in manifest.blobs)
        for child in manifest.children:
            if child.is_manifest and child.digest not in seen:
                seen.add(child.digest)
                waiting.append(child.digest)
        if len(seen) > _MAX_MANIFESTS or len(blobs) > _MAX_BLOBS:
            raise ContentError(
                f"{content.source}@{root.digest} refers to more than {_MAX_MANIFESTS} manifests or {_MAX_BLOBS} blobs"
            )
        if not waiting:
            return blobs
        digest = waiting.pop()
        manifest = selected.rewritten.get(digest) or fetch(digest)
