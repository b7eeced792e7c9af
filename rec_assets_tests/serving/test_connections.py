"""Connection limits over real sockets: a small app behind uvicorn."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from rec_assets.serving.http import connections
from rec_assets.serving.http.connections import ConnectionLimits, LimitedProtocol
from rec_assets.settings import ApiSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TIMEOUT = 30

pytestmark = pytest.mark.integration


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and responds with its length, or with ten megabytes at /long."""
    if scope["type"] != "http":
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = b"x" * 10_000_000 if scope["path"] == "/long" else str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), 50_000):
        await send({"type": "http.response.body", "body": body[start : start + 50_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, **api: Any
) -> Iterator[tuple[Callable[[], socket.socket], ConnectionLimits]]:
    limits = ConnectionLimits(ApiSettings(**{"request_timeout_seconds": 0.5, **api}))
    monkeypatch.setattr(connections, "_limits", lambda: limits)
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, http=LimitedProtocol, ws="none", log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    opened: list[socket.socket] = []
    try:
        wait_until(lambda: server.started)
        address = server.servers[0].sockets[0].getsockname()

        def connect() -> socket.socket:
            opened.append(socket.create_connection(address, timeout=TIMEOUT))
            return opened[-1]

        yield connect, limits
    finally:
        for each in opened:
            each.close()
        server.should_exit = True
        thread.join(TIMEOUT)


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes the connection; False after `TIMEOUT` seconds."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost:",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        GET + b"GET / HT",
    ],
)
def test_an_incomplete_request_is_closed_after_the_time_limit(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(sent)
        assert is_closed(connection)
        wait_until(lambda: not limits.open_by_address)


def test_a_slow_sender_is_closed_after_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(TIMEOUT * 10):
                connection.sendall(b"X: y\r\n")
                time.sleep(0.1)
        wait_until(lambda: not limits.open_by_address)


def test_a_client_that_does_not_read_the_response_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: limits.open_by_address)
        wait_until(lambda: not limits.open_by_address)


@pytest.mark.parametrize(
    "endless",
    [b"GET /?" + b"x" * 1000, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 99],
)
def test_an_endless_head_is_aborted(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    with serving(monkeypatch, request_timeout_seconds=600) as (connect, limits):
        connection = connect()
        with pytest.raises(OSError):
            connection.sendall(endless)
            for _ in range(10_000):
                connection.sendall(endless[-6:] * 1000)
        wait_until(lambda: not limits.open_by_address)


def test_timely_requests_of_any_size_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, request_timeout_seconds=5) as (connect, limits):
        connection = connect()
        for size in (0, 10, 500_000):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            assert connection.recv(1000).endswith(b"\r\n\r\n%d" % size)
        connection.sendall(GET + GET)
        found = b""
        while found.count(b"HTTP/1.1 200") < 2:
            found += connection.recv(1000)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert b"200 OK" in connection.recv(1000)
        assert sum(limits.open_by_address.values()) == 1


def test_one_address_gets_a_quarter_of_the_connections_unless_it_is_a_trusted_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for proxies, taken in (((), 2), (("127.0.0.0/8",), 8)):
        with serving(monkeypatch, max_connections=8, request_timeout_seconds=600, trusted_proxies=proxies) as (
            connect,
            limits,
        ):
            held = [connect() for _ in range(taken)]
            wait_until(lambda: sum(limits.open_by_address.values()) == taken)  # noqa: B023
            further = connect()
            response = b""
            while piece := further.recv(1000):
                response += piece
            head, _, body = response.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in head
            assert json.loads(body)["error"] == "busy" and b"Content-Length: %d" % len(body) in head
            held[0].close()
            wait_until(lambda: sum(limits.open_by_address.values()) < taken)  # noqa: B023
            again = connect()
            again.sendall(GET)
            assert again.recv(1000).startswith(b"HTTP/1.1 200")


def test_an_ipv6_network_counts_as_one_caller_and_mapped_proxies_are_trusted() -> None:
    limits = ConnectionLimits(ApiSettings(max_connections=8, trusted_proxies=("10.0.0.0/8",)))
    limits.open_by_address["@2001:db8::/64"] = 3
    assert not limits.accepts("2001:db8::1", 4) and limits.accepts("2001:db8:0:1::1", 4)
    limits.open_by_address["@10.0.0.5"] = 3
    assert limits.accepts("::ffff:10.0.0.5", 4)


def test_the_limit_of_open_files_limits_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    assert ConnectionLimits(ApiSettings(max_connections=1000)).connections == 128
