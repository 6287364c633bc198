"""Finding, reading and writing manifest files."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_imagesync.errors import ConfigError, Problem
from airflow_imagesync.kubernetes.image_places import FoundImage, find_images
from airflow_imagesync.kubernetes.yaml_nodes import MalformedText, read_nodes

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file of a folder whose images are not known; ``line`` counts from one, and is None where there is none."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line is not None else ''}: {self.reason}"

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the file as plain JSON."""
        return {"file": self.file, "line": self.line, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that was read.

    ``name`` is relative to the folder that was looked at, with ``/`` between its parts; ``path`` is where the file
    itself is, behind links. ``mark`` is its byte order mark or empty, and ``text`` what is behind that.
    """

    name: str
    path: Path
    mark: str
    text: str
    images: tuple[FoundImage, ...]

    def content(self, text: str) -> bytes:
        """Return the bytes of the file with another text."""
        return (self.mark + text).encode()


def read_manifests(path: Path, leave_out: Path | None = None) -> tuple[list[ManifestFile], list[SkippedFile]]:
    """Return the manifests at `path`, and those of a folder that can't be read.

    In a folder those are all files ``*.yaml``, ``*.yml`` and ``*.json`` below it, sorted. Hidden files and folders,
    whose names begin with a dot, are passed over, as is the folder `leave_out`. Links to other files in the folder are
    followed, links that lead out of it are not. A file that is no YAML, as templates are, is skipped in a folder, since
    others there can be read; when `path` is that file, it is an error.

    :raises ConfigError: nothing is there, or the one file can't be read
    """
    if path.is_dir():
        return _read_folder(path, leave_out)
    if not path.exists():
        raise ConfigError(f"there is no file or folder {path}; say where the manifests are")
    try:
        return [_read(path.name, path.resolve())], []
    except _UnreadableError as error:
        place = f"{path}:{error.line}" if error.line is not None else str(path)
        raise ConfigError(f"{place}: {error}") from None


def write_files(contents: Mapping[Path, bytes], modes: Mapping[Path, int]) -> None:
    """Write files with their modes: all beside their places first, and only then each into its place at once.

    Folders are made as needed. Raises ConfigError when one can't be written.
    """
    waiting: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".imagesync-", dir=path.parent)
            waiting.append((Path(name), path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), modes[path])
                os.fsync(file.fileno())
        while waiting:
            beside, path = waiting[0]
            beside.replace(path)
            del waiting[0]
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}; nothing is half written") from None
    finally:
        for beside, _ in waiting:
            with contextlib.suppress(OSError):
                beside.unlink()


def mode_of(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def _read(name: str, path: Path) -> ManifestFile:
    try:
        # A pipe or a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _UnreadableError("not a regular file")
        content = path.read_bytes()
    except OSError as error:
        raise _UnreadableError(f"can't be read: {error.strerror or error}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _UnreadableError("not UTF-8 text", content.count(b"\n", 0, error.start) + 1) from None
    mark = _MARK if text.startswith(_MARK) else ""
    text = text.removeprefix(_MARK)
    try:
        documents = read_nodes(text, is_json=path.suffix.lower() == ".json")
    except MalformedText as error:
        hint = "; it looks like a template: render it first" if "{{" in text or "{%" in text else ""
        raise _UnreadableError(f"not YAML: {error}{hint}", error.line) from None
    return ManifestFile(name, path, mark, text, tuple(find_images(text, documents, name)))


def _read_folder(folder: Path, leave_out: Path | None) -> tuple[list[ManifestFile], list[SkippedFile]]:
    root = folder.resolve()
    files: list[ManifestFile] = []
    skipped: list[SkippedFile] = []
    real: dict[Path, str] = {}
    links: list[tuple[str, Path]] = []
    for path in _walk(root, leave_out.resolve() if leave_out is not None else None):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            links.append((name, _target(path)))
        else:
            real[path] = name
    for name, target in links:
        if not target.is_relative_to(root):
            skipped.append(SkippedFile(name, None, "a link out of the folder; such are not followed"))
        elif not target.is_dir():
            # A file that is there under its own name is not taken twice.
            real.setdefault(target, name)
    for path, name in sorted(real.items(), key=lambda one: one[1]):
        try:
            files.append(_read(name, path))
        except _UnreadableError as error:
            skipped.append(SkippedFile(name, error.line, str(error)))
    return files, sorted(skipped, key=lambda one: one.file)


def _target(link: Path) -> Path:
    """Return where a link leads; one that leads to itself is its own target, which then can't be read."""
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        return link


def _walk(root: Path, leave_out: Path | None) -> Iterator[Path]:
    """Yield the files that may be manifests, and links to folders, sorted."""

    def fail(error: OSError) -> None:
        raise ConfigError([Problem(f"can't list the folder: {error.strerror or error}", file=str(error.filename))])

    for parent, folders, names in os.walk(root, onerror=fail):
        here = Path(parent)
        folders[:] = sorted(one for one in _visible(folders) if here / one != leave_out)
        yield from (here / one for one in folders if (here / one).is_symlink())
        yield from (here / one for one in sorted(_visible(names)) if Path(one).suffix.lower() in SUFFIXES)


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (one for one in names if not one.startswith("."))
