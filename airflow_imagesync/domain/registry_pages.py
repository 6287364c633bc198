"""Where a repository can be looked at in a browser: the page that its registry has for it."""

from __future__ import annotations

import re
from urllib.parse import quote

from airflow_imagesync.domain.reference import DOCKER_HUB, Repository

_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.(?P<domain>amazonaws\.com(\.cn)?|on\.aws)"
)
_ARTIFACT_REGISTRY = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev")
_GCR = re.compile(r"([a-z]+\.)?gcr\.io")


def registry_page(repository: Repository) -> str:
    """Return the HTTPS address of the page that tells of a repository.

    Where its registry has none that its name leads to, this is the list of its tags in the registry's API.
    """
    host, path = repository.registry.removesuffix(":443"), quote(repository.path)
    if host == DOCKER_HUB:
        official = path.removeprefix("library/")
        return f"https://hub.docker.com/{f'_/{official}' if official != path else f'r/{path}'}/tags"
    if host == "quay.io":
        return f"https://quay.io/repository/{path}?tab=tags"
    if host == "ghcr.io" or _GCR.fullmatch(host):
        return f"https://{host}/{path}"  # leads a browser to the page, which can't be told without knowing the owner
    if host == "public.ecr.aws":
        return f"https://gallery.ecr.aws/{path}"
    if host == "mcr.microsoft.com":
        return f"https://mcr.microsoft.com/en-us/artifact/mar/{path}/tags"
    if match := _ECR.fullmatch(host):
        return _ecr_page(match, path)
    if (match := _ARTIFACT_REGISTRY.fullmatch(host)) and (page := _artifact_registry_page(match, repository.path)):
        return page
    return f"https://{repository.registry}/v2/{path}/tags/list"


def _ecr_page(match: re.Match[str], path: str) -> str:
    region = match["region"]
    console = "console.amazonaws.cn" if match["domain"].endswith(".cn") else "console.aws.amazon.com"
    return f"https://{region}.{console}/ecr/repositories/private/{match['account']}/{path}?region={region}"


def _artifact_registry_page(match: re.Match[str], path: str) -> str | None:
    """Return the page of ``project/repository/image``, where the image's name may have slashes."""
    parts = path.split("/")
    if "." in parts[0] and len(parts) > 1:  # example.com:project
        parts[:2] = [":".join(parts[:2])]
    if len(parts) < 3:
        return None
    project, repository, image = parts[0], parts[1], "/".join(parts[2:])
    where = "/".join(quote(one, safe="") for one in (project, match["location"], repository, image))
    return f"https://console.cloud.google.com/artifacts/docker/{where}"
