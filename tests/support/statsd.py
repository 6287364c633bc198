"""A StatsD server that keeps what it is sent."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

#: ``name,tag=value:3|c``, as InfluxDB's flavour has the tags.
_LINE = re.compile(r"(?P<name>[^,:]+)(?:,(?P<tags>[^:]*))?:(?P<value>[0-9.+-]+)\|(?P<kind>\w+)(?:\|@[0-9.]+)?")


class StatsdSink:
    """Receives metrics on a UDP port of loopback; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def environ(self) -> dict[str, str]:
        """Airflow's settings for sending metrics here, with their tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _receive(self) -> None:
        while data := self._socket.recv(65536):
            self._lines += data.decode().splitlines()

    def forget(self) -> None:
        self._lines.clear()

    def found(self, prefix: str, **tags: str) -> dict[str, float]:
        """Return the metrics whose names begin so and that have these tags: counters summed up, gauges as last sent."""
        values: Counter[str] = Counter()
        for line in list(self._lines):
            match = _LINE.fullmatch(line)
            assert match is not None, line
            has = dict(one.split("=", 1) for one in (match["tags"] or "").split(",") if one)
            if not match["name"].startswith(prefix) or tags.items() - has.items():
                continue
            name, value = match["name"].removeprefix(prefix), float(match["value"])
            values[name] = values[name] + value if match["kind"] == "c" else value  # type: ignore[assignment]
        return dict(values)
