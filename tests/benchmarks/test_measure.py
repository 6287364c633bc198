from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measure import MeasurementError, Meter, Traffic, measure, traffic
from devtools.distribution import LoggedRequest

MIB = 1 << 20
DIGEST = f"sha256:{'a' * 64}"


def test_memory_is_that_of_the_command_alone(tmp_path: Path):
    ballast = b"x" * (100 * MIB)  # which the small command must not be charged with
    small = measure([sys.executable, "-S", "-c", "pass"], tmp_path)
    large = measure([sys.executable, "-S", "-c", f"len(b'x' * {len(ballast)})"], tmp_path)
    assert small.cost.peak < 50 * MIB
    assert large.cost.peak > 100 * MIB


def test_cpu_time_is_counted_that_of_a_script_s_processes_too(tmp_path: Path):
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    done = measure(["sh", "-c", f"{sys.executable} -S -c '{busy}'; {sys.executable} -S -c '{busy}'"], tmp_path)
    assert 0.4 <= done.cost.cpu <= done.cost.wall + 0.1


def test_processes_and_others_are_told_apart():
    meter = Meter([os.getpid()])
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    processes, elsewhere = meter.read(0)
    assert processes >= 0.2
    assert 0 <= elsewhere < 1


def test_output_and_exit_code_come_through(tmp_path: Path):
    done = measure(["sh", "-c", "echo out; echo err >&2; exit 3"], tmp_path)
    assert (done.output, done.errors, done.exit_code) == ("out\n", "err\n", 3)


def test_what_hangs_is_ended(tmp_path: Path):
    with pytest.raises(MeasurementError, match="sleep was ended after 0 s"):
        measure(["sleep", "60"], tmp_path, timeout=0.2)


def test_what_is_missing_is_said(tmp_path: Path):
    with pytest.raises(MeasurementError, match="no-such-program could not be started"):
        measure(["no-such-program"], tmp_path)


def test_uploads_mounts_and_lists_are_told_apart():
    def line(method: str, path: str, status: int, size: int = 0) -> LoggedRequest:
        return LoggedRequest(method, path, status, size, "test")

    found = traffic(
        [
            line("HEAD", f"/v2/a/blobs/{DIGEST}", 404),
            line("POST", "/v2/a/blobs/uploads/", 202),
            line("PUT", f"/v2/a/blobs/uploads/1?_state=x&digest={DIGEST.replace(':', '%3A')}", 201),
            line("POST", f"/v2/b/blobs/uploads/?mount={DIGEST}&from=a", 201),
            line("POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a", 202),
            line("GET", f"/v2/a/blobs/{DIGEST}", 200, 1234),
            line("GET", "/v2/a/tags/list?n=1000", 200, 99),
            line("PUT", "/v2/a/manifests/v1", 201),
        ]
    )
    assert found == Traffic({"HEAD": 1, "POST": 3, "PUT": 2, "GET": 2}, (DIGEST,), 1, 1234, 1)
