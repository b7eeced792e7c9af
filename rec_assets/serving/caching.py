"""A cache bounded by bytes. Requests decide how large an entry is, so a maximum number of entries is no bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_BYTES = 200
"""Overhead of an entry: its slots in the dictionary, and the pair of value and size."""


class BoundedCache(Generic[K, V]):
    """A thread-safe least-recently-used cache with a maximum size in bytes."""

    def __init__(self, max_bytes: int, size_of: Callable[[K, V], int]) -> None:
        """`size_of` estimates the bytes of a key and its value."""
        self._max_bytes, self._size_of = max_bytes, size_of
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def get(self, key: K) -> V | None:
        """The value, or None if it is not cached."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V) -> V:
        """Cache a value, unless it is larger than a tenth of the cache; returns the value."""
        size = self._size_of(key, value) + _ENTRY_BYTES
        if size <= self._max_bytes // 10:
            with self._lock:
                _, old_size = self._entries.pop(key, (None, 0))
                self._entries[key] = value, size
                self.bytes += size - old_size
                while self.bytes > self._max_bytes:
                    _, (_, evicted) = self._entries.popitem(last=False)
                    self.bytes -= evicted
        return value
