"""A forwarding proxy on loopback that keeps each HTTP request waiting, as a registry far away would.

It changes nothing: Distribution builds the Location of an upload from the Host header, which goes through
as it came, so clients are led back to the proxy. The proxy is a process of its own, so that it takes no time
from the client that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import subprocess
import sys
from types import TracebackType
from typing import Self

_PIECE = 64 * 1024
# What TLS begins with. A client that tries it before it tries HTTP must not wait here for an answer.
_TLS_HANDSHAKE = b"\x16"
_CONTENT_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:.*\bchunked[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class LatencyProxy:
    """A proxy process in front of one registry; a context manager."""

    def __init__(self, upstream: str, *, delay: float = 0.05) -> None:
        self._upstream = upstream
        self._delay = delay
        self._process: subprocess.Popen[str] | None = None
        self._host: str | None = None

    @property
    def host(self) -> str:
        """The address to use instead of the registry's."""
        if self._host is None:
            raise RuntimeError("the proxy has not been started")
        return self._host

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"http://{self.host}"

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        if self._process is not None:
            raise RuntimeError("the proxy is running already")
        self._process = subprocess.Popen(
            # -P keeps this file's folder from becoming a place to import from.
            [sys.executable, "-P", __file__, self._upstream, "--delay", str(self._delay)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the one who started us; we end the proxy in order
        )
        if self._process.stdout is None or not (first := self._process.stdout.readline()):
            self.stop()
            raise RuntimeError("the proxy ended while it was starting")
        self._host = first.strip()
        return self

    def stop(self) -> None:
        """End the process, and only that one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Server:
    """One connection to the registry for each connection of a client."""

    def __init__(self, upstream: str, delay: float) -> None:
        host, _, port = upstream.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._delay = delay
        # The event loop holds tasks weakly, and those of a connection that was closed are held by nobody else.
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            first = await client.read(1)
            if first in (b"", _TLS_HANDSHAKE):
                to_client.close()
                return
            upstream, to_upstream = await asyncio.open_connection(self._host, self._port)
        except OSError:
            to_client.close()
            return
        # Answers are passed on as they come; only requests are read closely, to find where each one starts.
        answers = asyncio.create_task(_pump(upstream, to_client))
        requests = asyncio.create_task(self._forward_requests(first, client, to_upstream))
        try:
            await asyncio.wait({answers, requests}, return_when=asyncio.FIRST_COMPLETED)
            if requests.done() and to_upstream.can_write_eof() and not to_upstream.is_closing():
                with contextlib.suppress(OSError):
                    to_upstream.write_eof()
                await answers
        finally:
            for task in (answers, requests):
                task.cancel()
            await asyncio.gather(answers, requests, return_exceptions=True)
            to_upstream.close()
            to_client.close()

    async def _forward_requests(
        self, first: bytes, client: asyncio.StreamReader, to_upstream: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = first + await client.readuntil(b"\r\n\r\n")
                first = b""
                await asyncio.sleep(self._delay)
                to_upstream.write(head)
                if _CHUNKED.search(head):
                    await _forward_chunks(client, to_upstream)
                elif length := _CONTENT_LENGTH.search(head):
                    await _forward_bytes(client, to_upstream, int(length[1]))
                await to_upstream.drain()


async def _forward_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    while count:
        piece = await reader.read(min(count, _PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", count)
        writer.write(piece)
        await writer.drain()
        count -= len(piece)


async def _forward_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size = -1
    while size != 0:
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
        size = int(line.split(b";")[0], 16)
        if size:
            await _forward_bytes(reader, writer, size + len(b"\r\n"))
    # Trailers, if any, and the empty line after them.
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        writer.write(line)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()


async def _run(upstream: str, delay: float) -> None:
    server = await asyncio.start_server(_Server(upstream, delay).serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until ended; the first line printed is the address."""
    parser = argparse.ArgumentParser(description="Forward HTTP to a registry, each request after a delay.")
    parser.add_argument("upstream", help="the registry's HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds, 0.05 unless told")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(arguments.upstream, arguments.delay))


if __name__ == "__main__":
    main()
