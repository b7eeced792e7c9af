"""What work a request costs its caller, and the thread in which rankings are made anew, one after the other.

The unit is a request that is looked up: a stored list. The others are in proportion to what they were measured to take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rec_assets.serving.security import Refused

EVENT, RANKING, RANKED_PRODUCT, KILOBYTE = 1.0, 8.0, 0.1, 0.03
"""On top of the request: for each event, for each ranking made anew, for each product it is to have, and for each kB
of body and query."""

SERVER_SHARE = 0.1
"""Of that, what a key counts that is not public: it is the shop's own."""

MOST_WAITING = 200
"""Rankings that may wait: some seconds' work. Further ones are refused, as they would come too late."""

T = TypeVar("T")


class RankingThread:
    """Makes rankings one at a time, beside the event loop, which goes on to answer what is looked up.

    One thread, as several would take Python's lock from each other, and each be slower for it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rankings")
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
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Finish what is at work, and drop what waits."""
        self._thread.shutdown(cancel_futures=True)
