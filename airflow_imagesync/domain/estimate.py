"""How much copying a plan would send, and about how long that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: Bytes a second that are assumed where no run has told: half of what a network of 1 Gbit/s carries.
ASSUMED_RATE = 50 * 1024 * 1024.0
#: What an image takes besides its bytes, in seconds: a dozen short requests, with some images under way at once.
SECONDS_PER_IMAGE = 0.1
#: A run that copied less than this does not tell how fast copying is: it did other things for most of its time.
TELLING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToRegistry:
    """
    What copying sends to one destination registry.

    ``images`` go there, ``unknown`` of them have sizes that are not known. ``to_send`` bytes are those of the blobs
    that it is not known to have, each counted once, because a registry mounts elsewhere what it has in one repository;
    one that mounts nothing gets more. ``there`` bytes are those of blobs that it is known to have.
    """

    images: int = 0
    unknown: int = 0
    to_send: int = 0
    there: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What copying a plan would send.

    ``sizes`` has, for each image of the plan in its order, the bytes of its blobs, each blob counted once; None for an
    image that is not to be copied, and for one whose size is not known. ``registries`` has the destination registries
    by name, and ``unknown`` the reasons for which sizes are not known, each with its number of images. ``rate`` is how
    many bytes a second an earlier run copied, None where none has told.
    """

    sizes: tuple[int | None, ...] = ()
    registries: Mapping[str, ToRegistry] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    rate: float | None = None

    @property
    def images(self) -> int:
        """How many images are to be copied; one image to several destinations counts for each."""
        return sum(one.images for one in self.registries.values())

    @property
    def unknown_images(self) -> int:
        """How many of them have sizes that are not known."""
        return sum(one.unknown for one in self.registries.values())

    @property
    def size(self) -> int:
        """The sizes of all images in bytes, as far as they are known."""
        return sum(size for size in self.sizes if size is not None)

    @property
    def to_send(self) -> int:
        """How many bytes are sent at most, to all registries."""
        return sum(one.to_send for one in self.registries.values())

    @property
    def there(self) -> int:
        """How many bytes all registries are known to have."""
        return sum(one.there for one in self.registries.values())

    @property
    def is_measured(self) -> bool:
        """Whether the time rests on the rate of an earlier run."""
        return self.rate is not None and math.isfinite(self.rate) and self.rate > 0

    @property
    def bytes_per_second(self) -> float:
        """The rate that the time rests on."""
        return self.rate if self.rate is not None and self.is_measured else ASSUMED_RATE

    @property
    def seconds(self) -> float | None:
        """About how long copying takes, in seconds, without the images of unknown size; None where there are others."""
        known = self.images - self.unknown_images
        if known == 0 and self.unknown_images:
            return None
        return self.to_send / self.bytes_per_second + known * SECONDS_PER_IMAGE

    def as_dict(self) -> dict[str, Any]:
        """Return the totals as plain JSON, for the document of a plan."""
        return {
            "images": self.images,
            "unknown_images": self.unknown_images,
            "bytes": self.size,
            "bytes_to_send": self.to_send,
            "bytes_there": self.there,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "bytes_per_second": round(self.bytes_per_second),
            "rate": "measured" if self.is_measured else "assumed",
            "registries": {
                name: {
                    "images": one.images,
                    "unknown_images": one.unknown,
                    "bytes_to_send": one.to_send,
                    "bytes_there": one.there,
                }
                for name, one in self.registries.items()
            },
            "unknown": dict(self.unknown),
        }

    def dump(self) -> dict[str, Any]:
        """Return everything as plain JSON, for XCom; `load` reads it back."""
        return {
            "sizes": list(self.sizes),
            "registries": {name: asdict(one) for name, one in self.registries.items()},
            "unknown": dict(self.unknown),
            "rate": self.rate,
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Estimate:
        """Return the estimate that `dump` wrote."""
        return cls(
            sizes=tuple(document["sizes"]),
            registries={name: ToRegistry(**one) for name, one in document["registries"].items()},
            unknown=dict(document["unknown"]),
            rate=document["rate"],
        )

    def sizes_of(self, images: Sequence[object]) -> tuple[int | None, ...]:
        """Return the sizes of a plan's `images`; raises ValueError when the estimate is of another plan."""
        if len(self.sizes) != len(images):
            raise ValueError(f"the estimate is of a plan of {len(self.sizes)} images, not of one of {len(images)}")
        return self.sizes


def measured_rate(totals: Mapping[str, Any] | None) -> float | None:
    """Return how many bytes a second a run copied.

    `totals` are those of its report, perhaps read from a file. None where they do not tell: they are damaged, or so
    little was copied that most of the time went elsewhere.
    """
    found = [(totals or {}).get(key) for key in ("bytes_copied", "seconds")]
    copied, seconds = (float(one) if isinstance(one, int | float) else 0.0 for one in found)
    if not (math.isfinite(seconds) and seconds > 0 and copied >= TELLING_BYTES):
        return None
    return copied / seconds
