"""Who may call the API and how often: customer tokens, callers and rate limits. `database/keys.py` stores the keys."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

_MAX_CALLERS = 20_000


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
        message = "X-Customer-Token is not signed for this customer with the shop's secret"
        raise RequestRejected(403, "invalid_token", message)
    if seconds <= now.timestamp():
        message = "X-Customer-Token has expired; create a new one on the shop's server"
        raise RequestRejected(403, "expired_token", message)


def _signature(secret: str, seconds: int, customer_id: str) -> str:
    return hmac.new(secret.encode(), f"{seconds}:{customer_id}".encode(), hashlib.sha256).hexdigest()


def caller_name(key: str, host: str) -> str:
    """The name that rate limits count by: key and address.

    For IPv6, it contains the first 64 bits of the address, because one caller may own all addresses below them.
    """
    if ":" not in host:
        return f"{key}@{host[:64]}"
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return f"{key}@{host[:64]}"
    return f"{key}@{address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False)}"


@dataclass
class RateLimit:
    """A token bucket per caller, in this worker.

    A cost above the balance is allowed once and leaves the caller in debt; the caller then waits.

    Attributes:
        per_second: Cost that a caller may spend per second in the long run. A plain request costs 1.
        burst: Maximum balance of a caller.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, caller: str, now: float | None = None, *, cost: float = 1.0, min_balance: float = 1.0) -> float:
        """Spend `cost` if the balance is at least `min_balance`; returns 0, or the seconds to wait until it is."""
        now = time.monotonic() if now is None else now
        with self._lock:
            balance, updated = self._buckets.pop(caller, (self.burst, now))
            balance = min(self.burst, balance + (now - updated) * self.per_second)
            wait = 0.0 if balance >= min_balance else (min_balance - balance) / self.per_second
            self._buckets[caller] = (balance - cost if wait == 0 else balance, now)
            while len(self._buckets) > _MAX_CALLERS:
                self._buckets.popitem(last=False)
        return wait
