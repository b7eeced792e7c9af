"""Files that the API reads again when they change: experiments and rules."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

AGAIN_SECONDS = 10.0
"""Between two tries to read what couldn't be read and hasn't changed: what it lacks beside it may have come."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Stamps = dict[Path, tuple[int, int] | None]


class WatchedFile(Generic[T]):
    """What a file says now. One that can't be read any more leaves what it said before.

    Attributes:
        value: What was read last.
        is_read: Whether it was ever read.
        problem: Why the file can't be used as it is now, in a line; None where it can.
    """

    def __init__(
        self,
        path: Path | None,
        read: Callable[[Path | None], T],
        unread: T,
        beside: Callable[[T], Iterable[Path]] = lambda _: (),
    ) -> None:
        """Read it, if it can be read.

        Args:
            path: Of the file; None: there is none, and `read` knows what that means.
            read: Reads it.
            unread: The value until the file can be read for the first time.
            beside: Other files that what was read rests on.
        """
        self._path, self._read, self._beside = path, read, beside
        self.value, self.is_read = unread, False
        self.problem: str | None = None
        self._seen: Stamps = {}
        self._again, self._looked = 0.0, False
        self.look()

    def look(self) -> bool:
        """Read it again, if it has changed or, now and then, if it couldn't be read; returns whether it was."""
        stamps = self._stamps()
        if stamps == self._seen and (self.problem is None or time.monotonic() < self._again) and self._looked:
            return False
        self._looked = True
        try:
            self.value = self._read(self._path)
        except Exception as error:
            # Any: whatever a reader stumbles on, answers go on by what it read last. A reader's own error says what is
            # wrong with the file; of another, the log shows where in the code it comes from.
            self._complain(error, again=stamps == self._seen)
            self._seen, self._again = stamps, time.monotonic() + AGAIN_SECONDS
            return False
        now = self._stamps()  # as they were before they were read: what changed meanwhile is seen
        self._seen, self.problem = {path: stamps.get(path, stamp) for path, stamp in now.items()}, None
        if self.is_read:
            _log.info("%s was read again", self._path)
        self.is_read = True
        return True

    def _complain(self, error: Exception, *, again: bool) -> None:
        is_expected = isinstance(error, ValueError)
        problem = str(error) if is_expected else f"{self._path}: {type(error).__name__}: {error}"
        if not again or problem != self.problem:
            shown = None if is_expected else error
            _log.error("%s; %s", problem, self.consequence, exc_info=shown)
        self.problem = problem

    @property
    def consequence(self) -> str:
        """What it means that the file can't be used as it is now."""
        return (
            "what the file said before goes on to count" if self.is_read else "nothing of it counts before it is right"
        )

    def _stamps(self) -> Stamps:
        return {path: _stamp(path) for path in (self._path, *self._beside(self.value)) if path is not None}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
