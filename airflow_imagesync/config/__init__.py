"""Configurations: YAML, JSON with comments and image-syncer's files, read into values of the domain.

Never touches the network. Every mistake is found, and told with its file, rule and field.
"""

from __future__ import annotations

from airflow_imagesync.config.defaults import Overrides
from airflow_imagesync.config.loader import (
    ParsedSyntax,
    ReadResult,
    check_syntax,
    load_config,
    parse_config,
    read_config,
    read_text,
)

__all__ = [
    "Overrides",
    "ParsedSyntax",
    "ReadResult",
    "check_syntax",
    "load_config",
    "parse_config",
    "read_config",
    "read_text",
]
