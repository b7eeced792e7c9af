"""ASGI middleware and path parameters: ids in paths, and security headers."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API_PREFIX = "/v1/"


class _IdConvertor(StringConvertor):
    """An id in a path: one percent-encoded segment other than `.` and `..`."""

    regex = r"(?!\.{1,2}(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)


register_url_convertor("id", _IdConvertor())


class RawPathMiddleware:
    """Routes API requests by the path before decoding, so that an encoded slash is part of an id.

    In a decoded path, the id `1228/` looks like the id `1228` and a slash.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["path"].startswith(_API_PREFIX):
            scope["path"] = scope["raw_path"].decode("latin-1")
        await self.app(scope, receive, send)


class SecurityHeadersMiddleware:
    """Adds headers that tell browsers and caches what they may do with a response.

    API responses depend on the key and the customer token, so nobody may cache them. Pages load nothing from other
    sites, and other sites can't embed them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _API_HEADERS if scope["path"].startswith(_API_PREFIX) else _PAGE_HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self.app(scope, receive, send_with_headers)


_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_COMMON_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_API_HEADERS = [
    *_COMMON_HEADERS, (b"cache-control", b"private, no-store"), (b"vary", b"X-API-Key, X-Customer-Token")
]  # fmt: skip
_PAGE_HEADERS = [*_COMMON_HEADERS, (b"content-security-policy", _POLICY.encode())]
