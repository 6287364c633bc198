"""What is not wrong in a configuration but probably not meant: logins that nothing uses, and near misses."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import DOCKER_HUB, Repository
from airflow_imagesync.domain.rules import Rule, SyncConfig

#: Registries with names that are close to each other, and right.
_WELL_KNOWN = frozenset(
    {
        DOCKER_HUB,
        "gcr.io",
        "ghcr.io",
        "k8s.gcr.io",
        "lscr.io",
        "mcr.microsoft.com",
        "nvcr.io",
        "public.ecr.aws",
    }
    | {
        "quay.io",
        "registry.access.redhat.com",
        "registry.gitlab.com",
        "registry.k8s.io",
        "registry.redhat.io",
    }
)
_SHOWN_RULES = 5
_CLOSE = 0.85


def advice(config: SyncConfig, registries_key: str) -> Iterator[str]:
    """Yield a sentence for each login that no rule uses, and for each rule that seems to miss its login.

    `registries_key` is the key under which the logins stand.
    """
    used: dict[tuple[str, str], Login] = {}
    anonymous: dict[Repository, list[int]] = {}
    for rule in config.rules:
        for repository in _sides(rule):
            login = config.login_for(repository)
            if login is None:
                anonymous.setdefault(repository, []).append(rule.index)
            else:
                used[login.registry, login.namespace] = login
    used |= _inherited_from(config.logins, used.values())
    for login in config.logins:
        if (login.registry, login.namespace) not in used:
            yield f"{registries_key}.{login.key}: no rule uses this entry"
    yield from _near_misses(config.logins, anonymous)
    for rule in config.rules:
        if any(source == destination for source, destination in _fixed_pairs(rule)):
            yield f"rule {rule.index}: {rule.source} is copied to itself"


def hub_aliases(aliases: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield a sentence for each other name of Docker Hub in `aliases`, with the rules that use it."""
    for host, rules in aliases.items():
        yield f"{_rules(rules)}: {host} is taken for {DOCKER_HUB}"


def _sides(rule: Rule) -> Iterator[Repository]:
    yield rule.source
    for destination in rule.destinations:
        yield destination.repository


def _fixed_pairs(rule: Rule) -> Iterator[tuple[object, object]]:
    """Yield what can be told of a rule's pairs without a listing."""
    for destination in rule.destinations:
        if destination.tags is None:
            yield rule.source, destination.repository
    yield from rule.pairs()


def _inherited_from(logins: Iterable[Login], used: Iterable[Login]) -> dict[tuple[str, str], Login]:
    """Return the logins that say how to reach the registry of a used one whose key is longer."""
    settings = {
        (login.registry, login.namespace): login
        for login in logins
        if login.insecure
        or not login.tls_verify
        or login.ca_file
        or login.max_concurrent
        or login.token_realm_hosts
    }
    found: dict[tuple[str, str], Login] = {}
    for login in used:
        namespace = login.namespace
        while namespace:
            namespace = namespace.rpartition("/")[0]
            place = (login.registry, namespace)
            if place in settings:
                found[place] = settings[place]
    return found


def _near_misses(logins: Sequence[Login], anonymous: Mapping[Repository, Sequence[int]]) -> Iterator[str]:
    """Yield a sentence for each registry that is used without login although a key looks like it."""
    by_registry: dict[str, list[Login]] = {}
    by_host: dict[str, list[Login]] = {}
    for login in logins:
        by_registry.setdefault(login.registry, []).append(login)
        by_host.setdefault(_host(login.registry), []).append(login)
    misspelt: dict[str, Login | None] = {}
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for repository, rules in anonymous.items():
        registry = repository.registry
        if registry not in misspelt:
            misspelt[registry] = _misspelt(registry, by_registry)
        other = next((one for one in by_host.get(_host(registry), ()) if one.registry != registry), None)
        first = repository.path.partition("/")[0]
        reason = "which differs in the port"
        if other is None and registry == DOCKER_HUB and first in by_host:
            # "foo/bar" is foo's image on Docker Hub, even where a registry is called foo.
            other, reason = by_host[first][0], f"and {first}/... without a port is a Docker Hub name"
        if other is None:
            other, reason = misspelt[registry], "which is spelled almost alike"
        if other is None:
            other = _misspelt_namespace(repository, by_registry.get(registry, ()))
        if other is not None:
            grouped.setdefault((registry, other.key or "", reason), []).extend(rules)
    for (registry, key, reason), indexes in grouped.items():
        yield f"{_rules(indexes)}: {registry} is used without a login, but there is one for {key}, {reason}"


def _misspelt(registry: str, by_registry: Mapping[str, Sequence[Login]]) -> Login | None:
    """Return an entry of another registry that `registry` looks like a misspelling of."""
    if registry in _WELL_KNOWN or registry in by_registry:
        return None
    return next((logins[0] for other, logins in by_registry.items() if _typo(registry, other)), None)


def _misspelt_namespace(repository: Repository, logins: Iterable[Login]) -> Login | None:
    """Return an entry of the same registry for a namespace that looks almost like the repository's."""
    parts = repository.path.split("/")
    for login in logins:
        if _typo("/".join(parts[: login.namespace.count("/") + 1]), login.namespace):
            return login
    return None


def _typo(one: str, other: str) -> bool:
    """Whether two names have the same letters but for one, or for their order, and are close to each other.

    Names that differ in digits only are meant to differ.
    """
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    count, other_count = Counter(one), Counter(other)
    if sum(((count - other_count) + (other_count - count)).values()) > 1:
        return False
    if _without_digits(one) == _without_digits(other):
        return False
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= _CLOSE


def _without_digits(name: str) -> str:
    return "".join(letter for letter in name if not letter.isdigit())


def _host(registry: str) -> str:
    """Return a registry's host without its port."""
    host, colon, _ = registry.rpartition(":")
    return host if colon and not registry.endswith("]") else registry


def _rules(indexes: Iterable[int]) -> str:
    """Return the rules at `indexes` in words, shortened where there are many."""
    numbers = list(dict.fromkeys(indexes))
    if len(numbers) == 1:
        return f"rule {numbers[0]}"
    if len(numbers) <= _SHOWN_RULES:
        return f"rules {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return f"rules {', '.join(map(str, numbers[:_SHOWN_RULES]))} and {len(numbers) - _SHOWN_RULES} more"
