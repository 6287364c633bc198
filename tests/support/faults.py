"""What a Front can do to a request, instead of passing it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.support.front import Action, Exchange, HungUp, pass_through


def answer(
    status: int,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    early: bool = False,
    after: float = 0.0,
) -> Action:
    """Answer in the registry's place, so many seconds later; `early` without reading the request's body."""

    def act(exchange: Exchange) -> None:
        if not early:
            for _ in exchange.body():
                pass
        exchange.stall(after)
        exchange.reply(status, (headers or {}).items(), body)

    return act


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


def cut_answer(at: int, *, stall: bool = False) -> Action:
    """Pass on so many bytes of the answer's body, then hang up; or, with `stall`, say no more."""

    def act(exchange: Exchange) -> None:
        def cut(pieces: Iterable[bytes]) -> Iterable[bytes]:
            left = at
            for piece in pieces:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    exchange.stall() if stall else exchange.hang_up()

        exchange.pass_on(exchange.forward(), pieces=cut)

    return act


def corrupt(at: int) -> Action:
    """Pass on, with the byte at this place in the answer's body changed."""

    def flipped(pieces: Iterable[bytes]) -> Iterable[bytes]:
        position = 0
        for piece in pieces:
            if position <= at < position + len(piece):
                place = at - position
                yield piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
            else:
                yield piece
            position += len(piece)

    return lambda exchange: exchange.pass_on(exchange.forward(), pieces=flipped)


def wait(seconds: float | None = None) -> Action:
    """Pass on after so many seconds; without a number, never answer."""

    def act(exchange: Exchange) -> None:
        exchange.stall(seconds)
        pass_through(exchange)

    return act


def redirect(to: str, status: int = 307) -> Action:
    """Send the client elsewhere: `to` is an address, to which the target is added where it ends in ``*``."""

    def act(exchange: Exchange) -> None:
        location = to[:-1] + exchange.request.target if to.endswith("*") else to
        exchange.reply(status, [("Location", location)])

    return act
