"""Names of registries, repositories, tags and images, normalised.

The grammar is that of the distribution specification ("Pulling manifests": name and reference) and of
distribution's reference package (host names). Docker Hub's short names are spelled out: ``nginx`` is
``docker.io/library/nginx``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from airflow_imagesync.domain.digest import check_digest
from airflow_imagesync.errors import InvalidReference

DOCKER_HUB = "docker.io"
#: Other names people write for Docker Hub; all of them are one registry.
DOCKER_HUB_ALIASES = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "registry.docker.io"}
)
#: Where Docker Hub's API answers.
DOCKER_HUB_API = "registry-1.docker.io"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[(?P<address>[A-Fa-f0-9:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME = 255
# Before an "@" that no digest follows somebody may have written "user:password".
_USERINFO = re.compile(r"\A.*@(?!sha\d+:)", re.DOTALL)
_MAX_QUOTED = 120


def quoted(text: str) -> str:
    """Return `text` in quotes for a message: on one line, shortened, and without a ``user:password@``."""
    text = _USERINFO.sub("***@", text)
    return repr(text) if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]!r}..."


def is_tag(text: str) -> bool:
    """Whether `text` is a tag by the distribution specification."""
    return _TAG.fullmatch(text) is not None


def check_tag(text: str) -> str:
    """Return `text` when it is a tag; raise InvalidReference when it is not."""
    if not is_tag(text):
        raise InvalidReference(
            f"{quoted(text)} is not a tag; expected up to 128 letters, digits, '_', '.' or '-', "
            "not beginning with '.' or '-'"
        )
    return text


def check_no_scheme(text: str) -> None:
    """Raise InvalidReference when `text` begins with a scheme such as ``https://``."""
    if _SCHEME.match(text):
        scheme, _, rest = text.partition("://")
        raise InvalidReference(f"{quoted(text)} begins with '{scheme}://'; write it without: {quoted(rest)}")


def normalise_registry(text: str) -> str:
    """Return a registry's host, with port if any, in lower case; Docker Hub's names all give ``docker.io``.

    Raises InvalidReference for anything that is not ``host``, ``host:port`` or ``[IPv6]:port``.
    """
    check_no_scheme(text)
    match = _HOST.fullmatch(text)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 65536) or not _is_address(match["address"]):
        raise InvalidReference(f"{quoted(text)} is not a registry; expected host, host:port or [IPv6 address]:port")
    host = text.lower()
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host


def _is_address(text: str | None) -> bool:
    """Whether `text`, if there is any, is an IPv6 address."""
    try:
        return text is None or ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def names_registry(first_part: str) -> bool:
    """Whether the first part of a name is a registry rather than a Docker Hub namespace."""
    return "." in first_part or ":" in first_part or first_part.lower() == "localhost"


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A repository: ``registry`` (normalised host with port) and ``path`` (its name in that registry)."""

    registry: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Return the repository that `text` names, which must have no tag and no digest.

        Raises InvalidReference.
        """
        check_no_scheme(text)
        first, slash, rest = text.partition("/")
        if slash and names_registry(first):
            registry, path = normalise_registry(first), rest
        else:
            registry, path = DOCKER_HUB, text
        if registry == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        if _PATH.fullmatch(path) is None:
            hint = "; repository names are in lower case" if path != path.lower() else ""
            raise InvalidReference(
                f"{quoted(text)} is not a repository; expected registry/name with name parts of a-z, 0-9 and "
                f"single '.', '_', '__' or '-' between them{hint}"
            )
        if len(registry) + 1 + len(path) > _MAX_NAME:
            raise InvalidReference(f"{quoted(text)} is longer than the {_MAX_NAME} characters a name may have")
        return cls(registry, path)

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, order=True)
class ImageReference:
    """One image: a repository and a tag, or a repository and a digest when ``tag`` is None.

    With both, the content is that of the digest and the tag is only a name for it.
    """

    repository: Repository
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Return the image that ``repository:tag``, ``repository@digest`` or ``repository:tag@digest`` names.

        Raises InvalidReference, also where there is neither a tag nor a digest.
        """
        name, tag, digest = split_reference(text)
        if tag is None and digest is None:
            raise InvalidReference(f"{quoted(text)} names no tag and no digest")
        return cls(
            Repository.parse(name),
            check_tag(tag) if tag is not None else None,
            check_digest(digest) if digest is not None else None,
        )

    @property
    def reference(self) -> str:
        """What goes in the URL of the manifest: the digest if there is one, else the tag."""
        return self.digest or self.tag or ""

    def __str__(self) -> str:
        text = str(self.repository)
        if self.tag is not None:
            text += f":{self.tag}"
        if self.digest is not None:
            text += f"@{self.digest}"
        return text


def split_reference(text: str) -> tuple[str, str | None, str | None]:
    """Split ``name[:tag][@digest]`` into its three parts, unchecked; a port is part of the name."""
    name, at, digest = text.partition("@")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    # In "[::1]" or "host:5000" without a path the colon belongs to the host, but a name without a
    # slash is a Docker Hub image, so there it parts name and tag.
    tag = name[colon + 1 :] if colon >= 0 else None
    return (name[:colon] if colon >= 0 else name), tag, (digest if at else None)
