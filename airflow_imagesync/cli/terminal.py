"""Writing to standard output and standard error, and logging, whatever they are connected to."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

from airflow_imagesync.domain.render import printable

if TYPE_CHECKING:
    from rich.console import Console

PACKAGE_LOGGER = "airflow_imagesync"
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def write_output(stream: TextIO | None, text: str) -> str | None:
    """Write `text` to `stream`, which leads to standard output; return why that failed, or None.

    A reader that went away, as `head` does, is no failure.
    """
    if stream is None:  # the shell's >&-
        return "can't write standard output: it is closed"
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _give_up(stream)
    except OSError as error:
        _give_up(stream)
        return f"can't write standard output: {error.strerror or error}"
    return None


def _give_up(stream: TextIO) -> None:
    # Python flushes once more at its end and would complain then.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say(text: str) -> None:
    """Write `text` to standard error with a line break at its end; where nobody can read it, it is lost."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return
    with contextlib.suppress(OSError):
        stream.write(_safe(text) + "\n")
        stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees what is written to `stream` at once."""
    return stream is not None and stream.isatty()


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def error_console() -> Console:
    """Return a console on standard error."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and seldom needed

    return Console(stderr=True)


class _LogHandler(logging.Handler):
    """Writes records to standard error, above the progress display where there is one."""

    def __init__(self, console: Console | None) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._console is None:
                say(line)
            else:
                self._console.print(_safe(line), markup=False, highlight=False, emoji=False, soft_wrap=True)
        except Exception:  # noqa: BLE001 - as in every handler: a log line never stops the program
            self.handleError(record)


def set_up_logging(verbosity: int, console: Console | None) -> None:
    """Send the package's log to standard error; `verbosity` counts the -v options.

    Libraries keep quiet: their debug logs may hold what a URL's query string says.
    """
    handler = _LogHandler(console)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger(PACKAGE_LOGGER)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
