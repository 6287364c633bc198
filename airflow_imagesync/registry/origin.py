"""Who may see what: origins, redirect targets and token realms, and URLs fit to be shown.

Credentials go to the registry's own origin and to token services that are known or allowed, nowhere else
(CVE-2020-15157, GHSA-vh4v-2xq2-g5cg, CVE-2026-48978).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}

#: Token services of a registry under another registrable domain, by suffixes of both host names.
_KNOWN_REALMS = (
    (".aliyuncs.com", ".aliyuncs.com"),
    ("registry.redhat.io", "sso.redhat.com"),
    ("registry.connect.redhat.com", "sso.redhat.com"),
    ("nvcr.io", "authn.nvidia.com"),
)


def redact(url: str) -> str:
    """Return `url` without user, query and fragment: queries of signed URLs are secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of `url`."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return origin(one) == origin(other)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_local(host: str) -> bool:
    """Whether a host is this machine or an address that is only valid in a private network."""
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_private or address.is_loopback or address.is_link_local or address.is_unspecified


def is_metadata_service(host: str) -> bool:
    """Whether a host is the link-local address where clouds give machine credentials away."""
    address = _address(host)
    return address is not None and (address.is_link_local or str(address) == "fd00:ec2::254")


def redirect_problem(registry_url: str, target: str) -> str | None:
    """Return why a registry may not send us from its URL to `target`, or None when it may."""
    source, to = urlsplit(registry_url), urlsplit(target)
    host = to.hostname or ""
    if to.scheme not in _DEFAULT_PORTS:
        return "not an HTTP address"
    if source.scheme == "https" and to.scheme == "http":
        return "it would leave HTTPS"
    if is_metadata_service(host):
        return "a link-local address"
    if is_local(host) and not is_local(source.hostname or "") and host != source.hostname:
        return "a private address"
    return None


def realm_problem(registry_url: str, realm: str) -> str | None:
    """Return why the token service at `realm` may not even be asked anonymously, or None when it may."""
    parts: SplitResult = urlsplit(realm)
    if parts.scheme == "http" and urlsplit(registry_url).scheme == "https":
        return "it is not HTTPS"
    return redirect_problem(registry_url, realm)


def realm_may_see_credentials(registry_url: str, realm: str, allowed_hosts: tuple[str, ...]) -> bool:
    """Whether the token service at `realm` may get this registry's credentials.

    It may when it is on the registry's host, in its registrable domain, a known pair, or in `allowed_hosts`
    (``host`` or ``host:port``).
    """
    registry_host = urlsplit(registry_url).hostname or ""
    parts = urlsplit(realm)
    host = parts.hostname or ""
    _, _, port = origin(realm)
    if host in allowed_hosts or f"{host}:{port}" in allowed_hosts or host == registry_host:
        return True
    if any(_ends(registry_host, one) and _ends(host, other) for one, other in _KNOWN_REALMS):
        return True
    if _address(host) is not None or _address(registry_host) is not None:
        return False
    domain = _registrable_domain(registry_host)
    return domain is not None and domain == _registrable_domain(host)


def _ends(host: str, suffix: str) -> bool:
    return host.endswith(suffix) if suffix.startswith(".") else host == suffix


@lru_cache(maxsize=256)
def _registrable_domain(host: str) -> str | None:
    domain: str | None = _public_suffixes().privatesuffix(host)
    return domain


@lru_cache(maxsize=1)
def _public_suffixes() -> Any:
    # Reading the list takes 70 ms, and most registries have their token service on their own host.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
