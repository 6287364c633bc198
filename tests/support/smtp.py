"""A mail server that keeps what it is sent."""

from __future__ import annotations

import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Self


class SmtpSink:
    """Receives mails on a port of loopback, without TLS and from anybody; a context manager."""

    def __init__(self) -> None:
        sink = self
        self.mails: list[EmailMessage] = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                sink._talk(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def connection(self) -> dict[str, object]:
        """The Airflow connection to it, as JSON has it."""
        return {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": self._server.server_address[1],
            "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com", "timeout": 10},
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _talk(self, client: socketserver.StreamRequestHandler) -> None:
        client.wfile.write(b"220 sink\r\n")
        while line := client.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                client.wfile.write(b"354 go on\r\n")
                lines = []
                while (one := client.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(one.removeprefix(b".") if one.startswith(b"..") else one)
                # Before the answer, so that whoever sent it finds it here.
                self.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))  # type: ignore[arg-type]
            client.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 sink\r\n")
            if verb == b"QUIT":
                return


def body_of(mail: EmailMessage) -> str:
    """Return the HTML of a mail."""
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())
