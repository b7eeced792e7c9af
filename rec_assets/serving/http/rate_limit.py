"""The rate limit of callers, and the costs of requests.

The unit of cost is a request that only reads a stored list. Other costs are proportional to their measured CPU time.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

EVENT, RANKING, RANKED_PRODUCT, KILOBYTE = 1.0, 8.0, 0.1, 0.03
"""Costs in addition to the request: per event, per ranking, per product of the ranking's list, per kB of body and
query string."""

SERVER_SHARE = 0.1
"""Share of these costs that a key of the shop's own servers (not public) pays."""

_MAX_CALLERS = 20_000


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
