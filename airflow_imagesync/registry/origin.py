"""Who may see what: origins, redirect targets and token realms, and URLs fit to be shown.

Credentials go to the registry's own origin and to token services that are known or allowed, nowhere else
(CVE-2020-15157, GHSA-vh4v-2xq2-g5cg, CVE-2026-48978).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from airflow_imagesync.errors import ProtocolError

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Nothing else, for parsers disagree: of https://evil\@registry/ urllib takes the second host, and urllib3 the first.
_NETLOC = re.compile(r"(?:[A-Za-z0-9._-]+|\[[A-Fa-f0-9:.]+\])(?::[0-9]*)?")
# What the system's resolver takes for an IPv4 address: 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1.
_NUMERIC = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]+|[0-9]+)){0,3}")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: Where clouds give machine credentials away, besides the link-local addresses: AWS, Google, Alibaba Cloud, Azure.
_METADATA = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16"))
)
_MAX_SHOWN = 1000

#: Token services of a registry under another registrable domain, by suffixes of both host names.
_KNOWN_REALMS = (
    (".aliyuncs.com", ".aliyuncs.com"),
    ("registry.redhat.io", "sso.redhat.com"),
    ("registry.connect.redhat.com", "sso.redhat.com"),
    ("nvcr.io", "authn.nvidia.com"),
)


def redact(url: str) -> str:
    """Return `url` without user, query and fragment, fit for a terminal: queries of signed URLs are secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an unreadable address"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:_MAX_SHOWN]
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in shown)


def resolve(base: str, address: str) -> str:
    """Return the absolute form of an address that a server named in its answer to `base`, without fragment.

    Raises ProtocolError when that is not the address of anything on HTTP.
    """
    try:
        parts = urlsplit(urljoin(base, address))
        readable = parts.scheme in _DEFAULT_PORTS and _NETLOC.fullmatch(parts.netloc) is not None and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        raise ProtocolError(f"{redact(base)} names an address that is no HTTP address", url=redact(base))
    # Put together anew: urlsplit passes over tabs and upper case in the scheme, others do not.
    return parts._replace(fragment="").geturl()


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
    """Return the address that a host is, in any notation; the IPv4 address within an IPv6 one that leads to it."""
    host = host.partition("%")[0].rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMERIC.fullmatch(host) is None:
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is None:
        host = host.rstrip(".")
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def is_local(host: str) -> bool:
    """Whether a host is this machine or an address that is only valid in a private network."""
    address = _address(host)
    return _is_loopback(host) or (address is not None and (address.is_private or address.is_link_local))


def is_metadata_service(host: str) -> bool:
    """Whether a host is an address where clouds give machine credentials away, or any other link-local one."""
    address = _address(host)
    return address is not None and (address.is_link_local or address in _METADATA)


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
        return "a link-local address or a cloud's metadata service"
    if _is_loopback(host) and not is_local(registry_host):
        return "an address of this machine"
    return None


def upload_problem(registry_url: str, target: str) -> str | None:
    """Return why a registry that may name other hosts for its uploads may not name `target`, or None when it may."""
    to = urlsplit(target)
    host, registry_host = to.hostname or "", urlsplit(registry_url).hostname or ""
    if to.scheme != "https":
        return "not HTTPS"
    if is_metadata_service(host):
        return "a link-local address or a cloud's metadata service"
    if is_local(host) and not is_local(registry_host):
        return "a private address"
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
