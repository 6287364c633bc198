"""What can go wrong at which step of a copy: the table that the fault matrix is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from airflow_imagesync.domain.timeouts import Timeouts
from devtools import images
from tests.support import faults
from tests.support.clients import SHORT
from tests.support.front import Action, Exchange, Request

#: What is copied: an index with an image; and one more image, with which nothing goes wrong.
CHILD = images.image([images.layer(20_000, "fault")], annotations={"note": "child"})
IMAGE = images.index([CHILD], annotations={"note": "index"})
OTHER = images.image([images.layer(2_000, "fine")])
LAYER = CHILD.blobs[-1]
_HALF = LAYER.size // 2


class Step(StrEnum):
    """A request that a copy makes."""

    TAGS = "source tag list"
    SOURCE_HEAD = "source manifest HEAD"
    SOURCE_GET = "source manifest GET"
    BLOB_GET = "source blob GET"
    HEAD = "destination manifest HEAD"
    BLOB_HEAD = "destination blob HEAD"
    MOUNT = "mount POST"
    POST = "upload POST"
    PUT = "upload PUT"
    CHILD_PUT = "child manifest PUT"
    TAG_PUT = "tag manifest PUT"

    @property
    def at_source(self) -> bool:
        """Whether it is a request to the source."""
        return self in (Step.TAGS, Step.SOURCE_HEAD, Step.SOURCE_GET, Step.BLOB_GET)

    @property
    def method(self) -> str:
        """The request's method."""
        return "GET" if self is Step.TAGS else self.value.rpartition(" ")[2]

    @property
    def target(self) -> str:
        """The target of these requests after the repository, as a pattern; of blobs only the layer's."""
        return {
            Step.TAGS: "/tags/list",
            Step.SOURCE_HEAD: "/manifests/",
            Step.SOURCE_GET: "/manifests/",
            Step.BLOB_GET: f"/blobs/{LAYER.digest}",
            Step.HEAD: "/manifests/",
            Step.BLOB_HEAD: f"/blobs/{LAYER.digest}",
            Step.MOUNT: rf"/blobs/uploads/\?mount={LAYER.digest}",
            Step.POST: "/blobs/uploads/$",
            Step.PUT: f"/blobs/uploads/.*digest={LAYER.digest}",
            Step.CHILD_PUT: "/manifests/sha256:",
            Step.TAG_PUT: "/manifests/v1$",
        }[self]


Actions = Mapping[Step, Action]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what is claimed of it.

    ``says`` is found in the message of the image that fails because the fault lasts. ``lasting`` is what the front does
    then to each request of a step, ``once`` what it does to the first one where that differs; ``times`` is how many
    "once" are, ``first_wait`` how long the client waits then, ``when`` which requests it is done to where not to all.

    ``left_out`` has the reasons for the steps without a case, ``never_once`` the one for which there are only lasting
    ones. ``harmless`` are the steps where the image arrives although the fault lasts, with the reason.
    ``spares_others`` says whether images that have nothing to do with the fault must still arrive. ``tries`` is how
    many requests may be one try: a login is renewed, a broken connection replaced and lost content sent again without
    counting.

    ``login`` is how the registries let people in, ``timeouts`` and ``retries`` are the client's.
    """

    name: str
    says: str
    lasting: Actions
    once: Actions = field(default_factory=dict)
    times: int = 1
    when: Callable[[Request], bool] | None = None
    left_out: Mapping[Step, str] = field(default_factory=dict)
    never_once: str | None = None
    harmless: Mapping[Step, str] = field(default_factory=dict)
    login: Literal["nobody", "token", "password"] = "nobody"
    timeouts: Timeouts = SHORT
    first_wait: float = 0.01
    spares_others: bool = True
    tries: int = 1
    retries: int = 2


@dataclass(frozen=True)
class Case:
    """A fault at a step, once or lasting."""

    fault: Fault
    step: Step
    lasting: bool

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.step}, {'lasting' if self.lasting else 'once'}"

    @property
    def action(self) -> Action:
        """What the front does."""
        lasting = self.fault.lasting[self.step]
        return lasting if self.lasting else self.fault.once.get(self.step, lasting)

    @property
    def arrives(self) -> bool:
        """Whether the image must arrive."""
        return not self.lasting or self.step in self.fault.harmless


def cases() -> Iterator[Case]:
    """Yield every case of the table."""
    for fault in FAULTS:
        for step in fault.lasting:
            if fault.never_once is None:
                yield Case(fault, step, lasting=False)
            yield Case(fault, step, lasting=True)


def _at(*steps: Step, do: Action) -> dict[Step, Action]:
    return dict.fromkeys(steps, do)


def _everywhere(do: Action) -> dict[Step, Action]:
    return dict.fromkeys(Step, do)


def _elsewhere(reason: str, *steps: Step) -> dict[Step, str]:
    """Return a reason for all steps but these."""
    return {step: reason for step in Step if step not in steps}


def _resumed(exchange: Exchange) -> None:
    """Break a layer off in the middle, and refuse the token of who comes for the rest."""
    ranged = "Range" in exchange.request.headers
    (faults.refuse_token() if ranged else faults.cut_answer(_HALF))(exchange)


def _blob_lost(exchange: Exchange) -> None:
    """Take away what was uploaded before the manifest comes that needs it."""
    exchange.tell("DELETE", f"{_repository(exchange)}/blobs/{LAYER.digest}")
    exchange.pass_on(exchange.forward())


def _child_lost(exchange: Exchange) -> None:
    exchange.tell("DELETE", f"{_repository(exchange)}/manifests/{CHILD.digest}")
    exchange.pass_on(exchange.forward())


def _repository(exchange: Exchange) -> str:
    return exchange.request.path.partition("/manifests/")[0]


_ANSWERS_WITH_BODY = (Step.TAGS, Step.SOURCE_GET, Step.BLOB_GET)
_BODIES = (Step.PUT, Step.CHILD_PUT, Step.TAG_PUT)
_WRITES = (Step.MOUNT, Step.POST, *_BODIES)
_MANIFESTS = (Step.CHILD_PUT, Step.TAG_PUT)

_SOME = (Step.SOURCE_GET, Step.BLOB_GET, Step.PUT, Step.TAG_PUT)

_FINAL = "what is refused for good is not tried again"
_NO_BODY = "nothing that matters has a body there"
_NOT_THERE = "no registry answers that there"
_DONE = "it was done, and the destination is asked before it is done again"
_ONLY_ASKED = "HEAD only asks: GET, or the upload, has the answer"
_NO_MOUNT = "what can't be mounted is sent"

_HARMLESS_REFUSALS = {
    Step.SOURCE_HEAD: _ONLY_ASKED,
    Step.HEAD: _ONLY_ASKED,
    Step.BLOB_HEAD: _ONLY_ASKED,
    Step.MOUNT: _NO_MOUNT,
}

_IMPATIENT = Timeouts(connect=2.0, read=0.25, write=0.25, commit=0.25)
_UNHURRIED = Timeouts(connect=2.0, read=0.5, write=0.5, commit=0.5, slow=0.25, min_rate=4000)


def _status(status: int, **options: bool) -> Fault:
    return Fault(f"{status}", f"answered {status}", _everywhere(faults.answer(status, **options)))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "connection refused",
        "connection was refused",
        _everywhere(faults.refuse()),
        once=_everywhere(faults.refuse(0.03)),
        first_wait=0.1,
        spares_others=False,
    ),
    Fault("connection reset", "connection broke", _everywhere(faults.close_at_once(reset=True)), tries=2),
    Fault(
        "idle connection closed",
        "",
        {step: faults.close_reused() for step in Step if step is not Step.PUT},
        left_out={Step.PUT: "its connection is not idle: it has just answered the POST"},
        harmless={step: "another connection is opened" for step in Step if step is not Step.PUT},
        tries=2,
    ),
    Fault(
        "slow peer",
        "bytes a second|too slow",
        {
            **_everywhere(faults.drip_head(100)),
            **_at(*_ANSWERS_WITH_BODY, do=faults.drip(100)),
            Step.BLOB_GET: faults.drip(100, at=_HALF),
        },
        timeouts=_UNHURRIED,
        retries=1,
    ),
    Fault(
        "stalled peer",
        "did not answer in time|did not take the data in time",
        {
            **_everywhere(faults.wait()),
            Step.BLOB_GET: faults.cut_answer(_HALF, stall=True),
            Step.PUT: faults.stall_upload(_HALF),
        },
        timeouts=_IMPATIENT,
        retries=1,
    ),
    Fault(
        "body cut off",
        "connection broke|ended at byte",
        {**_at(*_ANSWERS_WITH_BODY, do=faults.cut_answer(5)), **_at(*_BODIES, do=faults.cut_upload(5))},
        once={Step.BLOB_GET: faults.cut_answer(_HALF), Step.PUT: faults.cut_upload(_HALF)},
        left_out=_elsewhere(_NO_BODY, *_ANSWERS_WITH_BODY, *_BODIES),
        tries=2,
    ),
    Fault(
        "body too short",
        "ended at byte|hashes to|has 10000 bytes",
        {Step.SOURCE_GET: faults.truncate(50), Step.BLOB_GET: faults.truncate(5, chunked=True)},
        once={Step.BLOB_GET: faults.truncate(_HALF, chunked=True)},
        left_out={
            **_elsewhere(_NO_BODY, Step.SOURCE_GET, Step.BLOB_GET),
            Step.TAGS: "a list that is no JSON is not asked for again: it is a web page more often",
            **dict.fromkeys(_BODIES, "the client states the length: the same as one cut off"),
        },
    ),
    Fault(
        "byte changed",
        "hashes to|DIGEST_INVALID|stored sha256",
        {
            Step.SOURCE_GET: faults.corrupt(30),
            Step.BLOB_GET: faults.corrupt(_HALF),
            Step.PUT: faults.corrupt_upload(_HALF),
            Step.CHILD_PUT: faults.corrupt_upload(CHILD.body.index(b"child")),
        },
        left_out={
            **_elsewhere(_NO_BODY, Step.SOURCE_GET, Step.BLOB_GET, *_BODIES),
            Step.TAGS: "a list has no digest: only TLS guards it",
            Step.TAG_PUT: "see the test of its own: the registry can't know what a tag should name",
        },
    ),
    _status(408),
    Fault("429 with seconds", "answered 429", _everywhere(faults.too_many(0))),
    Fault("429 with a date", "answered 429", _everywhere(faults.too_many(-5, as_date=True))),
    _status(500),
    _status(502),
    _status(503, early=True),
    _status(504),
    Fault(
        "answer lost",
        "connection broke",
        _at(*_WRITES, do=faults.lose_answer()),
        left_out=_elsewhere("nothing is done there: the same as a reset", *_WRITES),
        harmless=dict.fromkeys(_BODIES, _DONE),
        tries=2,
    ),
    Fault(
        "answer lost by a proxy",
        "answered 502",
        _at(*_WRITES, do=faults.lose_answer(502)),
        left_out=_elsewhere("nothing is done there: the same as 502", *_WRITES),
        harmless=dict.fromkeys(_BODIES, _DONE),
        tries=2,
    ),
    Fault(
        "BLOB_UPLOAD_UNKNOWN",
        "answered 404 BLOB_UPLOAD_UNKNOWN",
        _at(Step.PUT, do=faults.errors(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")),
        left_out=_elsewhere(_NOT_THERE, Step.PUT),
    ),
    Fault(
        "BLOB_UPLOAD_INVALID",
        "answered 400 BLOB_UPLOAD_INVALID",
        _at(Step.POST, Step.PUT, do=faults.errors(400, "BLOB_UPLOAD_INVALID", "blob upload invalid", early=True)),
        left_out=_elsewhere(_NOT_THERE, Step.POST, Step.PUT),
    ),
    Fault(
        "MANIFEST_BLOB_UNKNOWN",
        "answered 400 MANIFEST_BLOB_UNKNOWN",
        _at(*_MANIFESTS, do=faults.errors(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown", {"digest": LAYER.digest})),
        left_out=_elsewhere(_NOT_THERE, *_MANIFESTS),
        tries=2,
    ),
    Fault(
        "uploaded content lost",
        "MANIFEST_BLOB_UNKNOWN",
        {Step.CHILD_PUT: _blob_lost, Step.TAG_PUT: _child_lost},
        left_out=_elsewhere("the manifest that needs it tells", *_MANIFESTS),
        tries=2,
    ),
    Fault(
        "token ended",
        "answered 401 UNAUTHORIZED",
        _everywhere(faults.refuse_token()),
        harmless=_HARMLESS_REFUSALS,
        login="token",
        tries=2,
    ),
    Fault(
        "token ended in the middle of a layer",
        "answered 401 UNAUTHORIZED",
        _at(Step.BLOB_GET, do=_resumed),
        times=2,
        left_out=_elsewhere("no layer", Step.BLOB_GET) | {Step.PUT: "authorised at its start, or see token ended"},
        login="token",
        tries=4,
    ),
    Fault(
        "token without the right",
        "answered 401 UNAUTHORIZED",
        _everywhere(faults.refuse_token("insufficient_scope")),
        never_once="a token for the same rights would have no more of them",
        harmless=_HARMLESS_REFUSALS,
        login="token",
        tries=2,
    ),
    Fault(
        "401 without a challenge",
        "answered 401",
        _everywhere(faults.answer(401)),
        harmless=_HARMLESS_REFUSALS,
        login="token",
        tries=2,
    ),
    Fault(
        "ECR login ended",
        "answered 403 DENIED: Your authorization token has expired",
        _everywhere(faults.end_ecr_login()),
        when=lambda request: "Authorization" in request.headers,
        harmless=_HARMLESS_REFUSALS,
        login="password",
        tries=2,
    ),
    Fault(
        "ECR Public token ended",
        "answered 400 DENIED: Your Authorization Token is invalid",
        _at(*_SOME, do=faults.errors(400, "DENIED", "Your Authorization Token is invalid.")),
        when=lambda request: "Authorization" in request.headers,
        left_out=_elsewhere("as ECR's", *_SOME),
        login="token",
        tries=2,
    ),
    Fault(
        "GitHub's 403 for too many requests",
        "answered 403 DENIED: You have exceeded a secondary rate limit.*try later",
        _at(*_SOME, do=faults.errors(403, "DENIED", "You have exceeded a secondary rate limit.")),
        left_out=_elsewhere("as 429", *_SOME),
    ),
    Fault(
        "storage full",
        "no space left on device|storage is full",
        _at(*_WRITES, do=faults.errors(500, "UNKNOWN", "unknown error", {"Enclosed": {"Op": "write", "Err": 28}})),
        left_out=_elsewhere("nothing is stored", *_WRITES),
    ),
    Fault(
        "immutable tag",
        "answered 412 PRECONDITION",
        _at(Step.TAG_PUT, do=faults.errors(412, "PRECONDITION", "configured as immutable")),
        left_out=_elsewhere("no tag is written", Step.TAG_PUT),
        never_once=_FINAL,
    ),
    Fault(
        "manifest too large",
        "answered 413|answered 400 MANIFEST_INVALID: request body too large|sent more than",
        {
            Step.SOURCE_GET: faults.answer(200, {"Content-Type": images.OCI_INDEX}, bytes(5 << 20)),
            Step.CHILD_PUT: faults.errors(400, "MANIFEST_INVALID", "request body too large"),
            Step.TAG_PUT: faults.answer(413),
        },
        left_out=_elsewhere("no manifest is moved", Step.SOURCE_GET, *_MANIFESTS),
        never_once=_FINAL,
    ),
    Fault(
        "413",
        "answered 413.*check the size limits",
        _at(Step.PUT, do=faults.answer(413, early=True)),
        left_out=_elsewhere("no layer is sent", Step.PUT),
        never_once=_FINAL,
    ),
    Fault(
        "web page",
        "web page|not JSON|no JSON|not a registry|not valid JSON|its manifest says",
        _everywhere(faults.web_page()),
        never_once="who answers with web pages is no registry: not asked again",
        harmless=_HARMLESS_REFUSALS,
    ),
)
