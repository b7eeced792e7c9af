"""The queue in which a worker ranks products, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from rec_assets.serving.http.security import RequestRejected

MAX_QUEUED = 200
"""Maximum rankings in the queue, a few seconds of work. Later ones would respond too late and are rejected."""

_LOOP_ROUNDS = 10
"""Rounds of the event loop between two rankings. A stored-list request takes several, from socket to response."""

T = TypeVar("T")


class RankingQueue:
    """Runs rankings one at a time on the event loop, with other requests in between.

    Threads would not help: they compete for Python's lock, which slows both.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._queued = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` when its turn comes.

        Raises:
            RequestRejected: the queue is full.
        """
        if self._queued >= MAX_QUEUED:
            message = "too many rankings are queued: try again soon"
            raise RequestRejected(503, "busy", message, {"Retry-After": "1"})
        self._queued += 1
        try:
            async with self._lock:
                for _ in range(_LOOP_ROUNDS):
                    await asyncio.sleep(0)
                return work()
        finally:
            self._queued -= 1
