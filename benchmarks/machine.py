"""On what it was measured: this machine, and the versions of all programs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from airflow_imagesync import __version__
from benchmarks.tools.tool import Peer
from devtools import install


def machine_line(storages: Iterable[str], load: float, peers: Iterable[Peer] = ()) -> str:
    """Return a line on this machine and the programs that ran; ``load`` is what else it did before."""
    parts = [
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), load {load:.1f} before",
        f"airflow-imagesync {__version__}, Python {platform.python_version()}",
        _registry_version(),
        ", ".join(_named(peer) for peer in peers) or "no peers",
        f"registries in {' and '.join(sorted(storages)) or 'no storage'}",
    ]
    return "; ".join(parts) + "."


def _named(peer: Peer) -> str:
    version = peer.version()
    return f"{peer.name} {version}" if version else f"{peer.name} (version unknown)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _registry_version() -> str:
    program = install.find("registry")
    if program is None:
        return f"{install.REGISTRY_IMAGE} in Docker"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    # "registry github.com/distribution/distribution/v3 3.0.0"
    words = done.stdout.split()
    return f"Distribution {words[-1].partition('+')[0].removeprefix('v')}" if words else "Distribution"
