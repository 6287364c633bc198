"""Numbers, times and foreign texts as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(count: float) -> str:
    """Return a number of bytes with a binary unit, like ``12.3 MiB``."""
    unit = 0
    # 1023.95 and not 1024, so that rounding never shows "1024.0 KiB".
    while count >= 1023.95 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def human_seconds(seconds: float) -> str:
    """Return a duration like ``0.4 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def utc_time(posix: float) -> str:
    """Return a time in POSIX seconds like ``2026-01-31 14:05:09 UTC``; one beyond this century as its end."""
    return datetime.fromtimestamp(min(posix, 4102444799.0), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count_of(number: int, noun: str) -> str:
    """Return ``1 image`` or ``3 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """Return `text` with control characters written out, line breaks among them.

    Error texts come from other machines, and a terminal would obey the escape sequences in them.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def one_line(text: str) -> str:
    """Return `text` on one line, with control characters written out."""
    return printable(" ".join(text.split()))
