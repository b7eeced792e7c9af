"""Rejected requests, and the tokens with which a public key acts for a customer. `database/keys.py` stores the keys."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac


class RequestRejected(Exception):
    """The API rejects a request: HTTP status, error code, and a message that says how to fix it."""

    def __init__(self, status: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.headers = status, error, message, headers or {}


def customer_token(secret: str, customer_id: str, expires: dt.datetime) -> str:
    """A token that lets a public key act for one customer until it expires.

    Format: `<expires>.<HMAC-SHA256 of "<expires>:<customer_id>" with the secret, in hex>`, with `expires` in whole
    seconds since 1970.
    """
    seconds = int(expires.timestamp())
    return f"{seconds}.{_signature(secret, seconds, customer_id)}"


def check_customer_token(secret: str, customer_id: str, token: str, now: dt.datetime) -> None:
    """Check a customer token.

    Raises:
        RequestRejected: the token is for another customer, has a wrong signature, or has expired.
    """
    expires, _, signature = token.partition(".")
    seconds = int(expires) if expires.isascii() and expires.isdigit() and len(expires) <= 12 else 0
    expected = _signature(secret, seconds, customer_id)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        message = (
            "X-Customer-Token is not signed for this customer: sign it with the secret in REC_API__CUSTOMER_SECRET"
        )
        raise RequestRejected(403, "invalid_token", message)
    if seconds <= now.timestamp():
        message = "X-Customer-Token has expired; create a new one on the shop's server"
        raise RequestRejected(403, "expired_token", message)


def _signature(secret: str, seconds: int, customer_id: str) -> str:
    return hmac.new(secret.encode(), f"{seconds}:{customer_id}".encode(), hashlib.sha256).hexdigest()
