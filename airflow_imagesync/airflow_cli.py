"""The commands under ``airflow imagesync``: those of the plain command line, with Airflow's connections.

Every ``airflow`` command imports this module, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TextIO

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand

from airflow_imagesync.cli.options import COMMANDS, DESCRIPTION, RECORDS_COMMANDS, RECORDS_DESCRIPTION, options_of
from airflow_imagesync.domain.login import Login


def get_imagesync_cli_commands() -> list[CLICommand]:
    """Return the commands that the provider adds to Airflow's command line."""
    return [
        GroupCommand(
            name="imagesync",
            help=DESCRIPTION,
            subcommands=[
                *(_command(command, command, summary) for command, summary in COMMANDS.items()),
                GroupCommand(
                    name="records",
                    help=f"{RECORDS_DESCRIPTION.capitalize()}.",
                    subcommands=[
                        _command(command.split()[1], command, summary) for command, summary in RECORDS_COMMANDS.items()
                    ],
                ),
            ],
        )
    ]


def _command(name: str, command: str, summary: str) -> ActionCommand:
    return ActionCommand(
        name=name,
        help=f"{summary.capitalize()}.",
        func=partial(run_command, command),
        args=[
            Arg(option.flags, help=option.help, **option.settings)  # type: ignore[no-untyped-call]
            for option in options_of(command)
        ],
    )


def run_command(command: str, arguments: Namespace) -> None:
    """Run one of the commands; ends in SystemExit with its exit code, which Airflow would drop otherwise.

    :param command: its name in full, such as ``plan`` or ``records show``
    :param arguments: what Airflow's parser made of the options
    """
    from airflow_imagesync.cli.commands import execute

    # As Airflow's own `connections` commands do: only a server process may read the connections it stores.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    with _standard_output_apart() as output:
        from airflow_imagesync.operators.records import configured_records  # may log, as all of Airflow may

        try:
            code = execute(
                command, arguments, resolve=login_from_airflow, usual_records=configured_records, output=output
            )
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
    sys.exit(code)


@contextmanager
def _standard_output_apart() -> Iterator[TextIO]:
    """Give a stream to standard output for what a command shows; all else goes to standard error meanwhile.

    Airflow logs to standard output, partly by streams that were opened long before a command runs.
    """
    try:
        sys.stdout.flush()
        number, error = sys.stdout.fileno(), sys.stderr.fileno()
        kept = os.dup(number)
    except (AttributeError, OSError, ValueError):  # closed, or nothing that has a file descriptor
        yield sys.stdout
        return
    before = sys.stdout
    with os.fdopen(kept, "w", encoding=before.encoding) as output, redirect_stdout(sys.stderr):
        os.dup2(error, number)
        try:
            yield output
        finally:
            before.flush()
            os.dup2(kept, number)


def login_from_airflow(entry: Login) -> Login:
    """Return a login filled in with the Airflow connection it names.

    :param entry: the login as configured
    :raises ConfigError: when Airflow knows no such connection, or it does not fit the login
    """
    from airflow_imagesync.hooks.registry import RegistryHook

    return entry if entry.conn_id is None else RegistryHook(entry.conn_id).login(entry)
