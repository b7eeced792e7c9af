"""Connections: how many one worker takes, of all and of one address, and how long they may keep it waiting.

uvicorn itself limits none of this: a request that never ends would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rec_assets.serving.security import caller_name
from rec_assets.settings import Api, get_settings

_HEAD_BYTES = 64 * 1024
_OTHER_FILES = 128
"""Files of a worker that are no connections: the index, the database, the log."""

_FULL_BODY = b'{"error": "busy", "message": "too many connections: try again soon", "fields": []}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


def raise_file_limit() -> None:
    """Let this process and its workers open as many files as the system lets them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Limits:
    """What a worker's connections are held to.

    Attributes:
        seconds: In which a request's head must arrive, then its body, and in which its answer must be read.
        connections: Most at once.
        of_one_address: Most of these from an address that is no trusted proxy's.
        body_bytes: Most that a request's body may take on the wire.
        addresses: Of whom there are connections now, as `caller_name` says, and how many.
    """

    def __init__(self, api: Api) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(8, files - _OTHER_FILES) if files != resource.RLIM_INFINITY else api.max_connections
        self.seconds = api.request_seconds
        self.connections = min(api.max_connections, room)
        self.of_one_address = max(1, self.connections // 4)
        self.body_bytes = 4 * 1024 * api.max_body_kb + _HEAD_BYTES
        self.addresses: Counter[str] = Counter()
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in api.trusted_proxies]

    def may_come(self, address: str, open_connections: int) -> bool:
        """Whether one more connection is taken, which `addresses` counts already."""
        if open_connections > self.connections:
            return False
        return self.addresses[caller_name("", address)] <= self.of_one_address or is_in(address, self._trusted)


def is_in(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an address lies in one of some networks."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket
        return True
    found = getattr(found, "ipv4_mapped", None) or found  # as a socket for both kinds names who speaks IPv4
    return any(found in network for network in networks)


@lru_cache(1)
def _limits() -> Limits:
    return Limits(get_settings().api)


class LimitedProtocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, within `Limits`.

    A connection owes the head of a request, its body, or that it reads the answer, and is closed when that is late; one
    timer, which is not set anew by each request, looks whether it is. While the application works, nothing is owed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = _limits()
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._caller = ""
        self._in_head, self._phase, self._received = True, 0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if it may come."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._caller = caller_name("", address)
        self.limits.addresses[self._caller] += 1
        self._owes()
        self._watch()
        if not self.limits.may_come(address, len(self.connections)):
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._timer is not None:
            self._timer.cancel()
        self.limits.addresses[self._caller] -= 1
        if not self.limits.addresses[self._caller]:
            del self.limits.addresses[self._caller]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some of a request, as long as it isn't too much."""
        if self.transport.is_closing():
            return
        phase = self._phase
        super().data_received(data)
        if self._phase != phase:
            return  # the piece ended a head or a body
        self._received += len(data)
        if self._received > (_HEAD_BYTES if self._in_head else self.limits.body_bytes):
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """A head is there; its body is owed."""
        self._enters(in_head=False)
        self._owes()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is there: now it's on us, unless it was answered before it ended."""
        self._enters(in_head=True)
        if not self._is_answered():
            self._is_quit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answered: it is to be read, and the next head owed."""
        self._owes()
        super().on_response_complete()
        if not self._is_answered() and not self.cycle.more_body:
            self._is_quit()  # the next request came along and is worked on

    def pause_writing(self) -> None:
        """A long answer waits for its reader."""
        self._owes()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Its reader has gone on."""
        if self._is_answered():
            self._owes()
        else:
            self._is_quit()
        super().resume_writing()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: whoever wants another protocol is answered by this one, and need not fill the log."""

    def _enters(self, *, in_head: bool) -> None:
        self._in_head, self._phase, self._received = in_head, self._phase + 1, 0

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _owes(self) -> None:
        self._due = self.loop.time() + self.limits.seconds

    def _is_quit(self) -> None:
        self._due = None

    def _watch(self) -> None:
        """Close the connection if it is late; else look again when it may be, at the soonest."""
        now = self.loop.time()
        if self._due is not None and self._due <= now:
            self.transport.abort()
            return
        self._timer = self.loop.call_at(self._due or now + self.limits.seconds, self._watch)
