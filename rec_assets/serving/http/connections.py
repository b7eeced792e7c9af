"""Connection limits: how many connections a worker accepts, in total and per address, and how long each may be idle.

uvicorn has none of these limits: a request that never ends would hold its connection forever.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rec_assets.serving.http.rate_limit import caller_name
from rec_assets.settings import ApiSettings, get_settings

_HEAD_BYTES = 64 * 1024
_OTHER_FILES = 128
"""Open files of a worker that are not connections: index, database, log."""

_BUSY_BODY = b'{"error": "busy", "message": "too many connections: try again soon", "fields": []}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BUSY_BODY), _BUSY_BODY)
)


def raise_file_limit() -> None:
    """Raise the limit of open files for this process and its workers to the system's hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports "unlimited" but accepts less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class ConnectionLimits:
    """Limits on the connections of one worker.

    Attributes:
        seconds: Time limit for each step: receiving a request's head, receiving its body, sending the response.
        connections, connections_per_address: Maximum in total, and from one address that is not a trusted proxy.
        body_bytes: Maximum size of a request body as sent.
        open_by_address: Open connections per address, with the address as `caller_name` formats it.
    """

    def __init__(self, api: ApiSettings) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        available = max(8, files - _OTHER_FILES) if files != resource.RLIM_INFINITY else api.max_connections
        self.seconds = api.request_timeout_seconds
        self.connections = min(api.max_connections, available)
        self.connections_per_address = max(1, self.connections // 4)
        self.body_bytes = 4 * 1024 * api.max_body_kb + _HEAD_BYTES
        self.open_by_address: Counter[str] = Counter()
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in api.trusted_proxies]

    def accepts(self, address: str, open_connections: int) -> bool:
        """Whether to accept a new connection. `open_by_address` already counts it."""
        if open_connections > self.connections:
            return False
        count = self.open_by_address[caller_name("", address)]
        return count <= self.connections_per_address or self._is_trusted(address)

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # a Unix socket
            return True
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed  # a dual-stack socket maps IPv4 addresses into IPv6
        return any(parsed in network for network in self._trusted)


@lru_cache(1)
def _limits() -> ConnectionLimits:
    return ConnectionLimits(get_settings().api)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol within `ConnectionLimits`.

    A deadline applies while the client must act: send the request's head, send its body, read the response. No
    deadline applies while the application works. One timer per connection checks the deadline; requests do not restart
    the timer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = _limits()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._caller = ""
        self._in_head, self._phase, self._received = True, 0, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or respond with 503 and close it."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._caller = caller_name("", address)
        self.limits.open_by_address[self._caller] += 1
        self._set_deadline()
        self._check_deadline()
        if not self.limits.accepts(address, len(self.connections)):
            transport.write(_BUSY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and stop counting the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self.limits.open_by_address[self._caller] -= 1
        if not self.limits.open_by_address[self._caller]:
            del self.limits.open_by_address[self._caller]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes, or abort when a head or body is too long."""
        if self.transport.is_closing():
            return
        phase = self._phase
        super().data_received(data)
        if self._phase != phase:
            return  # these bytes completed a head or a body
        self._received += len(data)
        if self._received > (_HEAD_BYTES if self._in_head else self.limits.body_bytes):
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """The head is complete: wait for the body."""
        self._start_phase(in_head=False)
        self._set_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete: the application works, unless it already responded."""
        self._start_phase(in_head=True)
        if not self._is_response_complete():
            self._deadline = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is sent: wait for the client to read it and to send the next head."""
        self._set_deadline()
        super().on_response_complete()
        if not self._is_response_complete() and not self.cycle.more_body:
            self._deadline = None  # a pipelined request is already in progress

    def pause_writing(self) -> None:
        """The write buffer is full: wait for the client to read."""
        self._set_deadline()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client read from the buffer."""
        if self._is_response_complete():
            self._set_deadline()
        else:
            self._deadline = None
        super().resume_writing()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: clients that ask for another protocol must not fill the log."""

    def _start_phase(self, *, in_head: bool) -> None:
        self._in_head, self._phase, self._received = in_head, self._phase + 1, 0

    def _is_response_complete(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        self._deadline = self.loop.time() + self.limits.seconds

    def _check_deadline(self) -> None:
        """Close the connection after its deadline; otherwise schedule the next check."""
        now = self.loop.time()
        if self._deadline is not None and self._deadline <= now:
            self.transport.abort()
            return
        self._timer = self.loop.call_at(self._deadline or now + self.limits.seconds, self._check_deadline)
