from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

#: Writes files into a folder, ``{name: text}``, and returns the folder.
Written = Callable[[dict[str, str | bytes]], Path]


@pytest.fixture
def manifests(tmp_path: Path) -> Written:
    def write(files: dict[str, str | bytes]) -> Path:
        folder = tmp_path / "manifests"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    return write
