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
from airflow_imagesync.errors import InvalidReference

DESCRIPTION = "Copy container images between registries and keep them in sync."
COMMANDS = {
    "check": "read and validate a configuration without network, and show what each rule means",
    "plan": "show what a run would do",
    "run": "copy what the destinations lack",
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
        ("plan", "run"),
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
    Option(("--force",), "copy what is the same, too", {"action": "store_true"}),
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
        ("plan", "run"),
    ),
    Option(
        ("--output-success-images",),
        "write image-syncer's list of the images that were copied, JSON or YAML by suffix",
        {"type": Path, "metavar": "FILE", "dest": "success_images"},
        ("run",),
    ),
    Option(
        ("-o", "--output"),
        "what standard output gets: table (default) or json",
        {"choices": ("table", "json"), "default": "table"},
    ),
    Option(
        ("-v", "--verbose"),
        "say more: list images that are the same, log what is done; twice for every detail",
        {"action": "count", "default": 0},
    ),
)


def options_of(command: str) -> tuple[Option, ...]:
    """Return the options that `command` has."""
    return tuple(option for option in OPTIONS if command in option.commands)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m airflow_imagesync``; the command is in ``command``."""
    parser = argparse.ArgumentParser(prog="airflow-imagesync", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"airflow_imagesync {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, summary in COMMANDS.items():
        sub = commands.add_parser(command, help=summary, description=f"{summary.capitalize()}.")
        for option in options_of(command):
            sub.add_argument(*option.flags, help=option.help, **option.settings)
    return parser


def usage_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with options that are right one by one, or None."""
    if arguments.config is not None and (arguments.auth is not None or arguments.images is not None):
        return "give either CONFIG or --auth and --images, not both"
    if arguments.config is None and arguments.images is None:
        return "give CONFIG, or --images (with --auth for the logins)"
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
