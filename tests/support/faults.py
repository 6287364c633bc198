"""What a Front can do to a request, instead of passing it on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate

from tests.support.front import Action, Exchange, HungUp, pass_through

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Sign in to use this network</body></html>"


def answer(
    status: int,
    headers: Headers = (),
    body: bytes = b"",
    *,
    early: bool = False,
    after: float = 0.0,
) -> Action:
    """Answer in the registry's place, so many seconds later; `early` without reading the request's body.

    `headers` are pairs where one comes several times.
    """
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())

    def act(exchange: Exchange) -> None:
        if not early:
            for _ in exchange.body():
                pass
        exchange.stall(after)
        exchange.reply(status, pairs, body)

    return act


def errors(
    status: int, code: str, message: str = "", detail: object = None, *, headers: Headers = (), early: bool = False
) -> Action:
    """Answer with an error as the distribution specification writes it."""
    entry = {"code": code, "message": message} | ({"detail": detail} if detail is not None else {})
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    return answer(
        status,
        [("Content-Type", "application/json"), *pairs],
        json.dumps({"errors": [entry]}).encode(),
        early=early,
    )


def web_page(status: int = 200) -> Action:
    """Answer what a network that wants people to sign in answers."""
    return answer(status, {"Content-Type": "text/html"}, _HTML)


def change_headers(**changes: str | None) -> Action:
    """Pass on, with headers of the answer set, or left out where None; ``Content_Type`` is ``Content-Type``."""
    wanted = {name.replace("_", "-"): value for name, value in changes.items()}

    def changed(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        lower = {name.lower() for name in wanted}
        kept = [(name, value) for name, value in headers if name.lower() not in lower]
        return kept + [(name, value) for name, value in wanted.items() if value is not None]

    return lambda exchange: exchange.pass_on(exchange.forward(), headers=changed)


def close_at_once(*, reset: bool = False) -> Action:
    """Hang up before the registry sees the request."""
    return lambda exchange: exchange.hang_up(reset=reset)


def close_reused() -> Action:
    """Hang up on a request that comes on a connection kept from earlier ones, as if that had ended just then."""

    def act(exchange: Exchange) -> None:
        if exchange.request.reused:
            exchange.hang_up()
        pass_through(exchange)

    return act


def close_afterwards() -> Action:
    """Pass on, then close the connection without having said so."""

    def act(exchange: Exchange) -> None:
        pass_through(exchange)
        exchange.hang_up()

    return act


def refuse(seconds: float | None = None) -> Action:
    """Close the front's port and all its connections, for so many seconds or until it is started again."""

    def act(exchange: Exchange) -> None:
        front = exchange.front
        front.refuse()
        if seconds is not None:
            front.closing.wait(seconds)
            front.start()
        raise HungUp

    return act


def lose_answer(status: int | None = None) -> Action:
    """Let the registry do its work, then hang up, or give another answer."""

    def act(exchange: Exchange) -> None:
        exchange.forward().read()
        if status is None:
            exchange.hang_up()
        else:
            exchange.reply(status)

    return act


def cut_upload(at: int, *, reset: bool = False) -> Action:
    """Take so many bytes of the request's body and pass them on, then hang up on both sides."""

    def act(exchange: Exchange) -> None:
        try:
            exchange.forward(upload_limit=at)
        except HungUp:
            exchange.hang_up(reset=reset)

    return act


def stall_upload(at: int) -> Action:
    """Take so many bytes of the request's body, then no more."""

    def act(exchange: Exchange) -> None:
        for _ in exchange.body(at):
            pass
        exchange.stall()

    return act


def cut_answer(at: int, *, stall: bool = False, reset: bool = False) -> Action:
    """Pass on so many bytes of the answer's body, then hang up; or, with `stall`, say no more."""

    def act(exchange: Exchange) -> None:
        def cut(pieces: Iterable[bytes]) -> Iterable[bytes]:
            left = at
            for piece in pieces:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    exchange.stall() if stall else exchange.hang_up(reset=reset)

        exchange.pass_on(exchange.forward(), pieces=cut)

    return act


def truncate(at: int, *, chunked: bool = False, end: bool = True) -> Action:
    """Pass on so many bytes of the answer's body as if that were all.

    Its Content-Length says so; with `chunked` it is sent in chunks, with the last one that ends it or without.
    """

    def short(pieces: Iterable[bytes]) -> Iterable[bytes]:
        left = at
        for piece in pieces:
            if left > 0:
                yield piece[:left]
            left -= len(piece)

    def in_chunks(exchange: Exchange, pieces: Iterable[bytes]) -> Iterable[bytes]:
        for piece in short(pieces):
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
        if not end:
            exchange.hang_up()
        yield b"0\r\n\r\n"

    def headers(before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        kept = [(name, value) for name, value in before if name.lower() != "content-length"]
        length = next((int(value) for name, value in before if name.lower() == "content-length"), at)
        return [*kept, ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(min(at, length)))]

    def act(exchange: Exchange) -> None:
        response = exchange.forward()
        if exchange.request.method == "HEAD":
            exchange.pass_on(response)
        else:
            exchange.pass_on(
                response, headers=headers, pieces=lambda body: in_chunks(exchange, body) if chunked else short(body)
            )

    return act


def corrupt(at: int) -> Action:
    """Pass on, with the byte at this place in the answer's body changed."""
    return lambda exchange: exchange.pass_on(exchange.forward(), pieces=lambda pieces: _flipped(pieces, at))


def corrupt_upload(at: int) -> Action:
    """Pass on, with the byte at this place in the request's body changed."""
    return lambda exchange: exchange.pass_on(exchange.forward(pieces=lambda pieces: _flipped(pieces, at)))


def _flipped(pieces: Iterable[bytes], at: int) -> Iterable[bytes]:
    position = 0
    for piece in pieces:
        if position <= at < position + len(piece):
            place = at - position
            yield piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
        else:
            yield piece
        position += len(piece)


def wait(seconds: float | None = None) -> Action:
    """Pass on after so many seconds; without a number, never answer."""

    def act(exchange: Exchange) -> None:
        exchange.stall(seconds)
        pass_through(exchange)

    return act


def throttle(rate: float) -> Action:
    """Pass on, bodies in both directions at so many bytes a second."""

    def act(exchange: Exchange) -> None:
        response = exchange.forward(pieces=lambda pieces: _paced(exchange, pieces, rate))
        exchange.pass_on(response, pieces=lambda pieces: _paced(exchange, pieces, rate))

    return act


def drip(rate: float, at: int = 0) -> Action:
    """Pass on, the answer's body from this byte on at so many bytes a second, a few at a time."""

    def slowed(exchange: Exchange, pieces: Iterable[bytes]) -> Iterable[bytes]:
        left = at
        for piece in pieces:
            if left > 0:
                yield piece[:left]
            yield from _paced(exchange, (piece[max(left, 0) :],), rate)
            left -= len(piece)

    return lambda exchange: exchange.pass_on(exchange.forward(), pieces=lambda pieces: slowed(exchange, pieces))


def drip_head(rate: float) -> Action:
    """Answer with a head that does not end, at so many bytes a second."""

    def act(exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        exchange.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not exchange.front.closing.is_set():
            for piece in _paced(exchange, (bytes(b"." * 64),), rate):
                exchange.send(piece)
        raise HungUp

    return act


def _paced(exchange: Exchange, pieces: Iterable[bytes], rate: float) -> Iterable[bytes]:
    """Yield pieces in smaller ones, 20 a second or fewer, so that they make up this rate."""
    step = max(1, int(rate / 20))
    for piece in pieces:
        for start in range(0, len(piece), step):
            part = piece[start : start + step]
            exchange.stall(len(part) / rate)
            if exchange.front.closing.is_set():
                raise HungUp
            yield part


def refuse_token(error: str | None = None) -> Action:
    """Answer 401 with the registry's own challenge, as if the token had ended; `error` is added to it."""

    def act(exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        more = f',error="{error}"' if error else ""
        exchange.reply(
            401,
            [("WWW-Authenticate", one + more) for one in exchange.challenges()],
            b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}',
        )

    return act


def end_ecr_login() -> Action:
    """Answer what ECR answers to a password older than twelve hours."""
    return errors(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")


def limit_rate(per_second: float, *, retry_after: float = 1.0, as_date: bool = False) -> Action:
    """Pass on so many requests a second; answer 429 to what is more, with Retry-After in seconds or as a date."""
    lock = threading.Lock()
    allowed, counted_at = float(per_second), time.monotonic()

    def act(exchange: Exchange) -> None:
        nonlocal allowed, counted_at
        with lock:
            now = time.monotonic()
            allowed, counted_at = min(per_second, allowed + (now - counted_at) * per_second), now
            fine = allowed >= 1
            allowed -= 1 if fine else 0
        (pass_through if fine else too_many(retry_after, as_date=as_date))(exchange)

    return act


def too_many(retry_after: float | None = None, *, as_date: bool = False) -> Action:
    """Answer 429, with Retry-After in whole seconds or as a date."""

    def act(exchange: Exchange) -> None:
        headers = {}
        if retry_after is not None:
            stated = formatdate(time.time() + retry_after, usegmt=True) if as_date else f"{retry_after:.0f}"
            headers["Retry-After"] = stated
        errors(429, "TOOMANYREQUESTS", "too many requests", headers=headers)(exchange)

    return act


def pull_quota(pulls: int, window: int = 21600) -> Action:
    """Count manifests fetched as Docker Hub does, and answer 429 when there are no more; HEAD only tells."""
    lock = threading.Lock()
    left = pulls

    def act(exchange: Exchange) -> None:
        nonlocal left
        with lock:
            refused = exchange.request.method == "GET" and left == 0
            left -= 1 if exchange.request.method == "GET" and left > 0 else 0
            told = [
                ("ratelimit-limit", f"{pulls};w={window}"),
                ("ratelimit-remaining", f"{left};w={window}"),
                ("docker-ratelimit-source", "192.0.2.1"),
            ]
        if refused:
            errors(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", headers=told)(exchange)
        else:
            exchange.pass_on(exchange.forward(), headers=lambda names: names + told)

    return act


def redirect(to: str, status: int = 307) -> Action:
    """Send the client elsewhere: `to` is an address, to which the target is added where it ends in ``*``."""

    def act(exchange: Exchange) -> None:
        location = to[:-1] + exchange.request.target if to.endswith("*") else to
        exchange.reply(status, [("Location", location)])

    return act
