"""What a workload runs on: registries, proxies and a folder, all gone after it."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from benchmarks.measure import MeasurementError
from devtools import images
from devtools.distribution import DistributionRegistry
from devtools.latency import LatencyProxy

SHARED_MEMORY = Path("/dev/shm")
_MARGIN = 1 << 30
_WORKERS = 8


@dataclass(frozen=True)
class Placed:
    """An image under a tag."""

    repository: str
    tag: str
    manifest: images.BuiltManifest


class Stage:
    """Makes registries and folders; a context manager.

    Registries keep their content in shared memory where that has room, so that it is not the disk that is
    measured; with ``on_disk`` in the temporary directory.
    """

    def __init__(self, *, on_disk: bool = False) -> None:
        #: Where registries kept their content, in words.
        self.storages: set[str] = set()
        self._on_disk = on_disk
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.directory = Path(self._temporary.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    @contextmanager
    def registry(self, space: int, *, copy_of: DistributionRegistry | None = None) -> Iterator[DistributionRegistry]:
        """Run a registry, empty or with the content of another; ``space`` is what it must have room for, in bytes.

        Raises MeasurementError when there is no room.
        """
        in_memory = not self._on_disk and has_room_in_memory(space)
        if not in_memory and shutil.disk_usage(tempfile.gettempdir()).free < space:
            raise MeasurementError(f"there is no room for {space >> 20:,} MiB in the temporary directory")
        self.storages.add("shared memory" if in_memory else "the temporary directory")
        with tempfile.TemporaryDirectory(prefix="bench-", dir=SHARED_MEMORY if in_memory else None) as home:
            storage = Path(home, "storage")
            if copy_of is not None:
                shutil.copytree(copy_of.storage, storage)
            with DistributionRegistry(storage=storage, in_shared_memory=in_memory) as registry:
                yield registry

    def folder(self) -> Path:
        """Return a new folder."""
        return Path(tempfile.mkdtemp(dir=self.directory))


class Distance:
    """Puts registries behind proxies that delay every request; without a delay it leaves them as they are.

    ``hosts`` are the addresses to use. ``cpu`` is known after the end of the ``with`` block: the seconds that the
    proxies took.
    """

    def __init__(self, registries: Iterable[DistributionRegistry], delay: float) -> None:
        self.hosts = [one.host for one in registries]
        self.cpu = 0.0
        self._proxies = [LatencyProxy(host, delay=delay) for host in self.hosts] if delay else []

    def __enter__(self) -> Self:
        try:
            for position, proxy in enumerate(self._proxies):
                self.hosts[position] = proxy.start().host
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before = _cpu_of_children()
        self._stop()
        self.cpu = _cpu_of_children() - before

    def _stop(self) -> None:
        for proxy in self._proxies:
            proxy.stop()


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def has_room_in_memory(space: int) -> bool:
    """Whether shared memory can take so many bytes without the machine running short."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return False
    return min(free, available - _MARGIN) > space


def push_all(registry: DistributionRegistry, placed: Iterable[Placed]) -> None:
    """Push images, several at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(lambda one: images.push(registry.url, one.repository, one.manifest, [one.tag]), placed))


def check_content(registry: DistributionRegistry, placed: Iterable[Placed]) -> None:
    """Raise MeasurementError unless every image is in the registry under its tag."""
    with requests.Session() as session:
        session.trust_env = False
        for one in placed:
            answer = session.head(
                f"{registry.url}/v2/{one.repository}/manifests/{one.tag}",
                headers={"Accept": one.manifest.media_type},
                timeout=30,
            )
            found = answer.headers.get("Docker-Content-Digest", f"status {answer.status_code}")
            if found != one.manifest.digest:
                raise MeasurementError(f"{one.repository}:{one.tag} is {found} instead of {one.manifest.digest}")
