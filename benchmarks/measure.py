"""What a command costs its machine, and what it asks of registries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from devtools.distribution import LoggedRequest

#: No command here takes nearly as long unless it hangs.
TIMEOUT = 300.0
_LAUNCHER = Path(__file__).with_name("launcher.py")


class MeasurementError(RuntimeError):
    """A command did not come to an end, or a run did not do what it was started for."""


@dataclass(frozen=True)
class Cost:
    """What a command and its children took: seconds of wall and CPU, bytes of memory at the peak."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Finished:
    """A command that came to its end."""

    cost: Cost
    exit_code: int
    output: str
    errors: str


def measure(
    command: Sequence[str | Path],
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> Finished:
    """Run a command in ``directory``, where its output is kept too.

    Raises MeasurementError when it takes longer than ``timeout`` seconds or can't be started.
    """
    result, output, errors = (directory / f"command.{suffix}" for suffix in ("cost", "out", "err"))
    result.unlink(missing_ok=True)
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCHER, result, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=directory,
            env=environment,
            start_new_session=True,  # a group of its own, so that it can be ended as a whole
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"{command[0]} was ended after {timeout:.0f} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told = errors.read_text(errors="replace")
    if not result.exists():
        raise MeasurementError(f"{command[0]} could not be started: {told[-500:]}")
    fields = json.loads(result.read_bytes())
    exit_code = fields.pop("exit_code")
    return Finished(Cost(**fields), exit_code, output.read_text(errors="replace"), told)


class Meter:
    """The CPU seconds that some processes, and the whole machine, take from its making on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._started = time.monotonic()
        self._before = self._read()

    def read(self, others: float) -> tuple[float, float]:
        """Return the seconds of the processes, and which part of the machine went to unknown ones.

        ``others`` are seconds of further processes that are known.
        """
        processes, machine = (now - before for now, before in zip(self._read(), self._before, strict=True))
        whole = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return processes, max(0.0, machine - processes - others) / whole

    def _read(self) -> tuple[float, float]:
        tick = os.sysconf("SC_CLK_TCK")
        ticks = 0
        for pid in self._pids:
            # After the name, which may have spaces: user and system time are the 12th and 13th field.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        user, nice, system = Path("/proc/stat").read_text().split()[1:4]
        return ticks / tick, (int(user) + int(nice) + int(system)) / tick


@dataclass(frozen=True)
class Traffic:
    """What one registry, or several, were asked by one run.

    ``uploads`` has the digest of each blob that was sent and stored, as often as that happened; ``mounts`` counts
    those that were linked from another repository. ``blob_bytes`` is what the answers to GETs of blobs had. ``lists``
    counts requests for lists of tags.
    """

    requests: Mapping[str, int]
    uploads: tuple[str, ...] = ()
    mounts: int = 0
    blob_bytes: int = 0
    lists: int = 0

    @property
    def total(self) -> int:
        """The number of requests."""
        return sum(self.requests.values())


def traffic(log: Iterable[LoggedRequest]) -> Traffic:
    """Return what the lines of access logs add up to."""
    requests: Counter[str] = Counter()
    uploads = []
    mounts = blob_bytes = lists = 0
    for request in log:
        requests[request.method] += 1
        url = urlsplit(request.path)
        created = request.status == 201 and "/blobs/uploads/" in url.path
        if created and request.method == "PUT":
            uploads += parse_qs(url.query).get("digest", [])
        elif created and request.method == "POST":
            mounts += 1
        elif request.method == "GET" and "/blobs/" in url.path:
            blob_bytes += request.size
        elif request.method == "GET" and url.path.endswith("/tags/list"):
            lists += 1
    return Traffic(dict(requests), tuple(uploads), mounts, blob_bytes, lists)
