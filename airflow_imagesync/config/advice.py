"""What is not wrong in a configuration but probably not meant: logins that nothing uses, and near misses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from airflow_imagesync.domain.login import Login
from airflow_imagesync.domain.reference import DOCKER_HUB, Repository
from airflow_imagesync.domain.rules import Rule, SyncConfig

#: Registries with names that are close to each other, and right.
_WELL_KNOWN = frozenset(
    (
        DOCKER_HUB,
        "gcr.io",
        "ghcr.io",
        "k8s.gcr.io",
        "lscr.io",
        "mcr.microsoft.com",
        "nvcr.io",
        "public.ecr.aws",
        "quay.io",
        "registry.access.redhat.com",
        "registry.gitlab.com",
        "registry.k8s.io",
        "registry.redhat.io",
    )
)
_LIKE_HUB = frozenset({"docker.com", "dockerhub", "docker-hub"})
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
    settings = {(login.registry, login.namespace): login for login in logins if login.stated}
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
    registries = _Spellings()
    namespaces: dict[str, _Spellings] = {}
    by_host: dict[str, dict[str, Login]] = {}  # and by registry, which has the port
    for login in logins:
        registries.add(login.registry, login)
        namespaces.setdefault(login.registry, _Spellings()).add(login.namespace, login)
        by_host.setdefault(_host(login.registry), {}).setdefault(login.registry, login)
    hubs = {login.registry: login for login in logins if _is_like_hub(login.registry)}
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for repository, rules in anonymous.items():
        registry = repository.registry
        first = repository.path.partition("/")[0]
        reason = "which differs in the port"
        ports = by_host.get(_host(registry), {})
        other = next((login for name, login in ports.items() if name != registry), None)
        if other is None and registry == DOCKER_HUB and first in by_host:
            # "foo/bar" is foo's image on Docker Hub, even where a registry is called foo.
            other, reason = next(iter(by_host[first].values())), f"and {first}/... without a port is a Docker Hub name"
        if other is None and _is_like_hub(registry):
            reason = "which is another spelling of Docker Hub"
            other = next((login for name, login in hubs.items() if name != registry), None)
        if other is None:
            reason = "which is spelled almost alike"
            if registry in namespaces:
                other = _near_namespace(repository, namespaces[registry])
            elif registry not in _WELL_KNOWN:
                other = registries.near(registry)
        if other is not None:
            grouped.setdefault((registry, other.key or "", reason), []).extend(rules)
    for (registry, key, reason), indexes in grouped.items():
        yield f"{_rules(indexes)}: {registry} is used without a login, but there is one for {key}, {reason}"


def _is_like_hub(registry: str) -> bool:
    """Whether somebody may have written `registry` for Docker Hub, whose working names are all one by now."""
    host = _host(registry)
    return host == DOCKER_HUB or host in _LIKE_HUB or host.endswith((".docker.io", ".docker.com"))


def _near_namespace(repository: Repository, namespaces: _Spellings) -> Login | None:
    """Return the entry for a namespace that looks almost like one which the repository is in."""
    namespace = repository.path
    while namespace:
        login = namespaces.near(namespace)
        if login is not None:
            return login
        namespace = namespace.rpartition("/")[0]
    return None


class _Spellings:
    """Names of logins, to be found by something that is spelled almost like them.

    They are kept by their letters in alphabetical order, whole and with each one left out, so that looking for
    a name does not mean to compare it with all.
    """

    def __init__(self) -> None:
        self._by_letters: dict[str, dict[str, Login]] = {}

    def add(self, name: str, login: Login) -> None:
        """Add a login under `name`."""
        for letters in _letters(name):
            self._by_letters.setdefault(letters, {}).setdefault(name, login)

    def near(self, name: str) -> Login | None:
        """Return a login whose name is not `name` but looks like it, or None.

        The names have the same letters but for one, or for their order. Names that differ in digits are meant
        to differ.
        """
        for letters in _letters(name):
            for other, login in self._by_letters.get(letters, {}).items():
                apart = len(other) - len(name)
                alike = other != name and (sorted(other) == sorted(name) if apart == 0 else abs(apart) == 1)
                if alike and difflib.SequenceMatcher(None, name, other, autojunk=False).ratio() >= _CLOSE:
                    return login
        return None


def _letters(name: str) -> set[str]:
    """Return the digits of `name` and its letters in alphabetical order, also with each letter left out."""
    digits = "".join(letter for letter in name if letter.isdigit())
    letters = "".join(sorted(letter for letter in name if not letter.isdigit()))
    shorter = (letters[:position] + letters[position + 1 :] for position in range(len(letters)))
    return {f"{digits} {one}" for one in (letters, *shorter)}


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
