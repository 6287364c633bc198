"""The programs that are compared, each told the same in its own words."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.crane import Crane
from benchmarks.tools.image_syncer import ImageSyncer
from benchmarks.tools.oras import Oras
from benchmarks.tools.regctl import Regctl
from benchmarks.tools.regsync import Regsync
from benchmarks.tools.skopeo import Skopeo
from benchmarks.tools.tool import Peer

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Skopeo, Crane, Regctl, Regsync, ImageSyncer, Oras)}


def find_peers(names: Sequence[str] | None = None) -> list[Peer]:
    """Return those peers that are on PATH, of all or of the named ones, in the order of PEERS."""
    found = ((peer, shutil.which(name)) for name, peer in PEERS.items() if names is None or name in names)
    return [peer(Path(program)) for peer, program in found if program is not None]
