"""Platforms (``os/arch[/variant]``) and whether a filter wants one.

OCI image spec, image-index.md "platform".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_imagesync.domain.reference import quoted
from airflow_imagesync.errors import InvalidReference

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture and a variant of it; in a filter an empty part matches all."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return the platform that ``os/arch`` or ``os/arch/variant`` names; raise InvalidReference."""
        parts = text.strip().split("/")
        if not 2 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidReference(
                f"{quoted(text)} is not a platform; expected os/arch or os/arch/variant, like linux/arm/v7"
            )
        return cls(*(part.lower() for part in parts))

    @classmethod
    def of_descriptor(cls, document: Mapping[str, Any]) -> Platform | None:
        """Return the platform of an index entry's ``platform`` object or of an image configuration.

        None when it names neither an operating system nor an architecture.
        """

        def text(key: str) -> str:
            value = document.get(key)
            return value.lower() if isinstance(value, str) else ""

        if not text("os") and not text("architecture"):
            return None
        return cls(text("os"), text("architecture"), text("variant"), text("os.version"))

    def wants(self, platform: Platform) -> bool:
        """Whether this filter matches `platform`: empty parts of the filter match anything.

        ``linux/arm64`` also wants ``linux/arm64/v8`` and the other way round: v8 is the only variant the
        specification has for arm64, and many images leave it out.
        """
        variant = platform.variant
        if platform.architecture == "arm64" and not variant:
            variant = "v8"
        return (
            self.os in ("", platform.os)
            and self.architecture in ("", platform.architecture)
            and self.variant in ("", variant)
            and (not self.os_version or platform.os_version.startswith(self.os_version))
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os or "*", self.architecture or "*", self.variant) if part)


def wanted(filters: Iterable[Platform], platform: Platform) -> bool:
    """Whether any of `filters` matches `platform`."""
    return any(one.wants(platform) for one in filters)
