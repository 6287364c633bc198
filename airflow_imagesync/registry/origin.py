"""Who may see what: origins, redirect targets and token realms, and URLs fit to be shown.

Credentials go to the registry's own origin and to token services that are known or allowed, nowhere else
(CVE-2020-15157, GHSA-vh4v-2xq2-g5cg, CVE-2026-48978).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from airflow_imagesync.errors import ProtocolError

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
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an unreadable address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def resolve(base: str, address: str) -> str:
    """Return the absolute form of an address that a server named in its answer to `base`.

    Raises ProtocolError when that is not the address of anything on HTTP.
    """
    try:
        target = urljoin(base, address)
        parts = urlsplit(target)
        readable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        raise ProtocolError(f"{redact(base)} names an address that is no HTTP address", url=redact(base))
    return target


def origin(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of `url`."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return origin(one) == origin(other)


def at_registry(registry_url: str, target: str) -> str | None:
    """Return `target` as an address on the registry's own origin, or None when it is on another one.

    Behind a proxy that ends TLS, registries name ``http://`` addresses of their own (distribution#479); others drop
    their port.
    """
    ours, theirs = origin(registry_url), origin(target)
    if ours == theirs:
        return target
    parts = urlsplit(target)
    downgraded = ours[0] == "https" and theirs[:2] == ("http", ours[1])
    without_port = ours[:2] == theirs[:2] and parts.port is None
    if not (downgraded or without_port):
        return None
    return f"{registry_url}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def is_local(host: str) -> bool:
    """Whether a host is this machine or an address that is only valid in a private network."""
    address = _address(host)
    return _is_loopback(host) or (address is not None and (address.is_private or address.is_link_local))


def is_metadata_service(host: str) -> bool:
    """Whether a host is the link-local address where clouds give machine credentials away."""
    address = _address(host)
    return address is not None and (address.is_link_local or str(address) == "fd00:ec2::254")


def redirect_problem(registry_url: str, target: str, *, same_content: bool = True) -> str | None:
    """Return why a registry may not send us from its URL to `target`, or None when it may.

    Without `same_content` the request changes something, which only the registry itself may ask for.
    """
    source, to = urlsplit(registry_url), urlsplit(target)
    host, registry_host = to.hostname or "", source.hostname or ""
    if source.scheme == "https" and to.scheme == "http":
        return "it would leave HTTPS"
    if source.scheme == "http" and to.scheme == "https" and host == registry_host and to.path.startswith("/v2/"):
        return "the registry wants HTTPS, so take out insecure: true"
    if not same_content and not same_origin(registry_url, target):
        return "another host"
    if is_metadata_service(host):
        return "a link-local address"
    if _is_loopback(host) and not is_local(registry_host):
        return "an address of this machine"
    return None


def realm_problem(registry_url: str, realm: str) -> str | None:
    """Return why the token service at `realm` may not even be asked anonymously, or None when it may."""
    host, registry_host = urlsplit(realm).hostname or "", urlsplit(registry_url).hostname or ""
    if is_local(host) and not is_local(registry_host) and host != registry_host:
        return "a private address"
    return redirect_problem(registry_url, realm)


def realm_may_see_credentials(registry_url: str, realm: str, allowed_hosts: tuple[str, ...]) -> bool:
    """Whether the token service at `realm` may get this registry's credentials.

    It may when it is on the registry's host, in its registrable domain, a known pair, or in `allowed_hosts`
    (``host`` or ``host:port``).
    """
    registry_host = urlsplit(registry_url).hostname or ""
    host = urlsplit(realm).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    allowed = {one.lower() for one in allowed_hosts}
    if host == registry_host or not allowed.isdisjoint({host, shown, f"{shown}:{origin(realm)[2]}"}):
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
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415

    return PublicSuffixList()
