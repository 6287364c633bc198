"""The exit codes of all commands."""

from __future__ import annotations

from airflow_imagesync.cli import terminal

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


def code_of(problem: str | None) -> int:
    """Return the exit code of writing something, and say why it failed if it did."""
    if problem is None:
        return EXIT_OK
    terminal.say(f"error: {problem}")
    return EXIT_USAGE
