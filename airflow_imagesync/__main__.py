"""The command ``python -m airflow_imagesync``, also installed as ``airflow-imagesync``; starts no Airflow."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from airflow_imagesync.cli.options import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own where None) and return its exit code.

    A wrong option ends in SystemExit with code 2, as argparse does it; ``--help`` and ``--version`` with 0.
    """
    arguments = build_parser().parse_args(argv)
    try:
        # Late, so that --help and a wrong option answer at once.
        from airflow_imagesync.cli.commands import execute  # noqa: PLC0415
        from airflow_imagesync.cli.records import user_records  # noqa: PLC0415
        from airflow_imagesync.connections import login_from_environment  # noqa: PLC0415

        return execute(
            arguments.command,
            arguments,
            resolve=login_from_environment,
            usual_records=user_records,
            output=sys.stdout,
        )
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
