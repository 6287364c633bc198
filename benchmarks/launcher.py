"""Runs one command and writes down what it cost: ``launcher.py RESULT PROGRAM ARGUMENT...``

A program of its own because Linux counts the memory of the process that starts a command as the command's:
this one is small, and imports nothing that it does not need.
"""

import json
import os
import signal
import sys
import time


def main(result: str, *command: str) -> None:
    """Run ``command`` to its end; ``result`` is the file to write to."""
    started = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGPIPE])
    _, status, usage = os.wait4(process, 0)
    cost = {
        "wall": time.monotonic() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w") as file:  # noqa: PTH123 - pathlib would cost memory
        json.dump(cost, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
