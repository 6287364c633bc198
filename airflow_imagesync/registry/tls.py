"""How TLS is spoken with a registry: whom we trust, and who we are."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import certifi

from airflow_imagesync.errors import TransportError
from airflow_imagesync.registry.sockets import TLSSocket


@dataclass(frozen=True, slots=True)
class Tls:
    """A registry's settings.

    `verify` says whether certificates are checked; `ca_file` names an authority besides the system's. `client_cert`
    and `client_key` are PEM files of a certificate that we show where one is demanded; the key may be in the
    certificate's file.
    """

    verify: bool = True
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    def anonymous(self) -> Self:
        """Return the same without a client certificate."""
        return replace(self, client_cert=None, client_key=None)


@lru_cache(maxsize=64)
def ssl_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that trusts the system's and certifi's authorities, and those in the CA file.

    Raises TransportError, not temporary, for a file that can't be used.
    """
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(certifi.where())
        if tls.ca_file is not None:
            try:
                context.load_verify_locations(tls.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise TransportError(f"the CA file {tls.ca_file} can't be used: {error}", temporary=False) from error
    if tls.client_cert is not None:
        _load_client_certificate(context, tls.client_cert, tls.client_key)
    return context


class _Encrypted(Exception):
    """The key asks for a password, which OpenSSL would otherwise ask the terminal for."""


def _no_password() -> str:
    raise _Encrypted


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    for path, what in ((certificate, "client certificate"), (key, "key of the client certificate,")):
        if path is not None:
            try:
                # OpenSSL does not say which of the two files it can't read.
                with Path(path).open("rb"):
                    pass
            except OSError as error:
                raise TransportError(f"the {what} {path} can't be read: {error.strerror}", temporary=False) from error
    where = certificate if key is None else f"{certificate} with the key {key}"
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except _Encrypted:
        raise TransportError(
            f"the key {key or certificate} is encrypted; give it without a password, readable by this user alone",
            temporary=False,
        ) from None
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            reason = "the key belongs to another certificate"
        elif key is None and "PEM" in str(error):
            reason = "it has no certificate and key in PEM form; give the key's file as client_key"
        elif "PEM" in str(error):
            reason = "there is no certificate or no key in PEM form"
        raise TransportError(f"the client certificate {where} can't be used: {reason}", temporary=False) from error
