"""The options of every command, and the argparse parser that is built from them.

The one table here also makes Airflow's commands (`airflow_imagesync.airflow_cli`), which every ``airflow``
command imports, so it stays light.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from airflow_imagesync import __version__
from airflow_imagesync.domain.platform import Platform
from airflow_imagesync.domain.reference import normalise_registry
from airflow_imagesync.errors import InvalidReference

DESCRIPTION = "Copy container images between registries and keep them in sync."
COMMANDS = {
    "check": "read and validate a configuration without network, and show what each rule means",
    "plan": "show what a run would do",
    "run": "copy what the destinations lack",
    "verify": "compare every destination with its source by digest, and show what differs",
}
RECORDS_DESCRIPTION = "look at what earlier runs learned, take it out, or drop what is old"
#: The commands below ``records``; their options name them in full.
RECORDS_COMMANDS = {
    "records show": "count what is remembered of each registry, and list the last runs and what failed",
    "records export": "write out everything that is remembered, one object a line",
    "records prune": "forget what no run has seen for a while",
}
MARKDOWN_SUFFIXES = (".md", ".markdown")
#: The limits that a configuration has too (`config.schema`), which is too heavy to import here.
MAX_CONCURRENCY = 256
MAX_RETRIES = 20
#: How long a wait may last that a registry asks for, in seconds, where --max-wait says nothing.
DEFAULT_MAX_WAIT = 60.0
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Option:
    """One option or argument: its flags, what argparse needs to know, and the commands that have it."""

    flags: tuple[str, ...]
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = tuple(COMMANDS)


def number(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`, for argparse."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return read


def duration(text: str) -> float:
    """Return the seconds that a text like ``90``, ``30s``, ``10m``, ``6h`` or ``1d`` means, for argparse."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, such as 30s, 10m or 6h")
    return float(found[1]) * _UNITS[found[2]]


def registry_name(text: str) -> str:
    """Return the name that a registry has everywhere here, for argparse."""
    try:
        return normalise_registry(text)
    except InvalidReference as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def platform_list(text: str) -> list[Platform]:
    """Return the platforms of a comma-separated list, for argparse."""
    try:
        return [Platform.parse(one) for one in _parts(text)]
    except InvalidReference as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def filter_list(text: str) -> list[tuple[str, str]]:
    """Return the (name, detail) pairs of ``name[:detail]`` items with commas between them, for argparse."""
    pairs = []
    for one in _parts(text):
        name, _, detail = one.lower().partition(":")
        if not name:
            raise argparse.ArgumentTypeError(f"{one!r} names nothing before the colon")
        pairs.append((name, detail))
    return pairs


def report_path(text: str) -> Path:
    """Return the path of a report, whose suffix says what is written, for argparse."""
    path = Path(text)
    if path.suffix.lower() not in (".json", *MARKDOWN_SUFFIXES):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .json nor in {MARKDOWN_SUFFIXES[0]}")
    return path


def _parts(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


OPTIONS = (
    Option(
        ("config",),
        "configuration, YAML or JSON (with comments), native or image-syncer's",
        {"nargs": "?", "metavar": "CONFIG"},
    ),
    Option(("--auth",), "image-syncer's file of logins, goes with --images", {"metavar": "FILE"}),
    Option(("--images",), "image-syncer's file of rules, in place of CONFIG", {"metavar": "FILE"}),
    Option(
        ("-p", "--concurrency", "--proc"),
        "transfers at once, over all images",
        {"type": number(1, MAX_CONCURRENCY), "metavar": "N"},
    ),
    Option(
        ("-r", "--retries"),
        "how often what failed temporarily is tried again",
        {"type": number(0, MAX_RETRIES), "metavar": "N"},
    ),
    Option(
        ("--max-wait",),
        "the longest wait that a registry may ask for, such as 30s, 10m or 6h (default: 1m); what would have to wait "
        "longer fails",
        {"type": duration, "metavar": "TIME", "default": DEFAULT_MAX_WAIT},
        ("plan", "run", "verify"),
    ),
    Option(
        ("--platform",),
        "copy only this platform, os/arch or os/arch/variant; may be repeated, or a list with commas",
        {
            "action": "extend",
            "type": platform_list,
            "default": [],
            "dest": "platforms",
            "metavar": "OS/ARCH[/VARIANT]",
        },
    ),
    Option(
        ("--os",),
        "copy only this operating system; may be repeated, and combined with --arch",
        {
            "action": "extend",
            "type": filter_list,
            "default": [],
            "dest": "os_filters",
            "metavar": "OS[:VERSION]",
        },
    ),
    Option(
        ("--arch",),
        "copy only this architecture; may be repeated, and combined with --os",
        {
            "action": "extend",
            "type": filter_list,
            "default": [],
            "dest": "arch_filters",
            "metavar": "ARCH[:VARIANT]",
        },
    ),
    Option(
        ("--force",),
        "copy what is the same, too",
        {"action": "store_true", "default": False},
        ("check", "plan", "run"),
    ),
    Option(("--default-registry",), "registry for rules with an empty destination", {"metavar": "REGISTRY"}),
    Option(("--default-namespace",), "namespace for rules with an empty destination", {"metavar": "NAMESPACE"}),
    Option(
        ("--docker-config",),
        "take logins that the configuration does not give from Docker's configuration",
        {"action": "store_true"},
    ),
    Option(
        ("--credential-helpers",),
        "run the credential helpers that Docker's configuration names",
        {"action": "store_true"},
    ),
    Option(
        ("--report",),
        "write a report, JSON or Markdown by suffix; a JSON report that is there already tells since how "
        "many runs a rule has been failing",
        {"type": report_path, "metavar": "FILE"},
        ("plan", "run", "verify"),
    ),
    Option(
        ("--output-success-images",),
        "write image-syncer's list of the images that were copied, JSON or YAML by suffix",
        {"type": Path, "metavar": "FILE", "dest": "success_images"},
        ("run",),
    ),
    Option(
        ("file",),
        "where to write (default: standard output)",
        {"nargs": "?", "type": Path, "metavar": "FILE"},
        ("records export",),
    ),
    Option(
        ("--older-than",),
        "forget what was last seen so long ago, such as 90d",
        {"type": duration, "metavar": "TIME", "required": True},
        ("records prune",),
    ),
    Option(
        ("--registry",),
        "only what is of this registry",
        {"type": registry_name, "metavar": "REGISTRY"},
        ("records show", "records prune"),
    ),
    Option(
        ("--records",),
        "where to keep what runs learn: a file for SQLite, or an SQLAlchemy URL (default: a file in the user's state "
        "directory; under 'airflow imagesync' what Airflow's configuration says)",
        {"metavar": "FILE_OR_URL"},
        ("plan", "run", *RECORDS_COMMANDS),
    ),
    Option(
        ("--no-records",),
        "neither use nor keep what runs learn",
        {"action": "store_true"},
        ("plan", "run"),
    ),
    Option(
        ("-o", "--output"),
        "what standard output gets: table (default) or json",
        {"choices": ("table", "json"), "default": "table"},
        (*COMMANDS, "records show"),
    ),
    Option(
        ("-v", "--verbose"),
        "say more: list images that are the same, log what is done; twice for every detail",
        {"action": "count", "default": 0},
        (*COMMANDS, "records show"),
    ),
)


def options_of(command: str) -> tuple[Option, ...]:
    """Return the options that `command` has."""
    return tuple(option for option in OPTIONS if command in option.commands)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m airflow_imagesync``; the command is in ``command``, in full."""
    parser = argparse.ArgumentParser(prog="airflow-imagesync", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"airflow_imagesync {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, summary in COMMANDS.items():
        _add_command(commands, command, command, summary)
    records = commands.add_parser(
        "records", help=RECORDS_DESCRIPTION, description=f"{RECORDS_DESCRIPTION.capitalize()}."
    )
    below = records.add_subparsers(metavar="COMMAND", required=True)
    for command, summary in RECORDS_COMMANDS.items():
        _add_command(below, command.split()[1], command, summary)
    return parser


def _add_command(commands: Any, name: str, command: str, summary: str) -> None:
    parser = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(command=command)
    for option in options_of(command):
        parser.add_argument(*option.flags, help=option.help, **option.settings)


def usage_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with options that are right one by one, or None."""
    if arguments.config is not None and (arguments.auth is not None or arguments.images is not None):
        return "give either CONFIG or --auth and --images, not both"
    if arguments.config is None and arguments.images is None:
        return "give CONFIG, or --images (with --auth for the logins)"
    if getattr(arguments, "no_records", False) and arguments.records is not None:  # check has neither
        return "give either --records or --no-records, not both"
    return None


def wanted_platforms(arguments: argparse.Namespace) -> tuple[Platform, ...]:
    """Return the platforms that --platform, --os and --arch ask for; empty for all.

    As in image-syncer, an image must be of one of the systems and of one of the architectures.
    """
    found = list(arguments.platforms)
    if arguments.os_filters or arguments.arch_filters:
        pairs = product(arguments.os_filters or [("", "")], arguments.arch_filters or [("", "")])
        found += [Platform(os, arch, variant, version) for (os, version), (arch, variant) in pairs]
    return tuple(dict.fromkeys(found))
