"""Who may ask about whom, and how often. Keys and their scopes are kept in `online.py`."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

_REMEMBERED = 20_000


class Refused(Exception):
    """A request that isn't answered: status, name of the error, and what to do about it."""

    def __init__(self, status: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.headers = status, error, message, headers or {}


def customer_token(secret: str, customer_id: str, until: dt.datetime) -> str:
    """A token with which a public key may speak of one customer, for a time.

    `<until>.<HMAC-SHA256 of "<until>:<customer_id>" by the secret, in hex>`, until in whole seconds since 1970.
    """
    seconds = int(until.timestamp())
    return f"{seconds}.{_signature(secret, seconds, customer_id)}"


def check_customer_token(secret: str, customer_id: str, token: str, now: dt.datetime) -> None:
    """Raises `Refused` unless the token was made for the customer and holds now."""
    until, _, signature = token.partition(".")
    seconds = int(until) if until.isascii() and until.isdigit() and len(until) <= 12 else 0
    expected = _signature(secret, seconds, customer_id)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise Refused(403, "wrong_token", "X-Customer-Token was not made for this customer by the shop's secret")
    if seconds <= now.timestamp():
        raise Refused(403, "expired_token", "X-Customer-Token has expired; the shop's server makes another")


def _signature(secret: str, seconds: int, customer_id: str) -> str:
    return hmac.new(secret.encode(), f"{seconds}:{customer_id}".encode(), hashlib.sha256).hexdigest()


def caller_name(key: str, host: str) -> str:
    """Who a limit counts: a key from an address; of IPv6 from 64 bits of it, as one caller may have all the rest."""
    if ":" not in host:
        return f"{key}@{host[:64]}"
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return f"{key}@{host[:64]}"
    return f"{key}@{address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False)}"


@dataclass
class RateLimit:
    """A token bucket for each caller, in this worker.

    What is dearer than what is left puts the caller into debt: it passes once, and is waited for afterward.

    Attributes:
        per_second: Units that a caller may spend in the long run; a plain request is one.
        burst: Units that it may spend at once.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, caller: str, now: float | None = None, *, cost: float = 1.0, least: float = 1.0) -> float:
        """Spend some units if at least so many are left; returns 0, or the seconds until there are."""
        now = time.monotonic() if now is None else now
        with self._lock:
            left, at = self._buckets.pop(caller, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.per_second)
            wait = 0.0 if left >= least else (least - left) / self.per_second
            self._buckets[caller] = (left - cost if wait == 0 else left, now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        return wait
