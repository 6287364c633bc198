from __future__ import annotations

import datetime
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
import trustme

from airflow_imagesync.domain.timeouts import Timeouts
from airflow_imagesync.errors import ProtocolError, TransportError
from airflow_imagesync.registry.connection import Adapter
from airflow_imagesync.registry.sockets import Sockets
from airflow_imagesync.registry.tls import Tls, ssl_context
from airflow_imagesync.registry.transport import CHUNK, Transport, discard, read_all, read_piece
from devtools.distribution import DistributionRegistry
from tests.support.clients import SHORT
from tests.support.faults import answer, close_at_once, cut_answer, stall_upload, wait
from tests.support.front import Front


class Pieces:
    """A body of so many pieces of 256 KiB."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given = 0

    def __len__(self) -> int:
        return self.count * CHUNK

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.given += 1
            yield bytes(CHUNK)


@pytest.fixture
def front(scripted: Front) -> Front:
    return scripted


@pytest.fixture(scope="module")
def server_tls(certificate_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextmanager
def silent_listener(*, full: bool = False) -> Iterator[str]:
    """A port that takes connections and says nothing; or, `full`, one that does not even take them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0 if full else 16) as server:
        port = server.getsockname()[1]
        filling = []
        for _ in range(4 if full else 0):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            filling.append(one)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            for one in filling:
                one.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# What is sent


def test_a_request_has_our_name_and_asks_for_no_compression(front: Front) -> None:
    front.on("GET", "/", answer(200))
    discard(Transport().send("GET", front.url + "/x", {"Accept": "text/plain"}))
    (seen,) = front.requests
    assert seen.headers["User-Agent"].startswith("airflow-imagesync/")
    assert seen.headers["Accept-Encoding"] == "identity"
    assert seen.headers["Accept"] == "text/plain"


@pytest.mark.parametrize(
    ("body", "length"),
    [(None, "0"), (b"", "0"), (b"abc", "3"), (Pieces(2), str(2 * CHUNK))],
    ids=["none", "empty", "bytes", "pieces"],
)
def test_a_body_is_sent_with_its_length(front: Front, body: bytes | Pieces | None, length: str) -> None:
    front.on("PUT", "/", answer(201))
    discard(Transport().send("PUT", front.url, {}, body))
    (seen,) = front.requests
    assert seen.headers["Content-Length"] == length
    assert "Transfer-Encoding" not in seen.headers
    assert seen.received == int(length)


def test_nothing_comes_from_the_environment(front: Front, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    front.on("GET", "/", answer(200, {"Set-Cookie": "sid=1; Path=/"}))
    transport = Transport()
    for _ in range(2):
        discard(transport.send("GET", front.url, {}))
    assert len(front.requests) == 2
    for seen in front.requests:
        assert not {"authorization", "cookie", "proxy-authorization"} & {name.lower() for name in seen.headers}


def test_a_redirect_is_not_followed(front: Front) -> None:
    front.on("GET", "/", answer(307, {"Location": "/elsewhere"}))
    assert Transport().send("GET", front.url, {}).status_code == 307
    assert len(front.requests) == 1


def test_one_connection_serves_many_requests() -> None:
    connections = []

    def serve(server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            connections.append(connection)
            threading.Thread(target=answer_all, args=(connection,), daemon=True).start()

    def answer_all(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while request := connection.recv(65536):
                body = b"" if request.startswith(b"HEAD") else b"no\n"
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n" + body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        transport = Transport()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        for method in ("GET", "HEAD", "GET", "PUT"):
            response = transport.send(method, url, {}, b"x" if method == "PUT" else None)
            discard(response)
        assert len(connections) == 1
        transport.close()


@pytest.mark.parametrize("body", [None, b"manifest"], ids=["no-body", "bytes"])
def test_an_idle_connection_that_the_other_side_closes_costs_one_silent_repetition(
    front: Front, body: bytes | None
) -> None:
    front.on("PUT", "/", answer(200), times=1)
    front.on("PUT", "/", close_at_once(), times=1)
    front.on("PUT", "/", answer(200))
    transport = Transport()
    for _ in range(2):
        discard(transport.send("PUT", front.url, {}, body))
    assert len(front.requests) == 3


def test_a_body_read_piece_by_piece_is_never_sent_twice(front: Front) -> None:
    front.on("PUT", "/", close_at_once())
    with pytest.raises(TransportError, match="broke before"):
        Transport().send("PUT", front.url, {}, Pieces(1))
    assert len(front.requests) == 1


def test_an_error_that_a_body_raises_passes_through_and_cuts_the_request(front: Front) -> None:
    class Broken(Pieces):
        def __iter__(self) -> Iterator[bytes]:
            yield bytes(CHUNK)
            raise ProtocolError("the source is damaged")

    front.on("PUT", "/", answer(201))
    with pytest.raises(ProtocolError, match="the source is damaged"):
        Transport().send("PUT", front.url, {}, Broken(4))
    assert all(one.status is None for one in front.requests)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h:400/a", "http://h:400/b?c=/d", True),
        ("http://h:4001", "http://h:400/a", False),
        ("http://h:4001?x=1", "http://h:400/a", False),
        ("http://h/a", "https://h/a", False),
        ("http://h/a", "http://i/a", False),
    ],
)
def test_hosts_have_connections_of_their_own(one: str, other: str, same: bool) -> None:
    adapter = Adapter(2, Timeouts(), Sockets())

    def pool(url: str) -> object:
        request = requests.PreparedRequest()
        request.url = url
        return adapter.get_connection_with_tls_context(request, None)

    assert (pool(one) is pool(other)) is same
    for number in range(200):
        pool(f"http://h{number}/")
    assert pool(one) is pool(one)


# What comes back


def test_a_body_larger_than_allowed_is_refused_without_reading_it_all(front: Front) -> None:
    front.on("GET", "/", answer(200, body=bytes(5_000_000)))
    response = Transport().send("GET", front.url + "/x?secret=1", {})
    with pytest.raises(ProtocolError, match=r"/x sent more than 1000 bytes"):
        read_all(response, 1000, front.url + "/x?secret=1")


def test_a_body_as_large_as_allowed_is_read(front: Front) -> None:
    front.on("GET", "/", answer(200, body=bytes(1000)))
    assert len(read_all(Transport().send("GET", front.url, {}), 1000, front.url)) == 1000


@pytest.mark.parametrize("stall", [False, True], ids=["cut", "stalled"])
def test_a_body_that_breaks_off_is_an_error_after_what_came(source_registry: DistributionRegistry, stall: bool) -> None:
    with Front(source_registry.host) as front:
        front.on("GET", "/", cut_answer(1, stall=stall))
        response = Transport(timeouts=Timeouts(read=0.3)).send("GET", front.url + "/v2/", {})
        assert read_piece(response, 1, front.url) == b"{"
        with pytest.raises(TransportError, match="did not answer in time" if stall else "broke before"):
            read_piece(response, 100, front.url)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip"])
def test_an_answer_that_is_packed_is_refused_and_not_unpacked(front: Front, encoding: str) -> None:
    front.on("GET", "/", answer(200, {"Content-Encoding": encoding}, b"{}"))
    with pytest.raises(ProtocolError, match=r"/x sends its answer packed .*, although it was asked for as it is"):
        read_all(Transport().send("GET", front.url + "/x", {}), 1000, front.url + "/x")


@pytest.mark.parametrize(("encoding", "body"), [("identity", b"{}"), ("", b"{}"), ("gzip", b"")])
def test_an_answer_that_is_not_packed_is_read_whatever_it_says(front: Front, encoding: str, body: bytes) -> None:
    front.on("GET", "/", answer(200, {"Content-Encoding": encoding}, body))
    assert read_all(Transport().send("GET", front.url, {}), 1000, front.url) == body


# Why there is no answer

ANSWERS_PLAIN = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize(
    ("url", "words", "temporary"),
    [
        ("http://registry.invalid/v2/", "the host name is unknown; check the registry's name and the DNS", True),
        (f"http://127.0.0.1:{closed_port()}/v2/", "the connection was refused; check that the registry runs", True),
    ],
    ids=["unknown-host", "refused"],
)
def test_a_registry_that_is_not_there_is_named_with_what_to_check(url: str, words: str, temporary: bool) -> None:
    with pytest.raises(TransportError) as caught:
        Transport(timeouts=SHORT).send("GET", f"{url}?token=secret", {"Authorization": "Basic c2VjcmV0"})
    assert str(caught.value).startswith(f"GET {url}: {words}")
    assert caught.value.temporary is temporary


def test_a_connection_that_is_never_taken_times_out() -> None:
    with silent_listener(full=True) as host, pytest.raises(TransportError, match="no connection in time; check"):
        Transport(timeouts=Timeouts(connect=0.3)).send("GET", f"http://{host}/", {})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_registry_that_says_nothing_times_out(scheme: str) -> None:
    timeouts = Timeouts(connect=0.3, read=0.3)
    with silent_listener() as host, pytest.raises(TransportError, match="did not answer in time") as caught:
        Transport(timeouts=timeouts).send("GET", f"{scheme}://{host}/", {})
    assert caught.value.temporary


def test_a_registry_that_takes_no_data_times_out(front: Front) -> None:
    front.on("PUT", "/", stall_upload(at=10))
    with pytest.raises(TransportError, match="did not take the data in time"):
        Transport(timeouts=Timeouts(write=0.3)).send("PUT", front.url, {}, Pieces(200))


def test_a_pause_longer_than_the_connect_timeout_is_no_failure_while_data_is_taken(front: Front) -> None:
    def pausing(exchange: object) -> None:
        for number, _ in enumerate(exchange.body()):  # type: ignore[attr-defined]
            if number == 0:
                time.sleep(0.8)
        exchange.reply(201)  # type: ignore[attr-defined]

    front.on("PUT", "/", pausing)
    timeouts = Timeouts(connect=0.2, write=10, read=10)
    response = Transport(timeouts=timeouts).send("PUT", front.url, {}, Pieces(100))
    assert response.status_code == 201


def test_the_answer_to_a_commit_may_take_longer_than_others(front: Front) -> None:
    front.on("PUT", "/", wait(0.6))
    transport = Transport(timeouts=Timeouts(read=0.2))
    assert transport.send("PUT", front.url, {}, b"x", read_timeout=5).status_code == 404


def test_plain_http_on_a_port_that_should_be_https_is_told(front: Front) -> None:
    with pytest.raises(TransportError, match="answered plain HTTP on this port; set insecure: true") as caught:
        Transport().send("GET", f"https://{front.host}/v2/", {})
    assert not caught.value.temporary


def test_a_tls_alert_where_plain_http_is_expected_is_told() -> None:
    # OpenSSL's servers answer so; Go's and nginx answer in plain HTTP, which test_answers.py has.
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"\x15\x03\x03\x00\x02\x02\x46")
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(TransportError, match="answered TLS on this port: take out insecure") as caught:
            Transport().send("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", {})
    assert not caught.value.temporary


# Peers that drip

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
#: Less than 1000 bytes in 0.3 s is too slow.
IMPATIENT = Timeouts(connect=5, read=5, slow=0.3, min_rate=3000)


@contextmanager
def dripping(
    *pieces: bytes, pause: float = 0.05, first: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that sends pieces of an answer one by one, each after a pause; it answers two requests."""

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            for _ in range(2):
                connection.recv(65536)
                time.sleep(first)
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def one_by_one(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "pieces", [one_by_one(HEAD), [HEAD, *one_by_one(bytes(1000))]], ids=["in-the-headers", "in-the-body"]
)
def test_an_answer_that_drips_is_given_up(pieces: list[bytes], scheme: str, server_tls: ssl.SSLContext) -> None:
    begun = time.monotonic()
    with dripping(*pieces, tls=server_tls if scheme == "https" else None) as host:
        url = f"{scheme}://{host}/"
        with pytest.raises(TransportError, match=r"the registry sends too slowly \([0-9]+ bytes in 0 s\)") as caught:
            read_all(Transport(timeouts=IMPATIENT, tls=Tls(verify=False)).send("GET", url, {}), 1000, url)
    assert caught.value.temporary
    assert time.monotonic() - begun < 5


def test_an_answer_may_be_long_in_coming_and_then_pause_a_little() -> None:
    with dripping(HEAD, bytes(500), bytes(500), pause=0.1, first=0.5) as host:
        transport = Transport(timeouts=IMPATIENT)
        for _ in range(2):  # each request on a connection begins anew
            assert len(read_all(transport.send("GET", f"http://{host}/", {}), 1000, host)) == 1000


def test_a_peer_is_not_slow_while_nobody_reads(front: Front) -> None:
    front.on("GET", "/", answer(200, body=bytes(1_000_000)))
    response = Transport(timeouts=IMPATIENT).send("GET", front.url, {})
    for _ in range(10):
        time.sleep(0.06)
        assert read_piece(response, 1000, front.url)


def test_a_tunnels_answer_that_drips_is_given_up() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n", *one_by_one(b"X: y\r\n" * 100)) as host:
        transport = Transport(timeouts=IMPATIENT, proxy=f"http://{host}")
        with pytest.raises(TransportError, match=f"the proxy http://{host} sends too slowly"):
            transport.send("GET", "https://registry.example/", {})


@pytest.mark.timeout(30)
def test_an_answer_that_does_not_come_to_its_body_is_given_up() -> None:
    endless = b"HTTP/1.1 100 Continue\r\n\r\n" * 400_000
    with (
        dripping(endless, pause=0) as host,
        pytest.raises(TransportError, match="the registry sends headers without end"),
    ):
        Transport().send("GET", f"http://{host}/", {})


def test_a_piece_is_taken_in_time_or_not_at_all_with_tls_as_without(server_tls: ssl.SSLContext) -> None:
    ours, theirs = socket.socketpair()
    threading.Thread(target=lambda: server_tls.wrap_socket(theirs, server_side=True), daemon=True).start()
    with ssl_context(Tls(verify=False)).wrap_socket(ours) as sock:

        def send_a_little(_: bytes, __: int = 0) -> int:
            time.sleep(0.02)
            return 16384

        # How much a network takes at a time can't be had at will.
        sock.send = send_a_little  # type: ignore[method-assign,assignment]
        sock.settimeout(10)
        sock.sendall(bytes(CHUNK))
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(CHUNK))


# TLS


def test_a_certificate_of_an_unknown_authority_is_not_trusted(tls_registry: DistributionRegistry) -> None:
    with pytest.raises(
        TransportError, match=r"not trusted \(.*\); give the file with its authority as ca_file"
    ) as caught:
        Transport().send("GET", tls_registry.url + "/v2/", {})
    assert not caught.value.temporary


def test_a_certificate_of_the_given_authority_is_trusted(tls_registry: DistributionRegistry, ca_file: Path) -> None:
    assert Transport(tls=Tls(ca_file=str(ca_file))).send("GET", tls_registry.url + "/v2/", {}).status_code == 200


def test_any_certificate_will_do_without_verification(tls_registry: DistributionRegistry) -> None:
    assert Transport(tls=Tls(verify=False)).send("GET", tls_registry.url + "/v2/", {}).status_code == 200


@pytest.mark.parametrize(
    ("name", "days", "words"),
    [("other.example", 30, "check the name"), ("127.0.0.1", -1, "renew it")],
    ids=["wrong-name", "expired"],
)
def test_a_certificate_that_is_wrong_otherwise_gets_other_advice(
    certificate_authority: trustme.CA, ca_file: Path, tmp_path: Path, name: str, days: int, words: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    issued = certificate_authority.issue_cert(
        name, not_before=now - datetime.timedelta(days=30), not_after=now + datetime.timedelta(days=days)
    )
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    with Front(tls=(certificate, key)) as front, pytest.raises(TransportError, match=words) as caught:
        Transport(tls=Tls(ca_file=str(ca_file))).send("GET", front.url, {})
    assert not caught.value.temporary


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not-a-certificate"])
def test_an_authority_file_that_can_not_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TransportError, match=f"the CA file {path} can't be used") as caught:
        Transport(tls=Tls(ca_file=str(path))).send("GET", "https://127.0.0.1/", {})
    assert not caught.value.temporary


# Guards


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"])
def test_a_name_that_leads_to_where_clouds_keep_credentials_is_never_asked(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(TransportError, match="link-local address, which is never asked") as caught:
        Transport(timeouts=SHORT).send("GET", "http://metadata.example/latest/", {})
    assert not caught.value.temporary


@pytest.mark.parametrize("header", ["a\r\nX-Injected: 1", "a\nb"])
def test_a_header_can_not_be_injected(front: Front, header: str) -> None:
    with pytest.raises(TransportError):
        Transport().send("GET", front.url, {"Authorization": header})
    assert front.requests == []


def test_what_urllib3_logs_of_broken_headers_has_no_queries(caplog: pytest.LogCaptureFixture) -> None:
    broken = b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n"
    with dripping(broken) as host:
        discard(Transport(timeouts=Timeouts(read=0.2)).send("GET", f"http://{host}/blob?X-Amz-Signature=secret", {}))
    assert "Failed to parse headers" in caplog.text
    assert "secret" not in caplog.text


def test_what_urllib3_logs_has_no_queries(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    discard(Transport().send("GET", f"{front.url}/blob?X-Amz-Signature=secret", {}))
    assert "/blob" in caplog.text
    assert "secret" not in caplog.text


# Being stopped


def in_a_moment(function: Callable[[], None]) -> None:
    threading.Timer(0.2, function).start()


def assert_aborted(transport: Transport, work: Callable[[], object]) -> None:
    in_a_moment(transport.abort)
    begun = time.monotonic()
    with pytest.raises(TransportError):
        work()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_waits_for_an_answer_can_be_aborted(scheme: str) -> None:
    transport = Transport()
    with silent_listener() as host:
        assert_aborted(transport, lambda: transport.send("GET", f"{scheme}://{host}/", {}))


def test_a_request_that_waits_for_a_connection_can_be_aborted() -> None:
    transport = Transport(timeouts=Timeouts(connect=30))
    with silent_listener(full=True) as host:
        assert_aborted(transport, lambda: transport.send("GET", f"http://{host}/", {}))


def test_an_upload_that_is_not_taken_can_be_aborted(front: Front) -> None:
    front.on("PUT", "/", stall_upload(at=10))
    transport = Transport()
    assert_aborted(transport, lambda: transport.send("PUT", front.url, {}, Pieces(200)))


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_body_that_stalls_can_be_aborted(connection: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            peer.recv(65536)
            peer.sendall(f"HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 9\r\n\r\nabc".encode())
            time.sleep(10)
            peer.close()

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        transport = Transport()
        response = transport.send("GET", url, {})
        assert_aborted(transport, lambda: read_all(response, 100, url))


def test_a_tls_connection_can_be_aborted(tls_registry: DistributionRegistry) -> None:
    transport = Transport(tls=Tls(verify=False))
    discard(transport.send("GET", tls_registry.url + "/v2/", {}))
    url = f"{tls_registry.url}/v2/some/blobs/uploads/"
    location = transport.send("POST", url, {}).headers["Location"]

    class Slow(Pieces):
        def __iter__(self) -> Iterator[bytes]:
            for piece in super().__iter__():
                time.sleep(0.05)
                yield piece

    body = Slow(400)
    assert_aborted(transport, lambda: transport.send("PATCH", location, {}, body))
    assert body.given < 100


def test_nothing_is_sent_after_an_abort(front: Front) -> None:
    transport = Transport()
    transport.abort()
    with pytest.raises(TransportError):
        transport.send("GET", front.url, {})
    assert front.requests == []


@pytest.mark.timeout(30)
def test_sockets_can_be_shut_while_others_come_and_go() -> None:
    sockets = Sockets()
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with socket.socket() as one:
                sockets.add(one)

    threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        sockets.shut()
    done.set()
    for thread in threads:
        thread.join()
