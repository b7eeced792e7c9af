"""Connections that keep a worker waiting, over real sockets: a small application behind uvicorn."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from rec_assets.serving import connections
from rec_assets.serving.connections import LimitedProtocol, Limits
from rec_assets.settings import Api

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENCE = 30


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body; answers how long it was, or with ten megabytes at /long."""
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
def serving(monkeypatch: pytest.MonkeyPatch, **api: Any) -> Iterator[tuple[Callable[[], socket.socket], Limits]]:
    limits = Limits(Api(**{"request_seconds": 0.5, **api}))
    monkeypatch.setattr(connections, "_limits", lambda: limits)
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, http=LimitedProtocol, ws="none", log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    opened: list[socket.socket] = []
    try:
        until(lambda: server.started)
        address = server.servers[0].sockets[0].getsockname()

        def connect() -> socket.socket:
            opened.append(socket.create_connection(address, timeout=PATIENCE))
            return opened[-1]

        yield connect, limits
    finally:
        for each in opened:
            each.close()
        server.should_exit = True
        thread.join(PATIENCE)


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed; waits until it does or `PATIENCE` is over."""
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
def test_a_request_that_does_not_end_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(sent)
        assert is_closed(connection)
        until(lambda: not limits.addresses)


def test_drop_by_drop_is_no_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for _ in range(PATIENCE * 10):
                connection.sendall(b"X: y\r\n")
                time.sleep(0.1)
        until(lambda: not limits.addresses)


def test_who_does_not_read_an_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as (connect, limits):
        connection = connect()
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: limits.addresses)
        until(lambda: not limits.addresses)


@pytest.mark.parametrize(
    "endless",
    [b"GET /?" + b"x" * 1000, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 99],
)
def test_an_endless_head_is_not_kept(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    with serving(monkeypatch, request_seconds=600) as (connect, limits):
        connection = connect()
        with pytest.raises(OSError):
            connection.sendall(endless)
            for _ in range(10_000):
                connection.sendall(endless[-6:] * 1000)
        until(lambda: not limits.addresses)


def test_who_is_in_time_is_served_on_one_connection_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, request_seconds=5) as (connect, limits):
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
        assert sum(limits.addresses.values()) == 1


def test_one_address_has_a_quarter_of_the_connections_unless_it_is_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxies, taken in (((), 2), (("127.0.0.0/8",), 8)):
        with serving(monkeypatch, max_connections=8, request_seconds=600, trusted_proxies=proxies) as (connect, limits):
            held = [connect() for _ in range(taken)]
            until(lambda: sum(limits.addresses.values()) == taken)  # noqa: B023
            further = connect()
            answer = b""
            while piece := further.recv(1000):
                answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in head
            assert json.loads(body)["error"] == "busy" and b"Content-Length: %d" % len(body) in head
            held[0].close()
            until(lambda: sum(limits.addresses.values()) < taken)  # noqa: B023
            again = connect()
            again.sendall(GET)
            assert again.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_caller_with_many_addresses_of_ipv6_is_one_and_a_proxy_is_known_by_either_kind() -> None:
    limits = Limits(Api(max_connections=8, trusted_proxies=("10.0.0.0/8",)))
    limits.addresses["@2001:db8::/64"] = 3
    assert not limits.may_come("2001:db8::1", 4) and limits.may_come("2001:db8:0:1::1", 4)
    limits.addresses["@10.0.0.5"] = 3
    assert limits.may_come("::ffff:10.0.0.5", 4)


def test_a_worker_takes_no_more_connections_than_it_may_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    assert Limits(Api(max_connections=1000)).connections == 128
