"""An image map as files that other tools read: JSON, kustomize, Helm values, containerd, OpenShift."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml

from airflow_imagesync.domain.image_map import ImageMap
from airflow_imagesync.domain.reference import DOCKER_HUB, DOCKER_HUB_API, ImageReference, Repository

_MADE = "Made by airflow_imagesync from the images that were synced; the next sync writes it anew."

#: Names of Docker Hub that people write in manifests; kustomize takes each for another registry.
_HUB_NAMES = (f"{DOCKER_HUB}/", f"index.{DOCKER_HUB}/", "")


def image_map_files(image_map: ImageMap, plain_http: Collection[str] = ()) -> dict[str, str]:
    """Return the files, ``{relative name: text}``.

    ``image-map.json`` is the map itself; ``kustomization.yaml`` a kustomize component; ``values.yaml`` values for
    Helm; ``certs.d/<registry>/hosts.toml`` for containerd, one for each source registry;
    ``image-digest-mirror-set.yaml`` for OpenShift. Each says in a comment how it is used, and what of the map
    its format can't express. `plain_http` are the registries (``host[:port]``) that speak HTTP without TLS.
    """
    return {
        "image-map.json": json.dumps(image_map.dump(), indent=2) + "\n",
        "kustomization.yaml": _kustomization(image_map),
        "values.yaml": _values(image_map),
        **_hosts(image_map, frozenset(plain_http)),
        "image-digest-mirror-set.yaml": _digest_mirrors(image_map),
    }


def _by_repository(image_map: ImageMap) -> dict[Repository, dict[ImageReference, ImageReference]]:
    """Return the entries of the map for each source repository, sorted."""
    grouped: dict[Repository, dict[ImageReference, ImageReference]] = {}
    for source, to in image_map.entries.items():
        grouped.setdefault(source.repository, {})[source] = to
    return dict(sorted(grouped.items()))


def _commented(lines: Iterable[str]) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _yaml_file(comment: Iterable[str], document: Mapping[str, Any]) -> str:
    return _commented(comment) + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=2**20)


class _Dumper(yaml.SafeDumper):
    """Writes long names as ``key: value``, too; PyYAML makes ``? key`` of those with more than 128 characters."""

    def check_simple_key(self) -> bool:
        return True


def _left_out(rows: Sequence[str], why: str) -> list[str]:
    return ["", why, *(f"  {row}" for row in rows)] if rows else []


# --- kustomize -------------------------------------------------------------------------------------------


def _kustomization(image_map: ImageMap) -> str:
    """Return a component whose ``images`` are applied in their order, each to what the ones before it made."""
    named: dict[str, ImageReference] = {}
    several: list[str] = []
    for repository, entries in _by_repository(image_map).items():
        places = set(entries.values())
        if len(places) > 1:
            several += [f"{source} -> {to}" for source, to in entries.items()]
        else:
            named |= dict.fromkeys(_spellings(repository), places.pop())
    ordered, circular = _last_first(named)
    comment = [
        _MADE,
        "Use: in your kustomization.yaml, 'components: [path of the folder that this file is in]'.",
        "kustomize looks at an image's name alone: whatever tag of these your manifests have becomes this digest.",
        *_left_out(several, "Left out, since their repository has several images that kustomize can't tell apart:"),
        *_left_out(circular, "Left out, since kustomize would replace these again and again:"),
    ]
    images = [{"name": name, "newName": str(to.repository), "digest": to.digest} for name, to in ordered.items()]
    kind = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    return _yaml_file(comment, {**kind, "images": images})


def _spellings(repository: Repository) -> list[str]:
    """Return the names under which manifests may have a repository, as the patterns that kustomize takes them for."""
    if repository.registry != DOCKER_HUB:
        # The brackets of an IPv6 address would be a set of characters.
        return [str(repository).replace("[", r"\[").replace("]", r"\]")]
    paths = [repository.path]
    if repository.path == f"library/{repository.name}":
        paths.append(repository.name)
    return [f"{registry}{path}" for registry in _HUB_NAMES for path in paths]


def _last_first(named: Mapping[str, ImageReference]) -> tuple[dict[str, ImageReference], list[str]]:
    """Return names in an order in which no replacement meets the result of an earlier one, and those that have none."""
    ordered: dict[str, ImageReference] = {}
    waiting = dict(named)
    while waiting:
        results = {name: _spellings(to.repository)[0] for name, to in waiting.items()}
        free = {name: to for name, to in waiting.items() if results[name] == name or results[name] not in waiting}
        if not free:
            return ordered, [f"{name} -> {to}" for name, to in waiting.items()]
        ordered |= free
        waiting = {name: to for name, to in waiting.items() if name not in free}
    return ordered, []


# --- Helm ------------------------------------------------------------------------------------------------


def _values(image_map: ImageMap) -> str:
    """Return values below ``global``, which subcharts see, too."""
    comment = [
        _MADE,
        "Use: helm upgrade --install ... --values values.yaml, and in a template, for an image as it was before:",
        '  image: {{ dig "quay.io/app:v1" "reference" "quay.io/app:v1" .Values.global.images }}',
        "For charts with values of their own, copy registry, repository and digest to where these expect them.",
        "A name is written in full: docker.io/library/nginx:latest for nginx.",
    ]
    images = {
        str(source): {
            "reference": str(to),
            "registry": to.repository.registry,
            "repository": to.repository.path,
            "digest": to.digest,
        }
        for source, to in image_map.entries.items()
    }
    return _yaml_file(comment, {"global": {"images": images}})


# --- containerd ------------------------------------------------------------------------------------------


def _hosts(image_map: ImageMap, plain_http: frozenset[str]) -> dict[str, str]:
    grouped: dict[str, dict[Repository, set[Repository]]] = {}
    for source, to in image_map.entries.items():
        grouped.setdefault(source.repository.registry, {}).setdefault(source.repository, set()).add(to.repository)
    taken = {to.repository for to in image_map.entries.values()}
    return {
        f"certs.d/{registry}/hosts.toml": _hosts_of(registry, repositories, taken, plain_http)
        for registry, repositories in sorted(grouped.items())
    }


def _hosts_of(
    registry: str,
    repositories: Mapping[Repository, set[Repository]],
    taken: Collection[Repository],
    plain_http: frozenset[str],
) -> str:
    """Return the hosts.toml of a source registry, with the one mirror that all repositories can have in common.

    containerd puts a repository's whole name behind the mirror's path, and can't rename any. One that is elsewhere is
    not found at the mirror, so its source is asked, which is right unless something else has that name there.
    """
    found: dict[tuple[str, str], list[Repository]] = {}
    for source, places in repositories.items():
        for to in places:
            if len(places) == 1 and f"/{to.path}".endswith(f"/{source.path}"):
                found.setdefault((to.registry, to.path[: -len(source.path)].rstrip("/")), []).append(source)
    mirror = max(sorted(found), key=lambda one: len(found[one]), default=None)
    others = sorted(set(repositories) - set(found[mirror] if mirror else ()))
    why = "Not from a mirror, since containerd only puts a prefix before all names alike:"
    if mirror is not None and any(
        Repository(mirror[0], f"{mirror[1]}/{one.path}".lstrip("/")) in taken for one in others
    ):
        why = "Without a mirror, since some of these would be taken for what has their name there:"
        mirror, others = None, sorted(repositories)
    comment = [
        _MADE,
        f"Use: on each node as {registry}/hosts.toml in containerd's config_path, such as /etc/containerd/certs.d.",
        *_left_out([f"{one} -> {', '.join(str(to) for to in sorted(repositories[one]))}" for one in others], why),
    ]
    lines = [f'server = "{_url(DOCKER_HUB_API if registry == DOCKER_HUB else registry, plain_http)}"']
    if mirror is not None:
        host, prefix = mirror
        root = _url(DOCKER_HUB_API if host == DOCKER_HUB else host, plain_http)
        lines += [
            "",
            f'[host."{root}/v2{f"/{prefix}" if prefix else ""}"]',
            '  capabilities = ["pull", "resolve"]',
            "  override_path = true",
        ]
    return _commented(comment) + "\n".join(lines) + "\n"


def _url(registry: str, plain_http: frozenset[str]) -> str:
    return f"{'http' if registry in plain_http else 'https'}://{registry}"


# --- OpenShift -------------------------------------------------------------------------------------------


def _digest_mirrors(image_map: ImageMap) -> str:
    mirrors: list[dict[str, Any]] = []
    changed: list[str] = []
    for repository, entries in _by_repository(image_map).items():
        # What a platform filter made is there under a digest that nobody who names the source's asks for.
        filtered = {to for source, to in entries.items() if source.digest not in (None, to.digest)}
        changed += [f"{source} -> {to}" for source, to in entries.items() if to in filtered]
        equal = sorted({to.repository for to in entries.values() if to not in filtered})
        if equal:
            mirrors.append({"source": str(repository), "mirrors": [str(one) for one in equal]})
    comment = [
        _MADE,
        "Use: oc apply -f image-digest-mirror-set.yaml; the nodes take it over one after the other.",
        "It is for images that are named by digest, which the mirror must have unchanged. Other digests still come",
        "from the source, unless mirrorSourcePolicy: NeverContactSource is added to an entry.",
        *_left_out(changed, "Left out, since a platform filter changed their digests:"),
    ]
    document = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ImageDigestMirrorSet",
        "metadata": {"name": "imagesync"},
        "spec": {"imageDigestMirrors": mirrors},
    }
    return _yaml_file(comment, document)
