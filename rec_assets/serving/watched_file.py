"""Configuration files that the API reads again when they change: experiments and merchandising rules."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

RETRY_SECONDS = 10.0
"""Interval for reading an unchanged file with an error again: a file that it refers to may exist by then."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Stamps = dict[Path, tuple[int, int] | None]


class WatchedFile(Generic[T]):
    """The content of a file. `refresh` reads it again if it changed. After an error, the last good content is used.

    Attributes:
        value: The last good content.
        is_read: Whether the file was ever read without an error.
        problem: Why the file can't be read, in one line; None if it can.
    """

    def __init__(
        self,
        path: Path | None,
        read: Callable[[Path | None], T],
        default: T,
        included: Callable[[T], Iterable[Path]] = lambda _: (),
    ) -> None:
        """Read the file, if it has no errors.

        Args:
            path: None if there is no file; `read` handles that.
            read: Reads the file.
            default: The value until the file is read for the first time.
            included: Finds the other files that the content names.
        """
        self._path, self._read, self._included = path, read, included
        self.value, self.is_read = default, False
        self.problem: str | None = None
        self._stamps: Stamps | None = None
        self._retry_at = 0.0
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it has changed, or if a retry is due after an error; returns whether it was read."""
        stamps = self._current_stamps()
        is_waiting = self.problem is None or time.monotonic() < self._retry_at
        if stamps == self._stamps and is_waiting:
            return False
        try:
            self.value = self._read(self._path)
        except Exception as error:  # any error, because requests must go on with the last good content
            self._report(error, is_retry=stamps == self._stamps)
            self._stamps, self._retry_at = stamps, time.monotonic() + RETRY_SECONDS
            return False
        now = self._current_stamps()  # keep the stamps from before the read, so that later changes are noticed
        self._stamps, self.problem = {path: stamps.get(path, stamp) for path, stamp in now.items()}, None
        if self.is_read:
            _log.info("read %s again", self._path)
        self.is_read = True
        return True

    def _report(self, error: Exception, *, is_retry: bool) -> None:
        is_expected = isinstance(error, ValueError)  # its message names the mistake; of others, log the traceback
        problem = str(error) if is_expected else f"{self._path}: {type(error).__name__}: {error}"
        if not is_retry or problem != self.problem:
            _log.error("%s; %s", problem, self.consequence, exc_info=None if is_expected else error)
        self.problem = problem

    @property
    def consequence(self) -> str:
        """What the API does while the file can't be read."""
        if self.is_read:
            return "the last version without errors stays active"
        return "the API uses nothing of it until the error is fixed"

    def _current_stamps(self) -> Stamps:
        return {path: _stamp(path) for path in (self._path, *self._included(self.value)) if path is not None}


def _stamp(path: Path) -> tuple[int, int] | None:
    """Modification time and size; None for a missing file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
