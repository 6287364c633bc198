"""Two real registries behind fronts, and runs of the engine between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_imagesync.domain.plan import Plan
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import Repository
from airflow_imagesync.domain.report import ImageResult, SyncReport
from airflow_imagesync.domain.rules import AllTags, Destination, Rule, Select, SyncConfig, Tags
from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.engine.progress import Progress
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.engine.sync import SyncEngine
from airflow_imagesync.registry.client import RegistryClient
from airflow_imagesync.registry.retry import RetryPolicy
from devtools import images
from tests.support.clients import SHORT, client_for, login_for, quick
from tests.support.front import Front


@dataclass(frozen=True)
class Upstream:
    """The registry behind a front."""

    host: str

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"http://{self.host}"


@dataclass
class World:
    """What a test of the engine has: a source, a destination, and a name of its own in both."""

    source: Front
    destination: Front
    prefix: str
    timeouts: Timeouts = SHORT
    concurrency: int = 4
    retries: int = 2
    #: How long to wait before another try; hardly, unless set.
    retry: RetryPolicy | None = None
    records: Records = NO_RECORDS
    #: Values for the logins, by front.
    logins: dict[str, dict[str, Any]] = field(default_factory=dict)

    def upstream(self, front: Front) -> Upstream:
        """The registry behind a front."""
        return Upstream(front.upstream or "")

    def at(self, front: Front, name: str) -> Repository:
        """A repository of this test."""
        return Repository(front.host, f"{self.prefix}/{name}")

    def push(
        self, image: images.BuiltManifest, *tags: str, name: str = "app", front: Front | None = None
    ) -> images.BuiltManifest:
        """Put an image into a repository of the source, or of `front`; requests are not recorded."""
        upstream = self.upstream(front or self.source)
        images.push(upstream.url, f"{self.prefix}/{name}", image, tags)
        return image

    def rule(
        self,
        *tags: str,
        index: int = 0,
        name: str = "app",
        to: Iterable[str] | str | None = None,
        to_tags: tuple[str, ...] | None = None,
        select: Select | None = None,
        platforms: Iterable[str] = (),
        source: Front | None = None,
        **options: Any,
    ) -> Rule:
        """A rule from a repository of the source to some of the destination, of the same name by default."""
        names = [to] if isinstance(to, str) else list(to or [name])
        return Rule(
            index=index,
            source=self.at(source or self.source, name),
            select=select or (Tags(tags) if tags else AllTags()),
            destinations=tuple(Destination(self.at(self.destination, one), to_tags) for one in names),
            platforms=tuple(Platform.parse(one) for one in platforms),
            **options,
        )

    def engine(self, *rules: Rule, progress: Progress | None = None) -> SyncEngine:
        """An engine for rules, numbered in their order."""
        config = SyncConfig(
            rules=tuple(replace(rule, index=index) for index, rule in enumerate(rules)),
            logins=tuple(
                login_for(front, **self.logins.get(name, {}))
                for name, front in (("source", self.source), ("destination", self.destination))
            ),
            concurrency=self.concurrency,
            retries=self.retries,
        )
        return SyncEngine(
            config, progress=progress, retry=self.retry or quick(), timeouts=self.timeouts, records=self.records
        )

    def plan(self, *rules: Rule, lazy: bool = False) -> Plan:
        """Return what a run would do; `lazy` as for who does it at once."""
        with self.engine(*rules) as engine:
            return engine.plan(lazy=lazy)

    def run(self, *rules: Rule) -> SyncReport:
        """Plan and copy."""
        with self.engine(*rules) as engine:
            return engine.run()

    def one(self, *rules: Rule) -> ImageResult:
        """Plan and copy rules that are one image."""
        (result,) = self.run(*rules).images
        return result

    def forget(self) -> None:
        """Forget rules and records of both fronts."""
        self.source.forget()
        self.destination.forget()

    def client(self, front: Front | None = None) -> RegistryClient:
        """A client of the registry behind a front, the destination's by default."""
        return client_for(self.upstream(front or self.destination))

    def digest(self, tag: str, name: str = "app") -> str | None:
        """The digest of a tag at the destination, or None."""
        head = self.client().head_manifest(f"{self.prefix}/{name}", tag)
        return head.digest if head is not None else None

    def reference(self, tag: str, name: str = "app") -> str:
        """A tag of the destination's registry itself, as skopeo takes it."""
        return f"{self.destination.upstream}/{self.prefix}/{name}:{tag}"


def kinds(front: Front) -> Counter[str]:
    """Count the requests that a front saw: ``GET blob``, ``HEAD manifest``, ``POST upload``, ``GET tags`` ..."""

    def kind(path: str) -> str:
        words = {"/manifests/": "manifest", "/blobs/uploads/": "upload", "/blobs/": "blob", "/tags/list": "tags"}
        return next((word for part, word in words.items() if part in path), "other")

    return Counter(f"{one.method} {kind(one.path)}" for one in front.seen())
