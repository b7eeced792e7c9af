"""Addresses and headers of requests, before and after the routes see them."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CALLS = "/v1/"


class _Id(Convertor[str]):
    """An id in an address: one segment, percent-encoded, that is none of the relative `.` and `..`."""

    regex = r"(?!\.{1,2}(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _Id())


class RawAddresses:
    """Middleware: calls are routed by their address as it was sent, so that an encoded slash is part of an id.

    Once decoded, nobody can tell the id `1228/` from `1228` before a slash.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(_CALLS):
            scope["path"] = scope["raw_path"].decode("latin-1")
        await self.app(scope, receive, send)


class SafeHeaders:
    """Middleware: what browsers and caches on the way may do with an answer.

    An answer to a call is for who asked: it depends on the key and the customer's token, and is kept nowhere. A page
    loads nothing from elsewhere and stands in no other page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own = _OF_CALLS if scope["path"].startswith(_CALLS) else _OF_PAGES

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        await self.app(scope, receive, add)


_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_OF_CALLS = [*_EVERYWHERE, (b"cache-control", b"private, no-store"), (b"vary", b"X-API-Key, X-Customer-Token")]
_OF_PAGES = [*_EVERYWHERE, (b"content-security-policy", _POLICY.encode())]
