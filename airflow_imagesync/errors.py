"""Every exception this package raises.

ImageSyncError
|- ConfigError (also ValueError)          what the user wrote
|- InvalidReference (also ValueError)     a name, tag or digest that breaks the specification's grammar
|- SyncCancelled                          the run was told to stop                       temporary
|- ImagesFailed                           some images of a task failed                   temporary if any was
|- RecordsUnusable                        somebody asked to see records, and they can't be read
|- ContentError                           what a registry sent is not what it must be
|  |- DigestMismatch
|  |- SizeMismatch
|  `- UnsupportedContent
|- TransportError                         no answer: connect, TLS, timeout            temporary
`- RegistryError                          the registry answered with an error         temporary for 408 and 5xx
   |- Unauthorized                        401
   |- Denied                              403
   |- NotFound                            404
   |- Conflict                            an immutable tag
   |- RateLimited                         429                                          temporary
   `- ProtocolError                       answered, but against the specification

Each one knows whether it is ``temporary``: whether the same request may succeed later without anybody
changing anything. Messages carry no query string, token or password.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class ImageSyncError(Exception):
    """Base of all errors of this package.

    ``tried`` is set once the request was repeated as often as the policy allows, so that nobody above repeats it all.
    ``retry_at`` is when it may be repeated, in POSIX seconds, where the registry asked for a longer wait than was
    sat out.
    """

    temporary: bool = False
    tried: bool = False
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration, with its place.

    ``file`` is the path as the user gave it, or None for text that came from no file; ``rule`` the 0-based
    position of the rule, or None where none applies; ``field`` the key at fault, or None; ``line`` the line where
    it stands, counted from 1, or None where that is not known (not compared: one mistake can be written in many
    ways).
    """

    message: str
    file: str | None = None
    rule: int | None = None
    field: str | None = None
    line: int | None = dataclasses.field(default=None, compare=False)

    def __str__(self) -> str:
        place = [self.file] if self.file else []
        if self.line is not None:
            place.append(f"line {self.line}")
        if self.rule is not None:
            place.append(f"rule {self.rule}")
        if self.field:
            place.append(self.field)
        return ": ".join([", ".join(place), self.message]) if place else self.message


class ConfigError(ImageSyncError, ValueError):
    """What the user wrote is wrong; ``problems`` lists every mistake that was found."""

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class InvalidReference(ImageSyncError, ValueError):
    """A registry, repository, tag or digest that the specification's grammar does not allow."""


class SyncCancelled(ImageSyncError):
    """The run was told to stop; what was not finished is left for the next run."""

    temporary = True


class ImagesFailed(ImageSyncError):
    """Some images of a task could not be copied; at least one of them may succeed in another try.

    ``retry_at`` is when the last of those may be repeated that a registry wants to be waited for, in POSIX seconds, or
    None; ``only_time`` says that all that may succeed are such.
    """

    temporary = True

    def __init__(self, message: str, *, retry_at: float | None = None, only_time: bool = False) -> None:
        super().__init__(message)
        self.retry_at = retry_at
        self.only_time = only_time

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, {"retry_at": self.retry_at, "only_time": self.only_time}


class RecordsUnusable(ImageSyncError):
    """The database of records can't be opened or read. A run goes on without; who asked to see them is told."""


class ContentError(ImageSyncError):
    """What a registry sent is not what its digest, size or media type says it is."""


class DigestMismatch(ContentError):
    """The bytes do not hash to the digest they were asked for by."""


class SizeMismatch(ContentError):
    """There are more or fewer bytes than the descriptor says."""


class UnsupportedContent(ContentError):
    """Content of a kind that is not copied, such as a Docker schema 1 manifest."""


class TransportError(ImageSyncError):
    """The registry gave no answer: name resolution, connection, TLS or a timeout.

    ``temporary`` is False for what no repetition mends, such as a certificate that is not trusted.
    """

    temporary = True

    def __init__(self, message: str, *, temporary: bool = True) -> None:
        super().__init__(message)
        self.temporary = temporary

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, {"temporary": self.temporary}


class RegistryError(ImageSyncError):
    """The registry answered with an error.

    ``url`` is redacted (no query string); ``codes`` are the error codes of the answer's body, as the
    distribution specification names them, and ``digests`` those named there; ``retry_after`` is the wait the
    registry asked for, in seconds, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        url: str = "",
        status: int = 0,
        codes: Sequence[str] = (),
        temporary: bool | None = None,
        retry_after: float | None = None,
        digests: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.method = method
        self.url = url
        self.status = status
        self.codes = tuple(codes)
        self.digests = tuple(digests)
        self.retry_after = retry_after
        if temporary is not None:
            self.temporary = temporary

    @property
    def misses_blobs(self) -> bool:
        """Whether a manifest was refused because the registry does not know what it refers to."""
        return not {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}.isdisjoint(self.codes)

    def with_advice(self, advice: str) -> Self:
        """Return the same error with more to say."""
        error = copy.copy(self)
        error.args = (f"{self}; {advice}",)
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__


class Unauthorized(RegistryError):
    """401: the registry wants a login, or refused the one it got."""


class Denied(RegistryError):
    """403: the login is known but may not do this."""


class NotFound(RegistryError):
    """404: the repository, tag, manifest or blob is not there."""


class Conflict(RegistryError):
    """The tag exists and the registry does not allow to change it."""


class RateLimited(RegistryError):
    """429: too many requests."""

    temporary = True


class ProtocolError(RegistryError):
    """The registry answered, but against the specification."""
