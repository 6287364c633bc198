"""Which registries rules may name, where an administrator limits that.

Rules may come from a form or a parameter, so that whoever may start a run chooses which hosts are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_imagesync.domain.reference import Repository, normalise_registry, quoted
from airflow_imagesync.domain.rules import Rule
from airflow_imagesync.errors import ConfigError, InvalidReference, Problem

_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Registries that may be named: ``exact`` ones, and ``suffixes`` (``.example.com``, perhaps with a port)."""

    exact: frozenset[str]
    suffixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, hosts: str | Iterable[str]) -> AllowedHosts:
        """Return what `hosts` name: a list, or a text with commas, of ``host[:port]`` and ``*.example.com[:port]``.

        Raises ConfigError for what is neither, and where there is none.
        """
        if isinstance(hosts, str):
            hosts = re.split(r"[,\s]+", hosts.strip())
        exact, suffixes = set(), []
        for host in hosts:
            try:
                registry = normalise_registry(host.removeprefix(_WILDCARD))
            except InvalidReference:
                raise ConfigError(
                    f"allowed_hosts: found {quoted(host)}, expected host, host:port or *.example.com"
                ) from None
            if host.startswith(_WILDCARD):
                suffixes.append(f".{registry}")
            else:
                exact.add(registry)
        if not exact and not suffixes:
            raise ConfigError("allowed_hosts: found nothing, expected at least one host; leave it out to allow all")
        return cls(frozenset(exact), tuple(suffixes))

    def allow(self, repository: Repository) -> bool:
        """Whether the registry of `repository` may be named; without a port in the entry only without one."""
        return repository.registry in self.exact or repository.registry.endswith(self.suffixes)

    def check(
        self, sources: Iterable[Repository], destinations: Iterable[Repository], rules: Iterable[Rule] = ()
    ) -> None:
        """Raise ConfigError with a problem for each repository whose registry may not be named.

        `rules` are where they come from, for the places in the message.
        """
        rules = tuple(rules)
        wrong = [
            *(("source", one) for one in sorted(set(sources)) if not self.allow(one)),
            *(("destination", one) for one in sorted(set(destinations)) if not self.allow(one)),
        ]
        if wrong:
            raise ConfigError([_problem(field, repository, rules) for field, repository in wrong])


def _problem(field: str, repository: Repository, rules: tuple[Rule, ...]) -> Problem:
    def names(rule: Rule) -> bool:
        if field == "source":
            return rule.source == repository
        return any(one.repository == repository for one in rule.destinations)

    return Problem(
        f"{repository}: the registry {repository.registry} is none that this task may use (allowed_hosts)",
        rule=next((rule.index for rule in rules if names(rule)), None),
        field=field,
    )
