"""The one exchange that only Azure's registries have: a token of Microsoft's identity platform for one of their own.

"Azure Container Registry Authentication", AAD-OAuth: ``POST /oauth2/exchange``. What it gives is a refresh token for
the registry's token service, which is the ordinary one.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit

from airflow_imagesync.domain.login import Login
from airflow_imagesync.errors import Denied, ProtocolError, Unauthorized
from airflow_imagesync.registry.answers import error_of
from airflow_imagesync.registry.transport import Transport, read_all

#: For how many seconds a refresh token is good.
REFRESH_TOKEN_LIFE = 3 * 3600.0
_MAX_ANSWER = 128 * 1024
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


def exchange(registry_url: str, login: Login, access_token: str, tenant: str | None) -> str:
    """Return a refresh token of the registry at `registry_url` for an identity's `access_token`.

    `login` says how the registry is reached, `tenant` where the identity is at home, None where that is not known.
    Raises TransportError and what the registry answers; Unauthorized or Denied when the identity has no role there.
    """
    url = f"{registry_url}/oauth2/exchange"
    form = {"grant_type": "access_token", "service": urlsplit(registry_url).netloc, "access_token": access_token}
    if tenant:
        form["tenant"] = tenant
    transport = Transport.of(registry_url, login, pool_size=1)
    try:
        response = transport.send("POST", url, _HEADERS, urlencode(form).encode())
        if response.status_code != 200:
            error = error_of(response, "POST", url, logged_in=True)
            if isinstance(error, Unauthorized | Denied):
                sentence = str(error).partition("; ")[0]
                raise type(error)(
                    f"{sentence}; give the connection's identity a role at this registry, such as AcrPull or AcrPush",
                    method="POST",
                    url=error.url,
                    status=error.status,
                    codes=error.codes,
                )
            raise error
        body = read_all(response, _MAX_ANSWER, url)
    finally:
        transport.close()
    try:
        token = json.loads(body)["refresh_token"]
    except (ValueError, LookupError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise ProtocolError(f"POST {url} answered 200 without a refresh token", method="POST", url=url, status=200)
    return token
