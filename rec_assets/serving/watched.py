"""Files that the API reads again when they change: experiments and rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")
Stamps = dict[Path, tuple[int, int] | None]


class WatchedFile(Generic[T]):
    """What a file says now. One that can't be read any more leaves what it said before.

    Attributes:
        value: What was read last.
    """

    def __init__(
        self, path: Path | None, read: Callable[[Path | None], T], beside: Callable[[T], Iterable[Path]] = lambda _: ()
    ) -> None:
        """Read it.

        Args:
            path: Of the file; None: there is none, and `read` knows what that means.
            read: Reads it.
            beside: Other files that what was read rests on.

        Raises:
            ValueError: the file can't be used as it is.
        """
        self._path, self._read, self._beside = path, read, beside
        seen = {} if path is None else {path: _stamp(path)}
        self.value = read(path)
        self._seen = self._stamps() | seen  # as they were before they were read: what changed meanwhile is seen
        self._complained: Stamps = {}

    def look(self) -> bool:
        """Read it again, if it has changed or couldn't be read; returns whether it was."""
        stamps = self._stamps()
        if stamps == self._seen and not self._complained:
            return False
        try:
            self.value = self._read(self._path)
        except ValueError:
            if stamps != self._complained:
                _log.exception("%s can't be used; what it said before goes on to count", self._path)
            self._seen, self._complained = stamps, stamps
            return False
        now = self._stamps()
        self._seen, self._complained = {path: stamps.get(path, stamp) for path, stamp in now.items()}, {}
        _log.info("%s was read again", self._path)
        return True

    def _stamps(self) -> Stamps:
        return {path: _stamp(path) for path in (self._path, *self._beside(self.value)) if path is not None}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
