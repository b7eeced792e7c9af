"""A cache bounded by bytes: what callers ask for decides how large an entry is, so counting entries bounds nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_BYTES = 200
"""Of an entry's own: its places in the dictionary, and the pair of value and size."""


class BoundedCache(Generic[K, V]):
    """What was used last, up to a number of bytes; safe to use from several threads."""

    def __init__(self, most_bytes: int, bytes_of: Callable[[K, V], int]) -> None:
        """`bytes_of` tells, roughly, what a key and its value take."""
        self._most, self._bytes_of = most_bytes, bytes_of
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, or None where it isn't kept."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V) -> V:
        """Keep a value, and give it back. What is larger than a tenth of the cache is not kept."""
        size = self._bytes_of(key, value) + _ENTRY_BYTES
        if size <= self._most // 10:
            with self._lock:
                _, before = self._entries.pop(key, (None, 0))
                self._entries[key] = value, size
                self.bytes += size - before
                while self.bytes > self._most:
                    _, (_, gone) = self._entries.popitem(last=False)
                    self.bytes -= gone
        return value
