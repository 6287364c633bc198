"""Where a command's records are, opening them for a run, and the commands that show, export and prune them."""

from __future__ import annotations

import json
import os
import secrets
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, TextIO, TypeAlias

from airflow_imagesync.cli import files, terminal
from airflow_imagesync.cli.exits import EXIT_FAILED, EXIT_OK, EXIT_USAGE, code_of
from airflow_imagesync.cli.tables import records_view
from airflow_imagesync.domain.render import count_of, json_text, utc_time
from airflow_imagesync.engine.records import NO_RECORDS, Records
from airflow_imagesync.errors import ConfigError, RecordsUnusable

if TYPE_CHECKING:
    from sqlalchemy import URL

    from airflow_imagesync.engine.records_view import RecordsView

    #: A path, an SQLAlchemy URL, or None for none.
    Where: TypeAlias = str | URL | None

_STATE_VARIABLE = "XDG_STATE_HOME"
_FILE = "airflow-imagesync/records.db"
#: Lines that are written at once.
_LINES = 1000


def user_records() -> str:
    """Return the file with the records of this user's runs, in the folder that the XDG specification names."""
    folder = os.environ.get(_STATE_VARIABLE, "")
    # The specification has relative paths ignored.
    return f"{folder}/{_FILE}" if folder.startswith("/") else f"~/.local/state/{_FILE}"


def where_of(arguments: Namespace, usual: Callable[[], Where]) -> Where:
    """Return where the records of a command are: where its options say, else in the `usual` place."""
    if getattr(arguments, "no_records", False):  # only runs have it
        return None
    return usual() if arguments.records is None else str(arguments.records)


def open_for_run(where: Where) -> Records:
    """Open records for a run from a terminal, to be closed; records of nothing, after a warning, where that fails."""
    if where is None:
        return NO_RECORDS
    # Slow to import, and without records there is no need of it.
    from airflow_imagesync.engine.records_database import open_records  # noqa: PLC0415

    began = datetime.now(UTC).isoformat(timespec="seconds")
    return open_records(where, run=f"cli/{began}-{secrets.token_hex(3)}")


def execute_records(command: str, arguments: Namespace, usual: Callable[[], Where], output: TextIO | None) -> int:
    """Do one of the commands below ``records`` and return its exit code.

    `usual` tells where the records are where no option does; it may raise ConfigError. `output` leads to standard
    output; None where that is closed.
    """
    terminal.set_up_logging(getattr(arguments, "verbose", 0), None)
    act = {"records show": _show, "records export": _export, "records prune": _prune}[command]
    from airflow_imagesync.engine.records_view import RecordsView  # noqa: PLC0415 - as above

    try:
        where = where_of(arguments, usual)
        if where is None:
            terminal.say("no records are kept: the configuration says so")
            return EXIT_OK
        with RecordsView(where) as view:
            if not view.exists:
                terminal.say(f"there are no records in {view.name} yet")
            return act(arguments, view, output)
    except ConfigError as error:
        for problem in error.problems:
            terminal.say(f"error: {problem}")
        return EXIT_USAGE
    except RecordsUnusable as error:
        terminal.say(f"error: {error}")
        return EXIT_FAILED


def _show(arguments: Namespace, view: RecordsView, output: TextIO | None) -> int:
    document = view.summary(arguments.registry)
    if arguments.output == "json":
        text = json_text(document)
    elif view.exists:
        text = records_view(document, all_images=bool(arguments.verbose), terminal=terminal.is_terminal(output))
    else:
        return EXIT_OK
    return code_of(terminal.write_output(output, text))


def _export(arguments: Namespace, view: RecordsView, output: TextIO | None) -> int:
    lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in view.export())
    if arguments.file is not None:
        return code_of(files.write_file(arguments.file, lines))
    for text in _in_parts(lines):
        code = code_of(terminal.write_output(output, text))
        if code != EXIT_OK:
            return code
    return EXIT_OK


def _in_parts(lines: Iterator[str]) -> Iterator[str]:
    return iter(lambda: "".join(islice(lines, _LINES)), "")


def _prune(arguments: Namespace, view: RecordsView, output: TextIO | None) -> int:
    blobs, images = view.prune(arguments.older_than, arguments.registry)
    since = utc_time(max(0.0, time.time() - arguments.older_than))
    text = f"forgot {count_of(blobs, 'blob')} and {count_of(images, 'image')} that no run has seen since {since}\n"
    return code_of(terminal.write_output(output, text))
