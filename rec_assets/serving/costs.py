"""What work a request costs its caller, and the turns in which rankings are made anew, one after the other.

The unit is a request that is looked up: a stored list. The others are in proportion to what they were measured to take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from rec_assets.serving.security import Refused

EVENT, RANKING, RANKED_PRODUCT, KILOBYTE = 1.0, 8.0, 0.1, 0.03
"""On top of the request: for each event, for each ranking made anew, for each product it is to have, and for each kB
of body and query."""

SERVER_SHARE = 0.1
"""Of that, what a key counts that is not public: it is the shop's own."""

MOST_WAITING = 200
"""Rankings that may wait: some seconds' work. Further ones are refused, as they would come too late."""

_BETWEEN = 10
"""Rounds of the event loop between two rankings: what is looked up takes some, from the socket to its answer."""

T = TypeVar("T")


class RankingQueue:
    """Lets rankings be made one at a time, with the event loop's other work in between.

    Not in a thread: the two would take Python's lock from each other, and both be slower for it.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do some work when its turn has come.

        Raises:
            Refused: too much is waiting.
        """
        if self._waiting >= MOST_WAITING:
            raise Refused(503, "busy", "too many rankings are waiting: try again soon", {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._turn:
                for _ in range(_BETWEEN):
                    await asyncio.sleep(0)
                return work()
        finally:
            self._waiting -= 1
