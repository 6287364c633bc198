"""Which proxy a request goes through, by explicit choice only."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from requests.utils import get_environ_proxies, select_proxy

from airflow_imagesync.domain.login import PROXY_OF_ENVIRONMENT, is_proxy_url
from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.origin import redact


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: its address without a login, and the header that logs in to it."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def proxy_for(setting: str | None, url: str) -> Proxy | None:
    """Return the proxy for a request to `url`, or None for none.

    `setting` is a registry's: a proxy's URL, PROXY_OF_ENVIRONMENT, or None. Raises TransportError for a proxy of the
    environment that is not spoken with here.
    """
    if setting is None:
        return None
    if setting != PROXY_OF_ENVIRONMENT:
        return _parse(setting)
    found = select_proxy(url, get_environ_proxies(url))
    if not found:
        return None
    if "://" not in found:
        found = f"http://{found}"
    if not is_proxy_url(found):
        # Not shown: where it can't be read, nobody knows which part is the password.
        raise TransportError(
            f"the environment's proxy for {redact(url)} is no HTTP proxy; "
            "expected http://host:port or https://host:port in HTTP_PROXY and HTTPS_PROXY",
            temporary=False,
        )
    return _parse(found)


def _parse(url: str) -> Proxy:
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.username is None:
        return Proxy(address)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(address, {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"})
