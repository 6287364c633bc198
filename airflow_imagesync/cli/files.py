"""Output files: whether one can be written, asked before a run begins, and writing it whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def writing_problem(path: Path) -> str | None:
    """Return why `path` can't be written, or None; what is there stays as it is, and nothing is left."""
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            return f"can't write {path}: it is a directory"
        if target.exists():
            if not os.access(target, os.W_OK):
                return f"can't write {path}: no permission"
            if not target.is_file():
                return None
        # Only trying tells: permissions say nothing to root, nor about a file system mounted read-only.
        probe = _beside(target)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
    except OSError as error:
        return f"can't write {path}: {_reason(error)}"
    return None


def write_file(path: Path, text: str | Iterable[str]) -> str | None:
    """Write `text`, or its parts, to `path`, whole or not at all; return why that failed, or None.

    A file that is there keeps its permissions, and a symbolic link goes on pointing to its file.
    """
    target = Path(os.path.realpath(path))
    content = (part.encode("utf-8", errors="backslashreplace") for part in ([text] if isinstance(text, str) else text))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:  # a device or a pipe, which a renamed file would replace
                stream.writelines(content)
            return None
        new = _beside(target)
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
                if target.exists():
                    os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
                stream.writelines(content)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        return f"can't write {path}: {_reason(error)}"
    return None


def earlier_report(path: Path) -> Mapping[str, Any] | None:
    """Return the JSON object that `path` holds, or None where there is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, which need not be there."""
    return os.path.realpath(one) == os.path.realpath(other)


def _beside(target: Path) -> Path:
    """Return a new name in the folder of `target`: a rename is only atomic within a file system."""
    return target.parent / f".imagesync-{secrets.token_hex(8)}.tmp"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
